"""Copies by address, with a driver that copies between NumPy's arrays: the right images, to the right places."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from npresnet.cuda import copies


class OnCard:
    """An array as Numba's on a card, which only tells where it is: what it is asked beyond that would cost time."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape = array.shape
        self.device_ctypes_pointer = ctypes.c_void_p(array.ctypes.data)


@pytest.fixture
def streams(monkeypatch):
    """The streams of all copies; a driver that is asked for nothing else than these copies."""
    seen: list[int] = []

    def copy(target: int, source: int, size: int, stream: int) -> tuple[int]:
        ctypes.memmove(target, source, size)
        seen.append(stream)
        return (0,)

    names = ("cuMemcpyDtoDAsync", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync")
    monkeypatch.setattr(copies, "driver", lambda: SimpleNamespace(**dict.fromkeys(names, copy)))
    return seen


def numbers(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).random(shape, np.float32)


def test_some_images(streams):
    source, target = numbers(5, 2, 3), np.zeros((4, 2, 3), np.float32)
    copies.Placed(OnCard(target)).take(1, copies.Placed(OnCard(source)), 2, 3, SimpleNamespace(handle=7))
    np.testing.assert_array_equal(target[1:], source[2:])
    assert not target[0].any()
    assert streams == [7]


def test_a_copy_takes_a_few_calls_of_python(streams):
    """And not hundreds, as arrays do that look at themselves first: at batch 1 the card would wait for that."""
    source, target = (copies.Placed(OnCard(numbers(4, 2))) for _ in range(2))
    stream, calls = SimpleNamespace(handle=0), []
    sys.setprofile(lambda frame, event, argument: calls.append(event))
    target.take(0, source, 0, 4, stream)
    sys.setprofile(None)
    assert calls.count("call") < 10
    assert len(streams) == 1


def test_to_the_card_and_back(streams):
    there, given, back = np.zeros((2, 3), np.float32), numbers(2, 3), np.zeros((2, 3), np.float32)
    placed = copies.Placed(OnCard(there))
    placed.upload(copies.Staged(given), SimpleNamespace(handle=1))
    placed.download(copies.Staged(back), SimpleNamespace(handle=2))
    np.testing.assert_array_equal(there, given)
    np.testing.assert_array_equal(back, given)
    assert streams == [1, 2]


def test_what_the_driver_refuses(monkeypatch):
    refuse = SimpleNamespace(cuMemcpyDtoDAsync=lambda *arguments: (700,))
    monkeypatch.setattr(copies, "driver", lambda: refuse)
    placed = copies.Placed(OnCard(numbers(2, 3)))
    with pytest.raises(RuntimeError):
        placed.take(0, placed, 1, 1, SimpleNamespace(handle=0))
