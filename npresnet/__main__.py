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

            app()
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in ("typer", "rich", "click"):
                raise
            needed = f"npresnet: the command line needs {error.name}, which is not installed"
            print(f'{needed}: pip install "npresnet[cli]"', file=sys.stderr)
            sys.exit(2)
        except (ImportError, MemoryError) as error:  # where memory is limited; a command that has begun sees to it
            print(f"npresnet: cannot start ({str(error) or 'out of memory'}); is there enough memory?", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
