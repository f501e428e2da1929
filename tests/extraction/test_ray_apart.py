"""What of ``npresnet.ray`` needs no Ray: it says in one line that it is missing; how many actors have room; what is pickled."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

import npresnet
from npresnet.errors import ImageError, MissingExtraError, UsageError, WeightsError
from npresnet.extraction.decoder import FORMATS, MOST_PIXELS
from npresnet.extraction.opening import preparation_of, settings_of
from npresnet.model import assemble
from npresnet.network.architecture import Architecture
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import seeded
from npresnet.ray.job import _begin, _no_restarts
from npresnet.ray.planning import room


@pytest.mark.skipif(bool(importlib.util.find_spec("ray")), reason="Ray is installed here")
def test_without_ray(photos, weights, tmp_path, capsys):
    from npresnet.ray.__main__ import main

    with pytest.raises(MissingExtraError, match=r'pip install "npresnet\[ray\]"'):
        npresnet.ray.actors()
    assert main([str(photos), "--weights", str(weights), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == 'npresnet: npresnet.ray: ray is not installed; pip install "npresnet[ray]"\n'


def test_nothing_imports_ray(run_python):
    assert "ray" not in run_python("import sys, npresnet, npresnet.ray; print(*sys.modules)").split()


@pytest.mark.parametrize(
    ("nodes", "cpus", "kept", "actors"),
    [
        ([2], 1, 1, 1),
        ([1, 2, 2], 2, 1, 2),
        ([1, 2, 2], 2, 2, 1),
        ([1, 2, 2], 1, 2, 3),
        ([64] * 10, 16, 2, 39),
        ([0, 3], 2, 1, 1),
    ],
)
def test_room_for_actors(nodes, cpus, kept, actors):
    assert room(nodes, cpus, kept) == actors


@pytest.mark.parametrize(("nodes", "cpus", "kept"), [([2], 1, 2), ([2], 2, 1), ([3, 3], 4, 0), ([], 1, 1), ([8], 0, 1)])
def test_no_room_for_actors(nodes, cpus, kept):
    with pytest.raises(UsageError, match=r"cpus: got 0|no actor has room"):
        room(nodes, cpus, kept)


def test_another_job_is_refused(net, tmp_path, monkeypatch):
    how = preparation_of(net, "32x32", FORMATS, MOST_PIXELS, False, False)
    settings = settings_of(net, {"c5": net.graph.features["C5"]}, "mean", "f32", how)
    for _ in range(2):
        _begin(tmp_path, settings, "/photos", False)
    with pytest.raises(UsageError, match="another job is there already; pool: mean there, max now; give"):
        _begin(tmp_path, replace(settings, pool="max"), "/photos", False)
    with pytest.raises(UsageError, match="its inputs are named from /photos, these from /others"):
        _begin(tmp_path, settings, "/others", False)
    with pytest.raises(UsageError, match=r"a job of `python -m npresnet\.ray` is there"):
        npresnet.open_features(tmp_path)
    monkeypatch.setattr(np, "__version__", "0.1")
    with pytest.raises(UsageError, match=r"numpy: .* there, 0\.1 now \(--other-versions takes both\)"):
        _begin(tmp_path, settings, "/photos", False)
    _begin(tmp_path, settings, "/photos", True)


def test_a_network_is_pickled_as_its_file(weights, net, tmp_path):
    copy = shutil.copy(weights, tmp_path / "copy.h5")
    data = pickle.dumps(npresnet.load(copy, threads=1))
    assert len(data) < 1000
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    images.flags.writeable = False  # as Ray's batches are
    np.testing.assert_array_equal(pickle.loads(data)(images).c5, net(images).c5)
    with open(copy, "ab") as file:
        file.write(b"more")
    with pytest.raises(WeightsError, match="not the file that the network was loaded from"):
        pickle.loads(data)
    with pytest.raises(UsageError, match="pickled as the path"):
        pickle.dumps(assemble(seeded(Architecture.standard(FAMILIES["keras-resnet"], 18, width=4))))


def test_errors_are_pickled():
    again = pickle.loads(pickle.dumps(ImageError("a.jpg: damaged", "truncated")))
    assert (str(again), again.kind) == ("a.jpg: damaged", "truncated")


def test_no_restarts_where_ray_can_be_told_so():
    both = {"max_restarts": 0, "max_task_retries": 0}
    assert _no_restarts(lambda fn, **others: None) == both
    assert _no_restarts(lambda fn, max_restarts, max_task_retries: None) == both
    assert _no_restarts(lambda fn, num_cpus: None) == {}
