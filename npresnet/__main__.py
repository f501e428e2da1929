"""``npresnet`` on the command line, also as ``python -m npresnet``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from .cli.interrupt import watch
from .cli.streams import standard_streams


def main() -> None:
    """Run the command line; its parts need the extra ``cli``, and say so in one line where it is missing."""
    with standard_streams():
        watch()
        try:
            _app()()
        except MemoryError:  # while it starts; a command that has begun says so itself
            _fail("out of memory at the start: a limit is set too low (ulimit -v), or the machine has none left")


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
