"""Features on a cluster: the same bits as on one machine, whatever is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import ray
from ray.data import ActorPoolStrategy

import npresnet
import npresnet.ray
from npresnet.errors import UsageError
from npresnet.extraction.decoders import Decoders
from npresnet.ray import job
from npresnet.ray.job import _ExtractInRun
from tests.support.pictures import bad_pictures

USUAL = {"size": "32x32", "block": 8, "batch_size": 8}


@pytest.fixture(scope="module")
def reference(photos, weights, tmp_path_factory) -> dict[str, np.ndarray]:
    """{path: row} of one machine."""
    folder = tmp_path_factory.mktemp("reference")
    npresnet.extract(photos, weights, folder, size="32x32", decoders=1)
    features = npresnet.open_features(folder)
    return {path: features[path] for path in features.paths}


def table(folder: Path) -> pa.Table:
    return ds.dataset(folder / "features", format="parquet").to_table()


def rows(folder: Path) -> dict[str, np.ndarray]:
    """{path: row} of a cluster's results; each path is there once."""
    found = table(folder).to_pylist()
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: np.array(row["feature"], np.float32) for row in found if row["status"] == "ok"}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all((found[path] == row).all() for path, row in expected.items())


def test_the_same_bits_as_on_one_machine(cluster, photos, weights, reference, tmp_path):
    found = npresnet.ray.extract(photos, weights, tmp_path, cpus=2, **USUAL)
    assert (found.total, found.rows, found.failed, found.computed) == (96, 96, 0, 96)
    assert same(rows(tmp_path), reference)
    assert len(list((tmp_path / "features").iterdir())) >= 6
    assert npresnet.ray.extract(photos, weights, tmp_path, cpus=2, **USUAL).computed == 0
    with pytest.raises(UsageError, match="pool: mean there, max now"):
        npresnet.ray.extract(photos, weights, tmp_path, pool="max", **USUAL)


def test_bad_images(cluster, photos, weights, reference, tmp_path):
    mixed = Path(shutil.copytree(photos, tmp_path / "mixed"))
    expected = bad_pictures(mixed / "bad", bomb_side=12_000)
    found = npresnet.ray.extract(mixed, weights, tmp_path / "out", most_pixels=10**7, **USUAL)
    assert (found.rows, found.failed) == (96, len(expected))
    assert same(rows(tmp_path / "out"), reference)
    failed = [row for row in table(tmp_path / "out").to_pylist() if row["status"] == "failed"]
    assert all(row["feature"] is None and row["error"] in expected[Path(row["path"]).name] for row in failed)


class Probe(npresnet.ray.Extract):
    """Says what its process is like, and lets its first decoder die once."""

    def __init__(self, **options):
        super().__init__(**options)
        original, killed = Decoders._take, []

        def take(decoders, child, answer):
            original(decoders, child, answer)
            if not killed and child.ready and len(child.tasks) > 2:
                killed.append(child.process.pid)
                os.kill(child.process.pid, signal.SIGSEGV)

        Decoders._take = take

    def __call__(self, batch):
        found = super().__call__(batch)
        for name, value in (
            ("pid", os.getpid()), ("threads", self.threads), ("net", self._extractor._net.threads), ("numba", int(os.environ["NUMBA_NUM_THREADS"]))
        ):  # fmt: skip
            found = found.append_column(name, pa.array([value] * len(found)))
        return found


def test_threads_and_decoders_of_an_actor(cluster, photos, weights, reference):
    """An actor uses the processors that it was given; a decoder that dies costs one image, and not the actor."""
    paths = [{"path": str(path)} for path in sorted(photos.rglob("*.*"))]
    found = ray.data.from_items(paths, override_num_blocks=4).map_batches(
        Probe, fn_constructor_kwargs={"weights": str(weights), "size": "32x32", "decoders": 1}, batch_size=24, batch_format="numpy",
        num_cpus=2, max_restarts=0, compute=ActorPoolStrategy(size=npresnet.ray.actors(2, checkpoints=False)),
    ).take_all()  # fmt: skip
    assert len(found) == 96
    assert {(row["threads"], row["net"], row["numba"]) for row in found} == {(2, 2, 2)}
    pids = {row["pid"] for row in found}
    assert len(pids) <= 2  # none was started again
    failed = [row["text"] for row in found if row["status"] == "failed"]
    assert len(failed) in (0, 1, len(pids))
    assert set(failed) <= {"its decoder ended with SIGSEGV"}
    good = {
        str(Path(row["path"]).relative_to(photos)): np.array(row["feature"]) for row in found if row["status"] == "ok"
    }
    assert all((good[path] == reference[path]).all() for path in good)


def test_contents_instead_of_paths(cluster, photos, weights, reference):
    files = [str(path) for path in sorted(photos.rglob("*.png"))[:5]]
    found = ray.data.read_binary_files(files, include_paths=True).map_batches(
        npresnet.ray.Extract, fn_constructor_kwargs={"weights": str(weights), "size": "32x32", "layers": "c4,c5"},
        batch_size=5, batch_format="numpy", num_cpus=1, compute=ActorPoolStrategy(size=1),
    ).take_all()  # fmt: skip
    assert len(found) == 5
    for row in found:
        np.testing.assert_array_equal(row["feature_c5"], reference[str(Path(row["path"]).relative_to(photos))])
        assert len(row["feature_c4"]) == 16


def script(photos: Path, weights: Path, out: Path, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "npresnet.ray", photos, "--weights", weights, "--out", out, "--address", address]
    return subprocess.Popen(
        [*map(str, command), "--size", "32x32", "--block", "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_the_driver_is_killed(cluster, photos, weights, reference, tmp_path):
    done: set[str] = set()
    for kill in range(2):
        process = script(photos, weights, tmp_path, cluster.address)
        while len(committed(tmp_path) - done) < 2 and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None or kill, process.communicate()
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.communicate()
        time.sleep(1)  # Ray ends what belonged to the driver
        done = committed(tmp_path)
    found = npresnet.ray.extract(photos, weights, tmp_path, **USUAL)
    assert found.computed <= 96 - 8 * 2
    assert same(rows(tmp_path), reference)


class Held(_ExtractInRun):
    """Goes on with its second batch once a node is lost, so that this is in the midst of the job."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lost, self.calls = Path(options["marker"]).parents[1] / "lost", 0

    def __call__(self, batch):
        self.calls += 1
        while self.calls > 1 and not self.lost.exists():
            time.sleep(0.02)
        return super().__call__(batch)


def test_a_node_is_lost(cluster, photos, weights, reference, tmp_path, monkeypatch):
    """Its work is done by others. The last test of this cluster."""
    monkeypatch.setattr(job, "_ExtractInRun", Held)
    ended = threading.Event()

    def lose() -> None:
        while not committed(tmp_path) and not ended.wait(0.02):
            pass
        cluster.remove_node(cluster.nodes[1], allow_graceful=False)
        (tmp_path / "lost").touch()

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    runs: list[tuple[int, int, int]] = []
    try:
        found = npresnet.ray.extract(
            photos, weights, tmp_path, cpus=2, started=lambda *each: runs.append(each), **USUAL
        )
    finally:
        ended.set()
        thread.join()
    assert (found.rows, found.failed) == (96, 0)
    assert same(rows(tmp_path), reference)
    assert runs[0][2] == 2
    assert len(runs) == 1 or runs[-1][2] == 1  # planned again for what is left, if the lost actor had work


def committed(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("**/checkpoints/*.parquet") if "pending" not in path.name}
