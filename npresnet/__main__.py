"""``npresnet`` on the command line, also as ``python -m npresnet``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from .cli.interrupt import watch
from .cli.streams import standard_streams

_MARGIN = 128 * 2**20
"""Bytes that the command line takes beside NumPy before a command begins: its modules, and a thread with a heap of its own."""


def main() -> None:
    """Run the command line; its parts need the extra ``cli``, and say so in one line where it is missing."""
    with standard_streams():
        try:
            if not _has_room():
                raise MemoryError
            watch()
            _app()()
        except MemoryError:  # while it starts; a command that has begun says so itself
            _fail("out of memory at the start: a limit is set too low (ulimit -v), or the machine has none left")


def _has_room() -> bool:
    """Whether NumPy starts under the limits on this process's memory.

    Where it does not, its BLAS prints that and ends the process, or interrupts it, instead of raising. So a child tries first.
    """
    if os.name == "nt" or "numpy" in sys.modules:
        return True
    import resource

    limits = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)}
    limits = {kind: limit for kind, limit in limits.items() if limit[0] != resource.RLIM_INFINITY}
    if not limits:
        return True
    try:
        child = os.fork()
    except OSError:  # no more processes: that is no answer
        return True
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for kind, (soft, hard) in limits.items():
            resource.setrlimit(kind, (max(0, soft - _MARGIN), hard))
        import numpy  # noqa: F401
    except BaseException:
        os._exit(1)
    os._exit(0)


def _app() -> Callable[[], Any]:
    try:
        from .cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("typer", "rich", "click"):
            raise
        _fail(f'the command line needs {error.name}, which is not installed: pip install "npresnet[cli]"')
    return app


def _fail(what: str) -> NoReturn:
    print(f"npresnet: {what}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
