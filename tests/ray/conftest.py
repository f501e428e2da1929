"""Tests on a local cluster. They are collected where Ray is installed: `.ci/run` does so in an environment of its own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pictures import good_pictures
from tests.support.thin import thin_file

# To start a process of Ray's takes seconds: none before it is wanted, none instead of one that has just become idle, and none
# that tells Ray's makers of it. And they are not to wait for whatever else runs on the machine.
for name in ("prestart_worker_first_driver", "kill_idle_workers_interval_ms", "worker_niceness", "USAGE_STATS_ENABLED"):
    os.environ.setdefault(f"RAY_{name}", "0")

collect_ignore_glob = [] if importlib.util.find_spec("ray") else ["test_*.py"]


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return thin_file(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    good_pictures(folder, 96, folders=3)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one processor and two nodes with two, as far as Ray knows; this process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.data import DataContext

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.nodes = [made.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=made.address, log_to_driver=False, logging_level="warning")
    DataContext.get_current().enable_progress_bars = False
    yield made
    ray.shutdown()
    made.shutdown()
