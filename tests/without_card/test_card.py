"""What a user without a card, or with one that cannot be used, is told. No card is needed: the driver is played."""

from __future__ import annotations

import importlib.util
import os
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda")  # which test_cuda.py asserts to be there

import npresnet
from npresnet import DeviceError, MissingExtraError, NpResNetError, UsageError
from npresnet.cuda import arrays
from npresnet.cuda import card as cards
from npresnet.cuda.program import Bound, Layout
from npresnet.cuda.recorded import record
from npresnet.cuda.runner import _copy

from ..support.threads import beside

DIGITS = Path(__file__).parents[1] / "data" / "digits.keras"


class Context(SimpleNamespace):
    """What Numba tells of a card."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def play(monkeypatch):
    """Play a driver of some version with some cards."""

    def played(*contexts: Context, available: bool = True, error: str | None = None, version: int = 13050) -> None:
        from cuda.bindings import driver, nvjitlink
        from numba import cuda

        monkeypatch.setattr(cards, "_opened", {})
        monkeypatch.setattr(cuda, "is_available", lambda: available)
        monkeypatch.setattr(cuda, "cuda_error", lambda: error)
        monkeypatch.setattr(cuda, "gpus", contexts)
        monkeypatch.setattr(
            cuda, "current_context", lambda: SimpleNamespace(get_memory_info=lambda: (3_000_000_000, 8_000_000_000))
        )
        monkeypatch.setattr(driver, "cuDriverGetVersion", lambda: (0, version))
        monkeypatch.setattr(nvjitlink, "version", lambda: (13, 5))

    return played


def a_card(capability: tuple[int, int] = (9, 0), **more: Any) -> Context:
    return Context(name=b"NVIDIA H100", compute_capability=capability, MULTIPROCESSOR_COUNT=132, **more)


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_names_of_devices(device, index):
    assert cards.parse_device(device) == index


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:a", "CUDA", "cuda:99999", "", 0, None])
def test_refuses_other_names(device):
    with pytest.raises(UsageError, match="must be 'cpu', 'cuda', or 'cuda:1'"):
        npresnet.load(DIGITS, device=device)


def test_found(play):
    play(a_card(), a_card((8, 0)))
    found = cards.find_cards()
    assert [
        (card.index, card.name, card.capability, card.sms, card.free, card.total, card.problem) for card in found
    ] == [
        (0, "NVIDIA H100", (9, 0), 132, 3_000_000_000, 8_000_000_000, None),
        (1, "NVIDIA H100", (8, 0), 132, 3_000_000_000, 8_000_000_000, None),
    ]
    card = cards.open_card(1)
    assert (card.index, card.sms, card.memory()) == (1, 132, (3_000_000_000, 8_000_000_000))
    assert cards.open_card(1) is card


@pytest.mark.parametrize(
    ("played", "index", "kind", "said"),
    [
        ({"available": False, "error": "libcuda.so\nnot found"}, 0, DeviceError, "no NVIDIA driver answers (libcuda.so not found)"),
        ({"available": False}, 0, DeviceError, 'pip install "numba-cuda[cu13]"'),
        ({"version": 12080}, 0, DeviceError, "the driver knows CUDA up to 12.8, but the parts installed here are of CUDA 13"),
        ({}, 2, DeviceError, "there is no such card, but cuda:0 NVIDIA H100"),
    ],
    ids=["no driver", "no compiler", "old driver", "no such card"],
)  # fmt: skip
def test_says_what_is_wrong(play, played, index, kind, said):
    play(a_card(), **played)
    with pytest.raises(kind) as caught:
        cards.open_card(index)
    assert said in str(caught.value)
    assert str(caught.value).endswith("the same network runs with device='cpu'")
    assert isinstance(caught.value, NpResNetError)


@pytest.mark.parametrize("version", ["0.30.0", "0.4", "0.30.3.dev1"])
def test_too_old_a_numba_cuda(play, monkeypatch, version):
    """Which does not go with today's Numba: that is said in a sentence, and what to do; and the extras ask for what goes."""
    import numba_cuda

    play(a_card())
    monkeypatch.setattr(numba_cuda, "__version__", version)
    said = cards.why_no_cuda()
    assert said == (
        f'numba-cuda {version} is installed, and the kernels take 0.30.4 or newer; `pip install -U "numba-cuda[cu13]>=0.30.4"`'
    )
    with pytest.raises(MissingExtraError, match=r"take 0\.30\.4 or newer"):
        cards.open_card(0)
    for good in ("0.30.4", "0.31.0", "1.0"):
        monkeypatch.setattr(numba_cuda, "__version__", good)
        assert cards.why_no_cuda() is None
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for extra in ("cuda", "test"):
        (asked,) = [package for package in extras[extra] if package.startswith("numba-cuda")]
        assert asked.split(";")[0] == "numba-cuda[cu13]>=" + ".".join(map(str, cards.NUMBA_CUDA))


