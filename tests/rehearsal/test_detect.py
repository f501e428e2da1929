"""``detect`` on 'cuda', with a driver that runs nothing: three networks, one after another, and what each asks of it."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.detection import detecting
from npresnet.network.detector import CLASS_HEAD, MASK_HEAD

from ..support.small_detector import CONFIG, small_detector

pytestmark = [pytest.mark.usefixtures("by_the_rules"), pytest.mark.filterwarnings("ignore:Grid size")]


@pytest.fixture(scope="module")
def net():
    return small_detector("cuda")


@pytest.fixture(autouse=True)
def something_detected(monkeypatch):
    """Whatever the class head's memory holds, of which no kernel has written any."""
    kept = detecting.class_head

    def certain(*arguments):
        probabilities, shifts = map(np.zeros_like, kept(*arguments))
        probabilities[:, 1] = 1
        return probabilities, shifts

    monkeypatch.setattr(detecting, "class_head", certain)


def test_recorded_once_for_each_network(net, lines):
    """Step by step, recorded, and from then on each as one piece; nothing is spoilt while it is recorded."""
    picture = np.zeros((64, 64, 3), np.uint8)
    networks = (net, net.heads[CLASS_HEAD], net.heads[MASK_HEAD])
    (found,) = net.detect(picture, CONFIG)
    assert len(found) > 0
    steps = [program.steps for one in networks for program in one._runner._programs.kept().values()]
    assert len(steps) == len(networks)
    direct = lines("launch", forget=True)
    assert len(direct) >= sum(map(len, steps))
    assert {line.values["recorded"] for line in direct} == {"0"}
    net.detect(picture, CONFIG)
    ends = lines("cuStreamEndCapture")
    assert [line.values["spoilt"] for line in ends] == ["0"] * len(networks)
    recorded = lines("launch", forget=True)
    assert [line.kernel for line in recorded] == [line.kernel for line in direct]
    assert {line.values["recorded"] for line in recorded} == {"1"}
    for _ in range(3):
        net.detect(picture, CONFIG)
        assert lines("launch", "cuMemAlloc", "cuMemHostAlloc") == []
        assert [line.values["nodes"] for line in lines("cuGraphLaunch", forget=True)] == [
            line.values["nodes"] for line in ends
        ]
