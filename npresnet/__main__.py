"""``npresnet`` on the command line, also as ``python -m npresnet``."""

from __future__ import annotations

import sys

from .cli.interrupt import watch
from .cli.streams import standard_streams


def main() -> None:
    """Run the command line; its parts need the extra ``cli``, and say so in one line where it is missing."""
    with standard_streams():
        watch()
        try:
            from .cli.app import app
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in ("typer", "rich", "click"):
                raise
            needed = f"npresnet: the command line needs {error.name}, which is not installed"
            print(f'{needed}: pip install "npresnet[cli]"', file=sys.stderr)
            sys.exit(2)
        app()


if __name__ == "__main__":
    main()
