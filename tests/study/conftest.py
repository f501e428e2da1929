"""One thin network that all topics are studied on: with strides, borders, 1x1, 3x3 and 7x7 windows, and a classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npresnet import study
from npresnet.model import assemble
from npresnet.network.architecture import Architecture
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import seeded

SIZE = (45, 52)  # odd and even: "same" pads differ from side to side


def network(family="keras-resnet", depth=18, width=32, algorithm="auto", **options):
    """A network with seeded weights."""
    found = seeded(Architecture.standard(FAMILIES[family], depth, width=width, **options))
    return assemble(found, algorithm=algorithm, threads=2)


def pictures(size=SIZE, n=1):
    """float32[n, h, w, 3] such as a family prepares."""
    return np.random.default_rng(1).uniform(-120, 130, (n, *size, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def net():
    return network(classes=5)


@pytest.fixture(scope="session")
def images():
    return pictures()


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called once for the same arguments, however they are given."""
    found: dict[Any, Any] = {}
    signature = inspect.signature(function)

    def call(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        if bound.args not in found:
            found[bound.args] = function(*bound.args)
        return found[bound.args]

    return call


@pytest.fixture(scope="session", autouse=True)
def studied_once():
    """What is of no network, a recording or machine code, takes seconds, and is the same for all tests."""
    patch = pytest.MonkeyPatch()
    for name in ("watch", "asm"):
        patch.setattr(study, name, once(getattr(study, name)))
    yield
    patch.undo()