def test_too_old_a_card(play):
    play(a_card((7, 0)))
    with pytest.raises(DeviceError, match=r"\(NVIDIA H100\): its compute capability is 7.0; CUDA 13 needs 7.5"):
        cards.open_card(0)


def test_a_card_that_cannot_be_opened(play, monkeypatch):
    class Busy(Context):
        def __enter__(self) -> None:
            raise RuntimeError("exclusive use")

    play(Busy(name="NVIDIA H100", compute_capability=(9, 0)))
    with pytest.raises(DeviceError, match=r"it cannot be opened \(exclusive use\)"):
        cards.open_card(0)


@pytest.mark.parametrize("simulated", [False, True])
def test_without_numba_cuda(monkeypatch, simulated):
    monkeypatch.setattr(cards, "_opened", {})
    monkeypatch.setattr(cards, "simulated", lambda: simulated)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(MissingExtraError, match=r'pip install "npresnet\[cuda\]"'):
        cards.open_card(0)
    assert cards.find_cards() == []


def test_no_driver_here(capfd):
    """Really asked: where there is none, that is said; and before the file is read."""
    if cards.why_no_cuda() is None:
        pytest.skip("this machine has a card")
    with pytest.raises(DeviceError, match="no NVIDIA driver answers"):
        npresnet.load("there is no such file.h5", device="cuda")


def test_out_of_memory(play):
    """With the bytes that were asked for, and those that are free; other errors pass as they are."""
    play(a_card())
    card = cards.open_card(0)

    class Failure(Exception):
        def __init__(self, code: int) -> None:
            super().__init__("refused")
            self.code = code

    def refuse(code: int) -> Any:
        raise Failure(code)

    with pytest.raises(DeviceError) as caught:
        card.allocated(9_000_000_000, "working memory", lambda: refuse(2))
    for part in (
        "working memory takes 9,000,000,000 bytes",
        "3,000,000,000 of 8,000,000,000 are free",
        "fewer or smaller",
    ):
        assert part in str(caught.value)
    with pytest.raises(Failure):
        card.allocated(1, "anything", lambda: refuse(700))
    assert card.allocated(1, "anything", lambda: "memory") == "memory"


def test_out_of_memory_gives_up_what_is_kept(play):
    """Idle lanes and results' memory go first; only then is it an error."""
    play(a_card())
    card = cards.open_card(0)
    card._idle.append("a lane")  # type: ignore[arg-type]
    card.give_back("memory")

    class Full(Exception):
        code = 2

    def allocate() -> str:
        if card._idle or card._spare:
            raise Full
        return "enough now"

    assert card.allocated(1, "anything", allocate) == "enough now"


def test_memory_of_results_is_used_again(play, monkeypatch):
    """For results of the same shape, after whatever is still queued on it, which is waited for once, however many they are; and
    no more is kept than a few arrays."""
    from numba import cuda

    play(a_card())
    waited: list[str] = []
    asked = SimpleNamespace(cuCtxSynchronize=lambda: waited.append("all streams") or (0,))
    monkeypatch.setattr("npresnet.cuda.recorded.driver", lambda: asked)
    monkeypatch.setattr(cards, "wait_for", waited.append)
    monkeypatch.setattr(cuda, "device_array", lambda shape, dtype: np.empty(shape, dtype))
    card = cards.open_card(0)

    def results(*shapes: tuple[int, ...]) -> list[Any]:
        named = {str(number): shape for number, shape in enumerate(shapes)}
        return list(card.results(named, "one").values())

    first, second = (arrays.DeviceArray(card, memory) for memory in results((2, 3), (2, 3)))
    memories, other = [first.memory, second.memory], results((4, 3))[0]
    assert waited == ["one", "one"]
    waited.clear()
    del first, second
    found = results((2, 3), (2, 3), (2, 3))
    assert found[0] is memories[0]
    assert found[1] is memories[1]
    assert not any(np.shares_memory(found[2], memory) for memory in memories)
    assert waited == ["all streams"]
    for _ in range(100):
        card.give_back(other.reshape(-1))
    assert len(card._spare) < 10


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 1000, 3_000_001])
def test_copies(threads, count):
    source, target = np.arange(count, dtype=np.float32), np.full(count, np.nan, np.float32)
    _copy(source, target, threads)
    np.testing.assert_array_equal(target, source)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork(play, monkeypatch):
    play(a_card())
    card = cards.open_card(0)
    monkeypatch.setattr(card, "_process", os.getpid() + 1)
    for use in (lambda: cards.open_card(0), card.memory):
        with pytest.raises(DeviceError, match="before this process was forked"):
            use()


def test_a_lane_is_used_again_but_not_after_an_error(play, monkeypatch):
    play(a_card())
    monkeypatch.setattr(cards.Lane, "__init__", lambda self, card: None)
    card = cards.open_card(0)
    with card.lane() as first, card.lane() as second:
        assert second is not first
    with card.lane() as third:
        assert third in (first, second)
    idle = len(card._idle)
    with pytest.raises(RuntimeError), card.lane():
        raise RuntimeError("a kernel failed")
    assert len(card._idle) == idle - 1


