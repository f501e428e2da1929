"""``npresnet warmup``."""

from __future__ import annotations

from .printing import guarded, say

__all__ = ["warmup"]


@guarded
def warmup() -> None:
    """Compile all kernels ahead, so that no later run waits for them."""
    from ..cpu.warmup import warmup as compile_all

    done = compile_all()
    kept = f"kept in {done.directory}" if done.directory else "not kept: no cache directory is writable"
    if done.compiled:
        say(f"{done.compiled} kernels compiled in {done.seconds:.1f} s, {kept}")
    else:
        say(f"all kernels were compiled already, loaded in {done.seconds:.1f} s, {kept}")
