"""``python -m npresnet.ray INPUT... --weights W --out DIR``: ``npresnet extract`` on a Ray cluster."""

from __future__ import annotations

import argparse
import sys

from ..errors import NpResNetError
from .job import extract


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status: 0 all images have a row, 1 some have failed, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="python -m npresnet.ray", description="npresnet extract, on a Ray cluster.")
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="as for `npresnet extract`; on a disk that all nodes see"
    )
    parser.add_argument("--weights", metavar="WEIGHTS", required=True, help="a Keras weight file, on such a disk, too")
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder of the results, likewise")
    parser.add_argument("--layers", metavar="A,B", help="c5, c4, or layers by name; else the last map")
    parser.add_argument("--pool", default="mean", help="mean, max or gem over pixels, or none; else mean")
    parser.add_argument("--dtype", metavar="TYPE", default="f32", help="f32 or f16; else f32")
    parser.add_argument("--size", help="square, pad64, none or WIDTHxHEIGHT; else what `npresnet info` shows")
    parser.add_argument("--preprocessing", metavar="NAME", help="of pictures; else what `npresnet info` shows")
    parser.add_argument("--architecture", metavar="NAME", help="resnet101, say; else found in the file")
    parser.add_argument("--orient", action="store_true", help="turn pictures as their EXIF orientation says")
    parser.add_argument("--fast-decode", action="store_true", help="decode large JPEGs at a half, quarter or eighth")
    parser.add_argument("--follow-links", action="store_true", help="read links to files, in folders")
    parser.add_argument("--other-versions", action="store_true", help="go on with other versions of NumPy or Pillow")
    parser.add_argument("--cpus", metavar="N", type=int, default=1, help="processors of each actor; else 1")
    parser.add_argument(
        "--actors", metavar="N", type=int, dest="size_of_pool", help="else as many as there is room for"
    )
    parser.add_argument("--block", metavar="N", type=int, default=256, help="images in a file of results; else 256")
    parser.add_argument("--address", help="of a cluster; else the one of RAY_ADDRESS, or one on this machine")
    given = vars(parser.parse_args(arguments))
    address = given.pop("address")
    try:
        if address is not None:
            from .planning import imported_ray

            imported_ray().init(address=address, log_to_driver=False)
        found = extract(
            given.pop("inputs"), given.pop("weights"), given.pop("out"), **given,
            started=lambda total, done, pool: print(f"images: {total:,}; done: {done:,}; actors: {pool}", flush=True),
        )  # fmt: skip
    except NpResNetError as error:
        print(f"npresnet: {error}", file=sys.stderr)
        return 2
    print(f"computed: {found.computed:,} in {found.seconds:.1f} s; rows: {found.rows:,}; failures: {found.failed:,}")
    print(f"saved: {found.folder}")
    for kind, count in found.errors.items():
        print(f"  {count:,} x {kind}")
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
