"""Extraction on a local cluster of two nodes, at full size.

    python -m tests.ray.at_scale same [--count 2000]       the features of one machine
    python -m tests.ray.at_scale node [--count 2000]       a node is lost in the midst of it
    python -m tests.ray.at_scale driver [--count 2000]     the driver is killed five times
    python -m tests.ray.at_scale corrupt [--count 1000]    a tenth of the files are bad
    python -m tests.ray.at_scale speed [--count 300]       two actors of one processor, beside `npresnet extract` with two threads

The cluster has a head with one processor and two nodes with two, as far as Ray knows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds

import npresnet
import npresnet.ray
from npresnet.peers.case import seeded_file
from tests import extract_at_scale
from tests.extract_at_scale import tell
from tests.support.pictures import bad_pictures, good_pictures
from tests.support.thin import thin_file

USUAL: dict[str, Any] = {"size": "64x64", "block": 32}


class Timed(npresnet.ray.Extract):
    """Says when each batch was done."""

    def __call__(self, batch):
        import pyarrow as pa

        found = super().__call__(batch)
        return found.append_column("done", pa.array([time.time()] * len(found)))


def same_as_one_machine(out: Path, photos: Path, weights: Path, folder: Path) -> None:
    npresnet.extract(photos, weights, folder / "reference", size="64x64")
    expected = npresnet.open_features(folder / "reference")
    found = [row for row in ds.dataset(out / "features").to_table().to_pylist() if row["status"] == "ok"]
    tell("rows", len(found), len(found) == len(expected) == len({row["path"] for row in found}))
    differ = sum(not np.array_equal(np.array(row["feature"], np.float32), expected[row["path"]]) for row in found)
    tell("rows with other bits than on one machine", differ, differ == 0)


def committed(out: Path) -> set[str]:
    return {path.name for path in out.glob("**/checkpoints/*.parquet") if "pending" not in path.name}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["same", "node", "driver", "corrupt", "speed"])
    parser.add_argument("--count", type=int)
    given = parser.parse_args()
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="npresnet-ray-") as name:
        folder = Path(name)
        photos, out = folder / "photos", folder / "out"
        if given.what == "speed":
            speed(folder, given.count or 300)
        else:
            weights = thin_file(folder, 8)
            count = given.count or (1000 if given.what == "corrupt" else 2000)
            bad = {}
            if given.what == "corrupt":
                good_pictures(photos, count * 9 // 10, 64)
                bad = bad_pictures(photos, bomb_side=30_000, count=count // 10)
            else:
                good_pictures(photos, count, 64, folders=7)
            if given.what == "node":

                def lose() -> None:
                    while len(committed(out)) < 5:
                        time.sleep(0.05)
                    cluster.remove_node(nodes[1], allow_graceful=False)

                threading.Thread(target=lose, daemon=True).start()
            if given.what == "driver":
                kills(photos, weights, out, cluster.address)
            found = npresnet.ray.extract(photos, weights, out, cpus=1 if given.what == "driver" else 2, **USUAL)
            tell("images in the last run", found.computed)
            tell("seconds of it", f"{found.seconds:.1f}")
            tell(f"failures, of {len(bad)} bad files", found.failed, found.failed == len(bad))
            same_as_one_machine(out, photos, weights, folder)
    ray.shutdown()
    cluster.shutdown()
    print(f"{extract_at_scale.failures} wrong")
    return 1 if extract_at_scale.failures else 0


def kills(photos: Path, weights: Path, out: Path, address: str) -> None:
    import os
    import signal
    import subprocess

    command = [sys.executable, "-m", "npresnet.ray", photos, "--weights", weights, "--out", out, "--address", address]
    for number in range(5):
        before = committed(out)
        process = subprocess.Popen(
            [*map(str, command), "--size", "64x64", "--block", "32"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        while len(committed(out) - before) < 3 and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2)  # Ray ends what belonged to it
        tell(f"kill {number + 1}: files of results that are committed", len(committed(out)))


def speed(folder: Path, count: int) -> None:
    """Of batches once actors run; of the command without its start."""
    import ray
    from ray.data import ActorPoolStrategy

    from bench.bench_extract import pictures

    weights, photos = seeded_file("keras.applications/resnet50", folder), folder / "photos"
    pictures(photos, 500, 375, count)
    net = npresnet.load(weights, threads=2)
    npresnet.extract(photos, net, folder / "warm", size="224x224")
    start = time.perf_counter()
    npresnet.extract(photos, net, folder / "out", size="224x224")
    alone = count / (time.perf_counter() - start)
    paths = [{"path": str(path)} for path in sorted(photos.iterdir())]
    found = ray.data.from_items(paths, override_num_blocks=count // 16).map_batches(
        Timed, fn_constructor_kwargs={"weights": str(weights), "size": "224x224"}, batch_size=16, batch_format="numpy", num_cpus=1,
        compute=ActorPoolStrategy(size=2),
    ).take_all()  # fmt: skip
    times = sorted(row["done"] for row in found)
    first = times.count(times[0]) + times.count(next(t for t in times if t > times[0]))
    cluster = (len(times) - first) / (times[-1] - times[0])
    tell("images/s of `extract` with two threads", f"{alone:.1f}")
    tell("images/s of two actors of one processor", f"{cluster:.1f}", cluster >= 0.85 * alone)


if __name__ == "__main__":
    sys.exit(main())
