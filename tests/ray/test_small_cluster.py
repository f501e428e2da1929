"""A cluster of two processors, which a pool of actors can take whole, and then waits for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.data import DataContext

import npresnet.ray
from npresnet.errors import UsageError
from npresnet.ray.job import _gathered
from tests.support.pictures import good_pictures


@pytest.fixture(scope="module")
def two_processors():
    ray.init(num_cpus=2, log_to_driver=False, logging_level="warning", include_dashboard=False)
    DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def test_a_pool_that_cannot_run_is_refused(two_processors):
    assert npresnet.ray.actors(checkpoints=False) == 1
    with pytest.raises(UsageError, match=r"2 processors on nodes of 2; 2 are kept .* an actor needs 1 on one node"):
        npresnet.ray.actors()
    with pytest.raises(UsageError, match="an actor needs 2 on one node"):
        npresnet.ray.actors(2, checkpoints=False)


def test_a_job_is_taken_up_again(two_processors, photos, weights, tmp_path):
    """With checkpoints, where Ray's own filter and the actor would leave nothing for reading."""
    some = Path(shutil.copytree(photos / "000", tmp_path / "some"))
    options = {"size": "32x32", "block": 16}
    assert npresnet.ray.extract(some, weights, tmp_path / "out", **options).computed == 32
    good_pictures(some / "more", 10, seed=70)
    found = npresnet.ray.extract(some, weights, tmp_path / "out", **options)
    assert (found.computed, found.rows) == (10, 42)


def test_what_a_failed_run_commits_late_counts_once(tmp_path):
    def committed(name, *paths, pending=""):
        for kind, file in (("features", f"{name}-0.parquet"), ("checkpoints", f"{name}{pending}.parquet")):
            (tmp_path / "run" / kind).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"path": paths}), tmp_path / "run" / kind / file)

    committed("a_000000", "1", "2")
    committed("a_000001", "3", pending=".pending")
    assert _gathered(tmp_path) == {"1", "2"}
    committed("a_000002", "4")
    committed("b_000000", "2", "4", "5")
    assert _gathered(tmp_path) == {"1", "2", "4"}
    assert {file.name for file in (tmp_path / "features").iterdir()} == {"a_000000-0.parquet", "a_000002-0.parquet"}
    assert not list((tmp_path / "run" / "features").glob("b_*"))
    committed("a_000000", "1", "2")  # Ray has tried a task again that had committed
    assert _gathered(tmp_path) == {"1", "2", "4"}
    assert {file.name for file in (tmp_path / "features").iterdir()} == {"a_000000-0.parquet", "a_000002-0.parquet"}
    assert not list((tmp_path / "run" / "features").glob("a_*0-0.parquet"))