def test_layout_gives_memory_again():
    """Three arrays in a row, each read by the next step: two places do."""
    layout = Layout()
    first = layout.new(0, (100,))
    layout.use(first, 1)
    second = layout.new(1, (100,))
    layout.use(second, 2)
    third = layout.new(2, (100,))
    assert layout.bytes() == 2 * 512
    assert first.buffer.offset == third.buffer.offset != second.buffer.offset
    arena = np.arange(256, dtype=np.float32)
    view = second.reshaped((4, 25)).view(arena)
    assert view.shape == (4, 25)
    assert view[0, 0] == second.buffer.offset // 4


class _Recording:
    def __init__(self) -> None:
        self.queued: list[Any] = []

    def queue(self, stream: Any) -> None:
        self.queued.append(stream)


def test_recorded_from_the_second_run_on(monkeypatch):
    """The first run compiles, the second is recorded, and from then on the recording is queued."""
    steps: list[str] = []
    recording = _Recording()

    def recorded(stream: Any, queue: Any) -> _Recording:
        steps.append("recorded")
        return recording

    monkeypatch.setattr("npresnet.cuda.program.record", recorded)
    bound = Bound(None, {}, None, [lambda stream: steps.append(f"step on {stream}")], None)  # type: ignore[arg-type]
    for stream in ("a", "b", "c"):
        bound.queue(stream)
    assert steps == ["step on a", "recorded"]
    assert recording.queued == ["b", "c"]


def test_what_cannot_be_recorded_goes_step_by_step(monkeypatch, caplog):
    def failing(stream: Any, queue: Any) -> Any:
        raise RuntimeError("not while recording")

    monkeypatch.setattr("npresnet.cuda.recorded._record", failing)
    assert record("stream", lambda stream: None) is None
    assert "could not be recorded as a CUDA graph (not while recording)" in caplog.text


def test_nobody_waits_for_the_card_while_steps_are_recorded(play, monkeypatch):
    """The driver would refuse it, to whoever waits, and the recording would be lost."""
    play(a_card())
    card = cards.open_card(0)
    card.give_back(np.zeros((2, 3), np.float32))
    begun, go = threading.Event(), threading.Event()
    recording = []

    def slowly(stream: Any, queue: Any) -> None:
        recording.append(stream)
        begun.set()
        go.wait()
        recording.remove(stream)

    waited: list[list[str]] = []
    monkeypatch.setattr("npresnet.cuda.recorded._record", slowly)
    asked = SimpleNamespace(cuCtxSynchronize=lambda: waited.append(list(recording)) or (0,))
    monkeypatch.setattr("npresnet.cuda.recorded.driver", lambda: asked)
    beside(lambda: record("stream", lambda stream: None), lambda: card.results({"C1": (2, 3)}, None), begun, go)
    assert waited == [[]]


def test_waits_for_the_card_have_one_place():
    """``recorded.py`` sees to it that none comes at the wrong time."""
    for path in Path(cards.__file__).parent.glob("*.py"):
        assert "cuda.synchronize(" not in path.read_text(), path.name
        assert ("cuCtxSynchronize(" in path.read_text()) == (path.name == "recorded.py"), path.name


def test_arrays_are_told_apart():
    class OnCard:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    class OnHost(OnCard):
        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    class Interface:
        __cuda_array_interface__: dict[str, Any] = {}  # noqa: RUF012

    assert arrays.on_card(OnCard())
    assert arrays.on_card(Interface())
    for other in (OnHost(), np.zeros(3), [1.0], None, "text"):
        assert not arrays.on_card(other)


def test_dlpack_with_an_older_cuda_core(play, monkeypatch):
    """Which can be imported, and knows views that others make, but makes none for them."""
    import cuda.core.utils

    play(a_card())
    array = arrays.DeviceArray(cards.open_card(0), np.zeros((2, 3), np.float32))
    monkeypatch.setattr(cuda.core.utils, "StridedMemoryView", type("StridedMemoryView", (), {"from_dlpack": None}))
    with pytest.raises(UsageError, match=r"takes cuda\.core 1\.0 or newer.*pip install -U cuda-core"):
        array.__dlpack__()


def test_precision_that_a_card_does_not_have(play):
    play(a_card((7, 5)), a_card((8, 0)))
    cards.open_card(0).check_precision("fp32")
    cards.open_card(1).check_precision("tf32")
    with pytest.raises(DeviceError, match=r"'3xtf32'.* has compute capability 7.5, and that takes 8.0"):
        cards.open_card(0).check_precision("3xtf32")


def test_precision_is_for_cards():
    with pytest.raises(UsageError, match="precision: got 'half'"):
        npresnet.load(DIGITS, precision="half")
    with pytest.raises(UsageError, match="'tf32' with device='cpu'"):
        npresnet.load(DIGITS, precision="tf32")
