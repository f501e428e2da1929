"""``python -m npresnet.ray INPUT... --weights W --out DIR``: ``npresnet extract`` on a Ray cluster."""

from __future__ import annotations

import argparse
import sys

from ..errors import NpResNetError
from .job import extract


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status: 0 all images have a row, 1 some have failed, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="python -m npresnet.ray", description=__doc__)
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="as for `npresnet extract`; on a disk that all nodes see"
    )
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--layers")
    parser.add_argument("--pool", default="mean")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--size")
    parser.add_argument("--preprocessing")
    parser.add_argument("--architecture")
    parser.add_argument("--orient", action="store_true")
    parser.add_argument("--fast-decode", action="store_true")
    parser.add_argument("--follow-links", action="store_true")
    parser.add_argument("--other-versions", action="store_true")
    parser.add_argument("--cpus", type=int, default=1, help="of each actor")
    parser.add_argument("--actors", type=int, dest="size_of_pool", help="else as many as there is room for")
    parser.add_argument("--block", type=int, default=256, help="images in a file of results")
    parser.add_argument("--address", help="of a cluster; else the one of RAY_ADDRESS, or one on this machine")
    given = vars(parser.parse_args(arguments))
    address = given.pop("address")
    try:
        if address is not None:
            from .planning import imported_ray

            imported_ray().init(address=address, log_to_driver=False)
        found = extract(
            given.pop("inputs"), given.pop("weights"), given.pop("out"), **given,
            started=lambda total, done, pool: print(f"{total:,} images, {done:,} of them done; {pool} actors", flush=True),
        )  # fmt: skip
    except NpResNetError as error:
        print(f"npresnet: {error}", file=sys.stderr)
        return 2
    print(
        f"{found.computed:,} images in {found.seconds:.1f} s; {found.rows:,} rows and {found.failed:,} failures in {found.folder}"
    )
    for kind, count in found.errors.items():
        print(f"  {count:,} x {kind}")
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
