"""``npresnet warmup``."""

from __future__ import annotations

from .printing import fail, guarded, say

__all__ = ["warmup"]


@guarded
def warmup() -> None:
    """Compile all kernels ahead, so that no later run waits for them. Exit status 1 if they cannot be kept."""
    from ..cpu.warmup import warmup as compile_all
    from ..kernels.cache import NOWHERE

    done = compile_all()
    if done.directory is None:
        fail(f"warmup: {done.compiled} kernels compiled, none of them kept: {NOWHERE}", 1)
    if done.unkept:
        fail(
            f"warmup: {done.unkept} of {done.compiled} kernels compiled could not be kept in {done.directory}; free some space "
            "there, or name another directory by NPRESNET_CACHE_DIR",
            1,
        )
    if done.compiled:
        say(f"{done.compiled} kernels compiled in {done.seconds:.1f} s, kept in {done.directory}")
    else:
        say(f"all kernels were compiled already, loaded in {done.seconds:.1f} s, kept in {done.directory}")
