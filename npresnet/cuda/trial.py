"""Whether a card's warp groups compute rightly: ``wgmma`` is used on a card that another process has tried it on, and only there.

No card had run these kernels when they were written, and a kernel that goes wrong may cost its process the card. So the first
time that a network wants them on a card, a process of its own computes a few products there: small ones beside NumPy in float64,
and large ones, several times, beside what ``mma`` makes of them, and in which time. Its verdict on that very card is kept beside the
compiled kernels, until they or the driver change. Whatever is wrong, be it that it takes longer than by ``mma``, or that the process
does not come back: tf32 then goes by ``mma``, as on other cards, and the log says so.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DeviceError, UsageError
from ..files.safe_write import replaced
from ..kernels.cache import kernel_cache
from ..kernels.conv2d import conv2d_reference
from ..kernels.cuda.fused import AnyTile, Convolution, convolve, noise
from ..kernels.cuda.tensor import tf32_weights
from ..kernels.cuda.wgmma import CAPABILITY, WARPGROUP_TILES
from .card import Card, open_card
from .choice import convolutions
from .driver import checked, driver, simulated
from .timing import timed

__all__ = ["CAPABILITY", "Attempt", "attempts", "remembered", "warpgroups_work"]

SECONDS = 120.0
"""That the other process may take; it has a few kernels to compile, too."""

_LIMIT = 1e-3  # relative error of tf32: near 3e-4
_RUNS = 3  # of a large product: threads that do not wait for each other show now and then

_verdicts: dict[int, str] = {}  # by the card's number; "": all is right
_lock = threading.Lock()
_log = logging.getLogger("npresnet")


def warpgroups_work(card: Card) -> bool:
    """Whether ``wgmma`` may be used on a card, which must be the current one; tried first, where that is not known."""
    if card.capability != CAPABILITY or simulated():
        return False
    with _lock:
        if card.index not in _verdicts:
            try:
                _verdicts[card.index] = verdict = _found(card.index)
            except Exception as error:  # nothing here may keep a network from running
                _verdicts[card.index] = verdict = f"it could not be tried ({type(error).__name__}: {error})"
            if verdict:
                _log.warning("npresnet: cuda:%d (%s): tf32 without wgmma: %s", card.index, card.name, verdict)
        return not _verdicts[card.index]


def _found(index: int) -> str:
    """The verdict on a card, if need be by trying."""
    verdict = remembered(index)
    if verdict is None:
        _log.warning("npresnet: wgmma is tried on this card, once, in a process of its own; some seconds")
        verdict, lasting = _verdict(index)
        if lasting:
            _remember(index, verdict)
    return verdict


def remembered(index: int) -> str | None:
    """The verdict on the card of this number, by these kernels: "" if all is right, else what is wrong; None where there is none."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        path, (_, version) = _file(index), _identity(index)
        found = json.loads(path.read_text()) if path else {}
        if found["driver"] == version:
            return str(found["verdict"])
    return None


def _remember(index: int, verdict: str) -> None:
    """Write a verdict, for other processes. No state of the disk is an error: then it serves this one alone."""
    path, (_, version) = _file(index), _identity(index)
    if path is None:
        return
    with suppress(OSError, UsageError), replaced(path) as temporary:
        temporary.write_text(json.dumps({"driver": version, "verdict": verdict}))


def _file(index: int) -> Path | None:
    """Where the verdict on a card is; without it the card is tried again. The folder is another one for each state of the kernels'
    sources."""
    folder = kernel_cache("cuda")
    return Path(folder, f"trial-{_identity(index)[0]}.json") if folder else None


def _identity(index: int) -> tuple[str, int]:
    """What no other card has, and the driver's version."""
    from numba import cuda

    return str(cuda.gpus[index].uuid), int(checked(driver().cuDriverGetVersion()))


def _command(index: int) -> list[str]:
    """What runs ``main`` in another process, with the same packages."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from npresnet.cuda.trial import main; main({index})"
    return [sys.executable, "-c", code]


def _verdict(index: int) -> tuple[str, bool]:
    """What another process finds, and whether it would find that again."""
    try:
        done = subprocess.run(
            _command(index), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"the process that tried it did not end in {SECONDS:.0f} s", True
    except OSError as error:
        return f"the process that was to try it could not be started ({error})", False
    with suppress(ValueError, KeyError, IndexError):
        found = json.loads(done.stdout.splitlines()[-1])
        return str(found["verdict"]), bool(found["lasting"])
    last = "".join(f", {line.strip()[:200]}" for line in done.stderr.splitlines()[-1:])
    return f"the process that tried it ended with status {done.returncode}{last}", True


def main(index: int) -> None:
    """The other process: one line of JSON."""
    verdict, lasting = "", True
    try:
        card = open_card(index)
        with card.current():
            verdict = judged(attempts(card))
    except DeviceError as error:  # memory that others have, say
        verdict, lasting = str(error), False
    except Exception as error:
        verdict = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    print(json.dumps({"verdict": verdict, "lasting": lasting}))


class Attempt(NamedTuple):
    """What came of one tile: relative errors of a small product beside float64, with and without parts, and of a large one beside
    ``mma``; whether that was the same in every run; and its time, in units of that by ``mma``."""

    tile: str
    small: float
    large: float
    repeats: bool
    time: float

    @property
    def problem(self) -> str:
        """What is wrong, in words; "" if nothing is."""
        for size, error in (("small", self.small), ("large", self.large)):
            if not error < _LIMIT:  # NaN, too
                return f"{self.tile} computes a {size} product with a relative error of {error:.1e}"
        return "" if self.repeats else f"{self.tile} does not compute the same in every run"


def judged(attempts: Iterable[Attempt]) -> str:
    """What is wrong, in words; "" if nothing is. Where something is, no other tile is tried after it."""
    times = []
    for attempt in attempts:
        if attempt.problem:
            return attempt.problem
        times.append(attempt.time)
    return f"it is right, but takes {min(times):.2f} times as long as mma" if min(times) > 1 else ""


def attempts(card: Card) -> Iterator[Attempt]:
    """All tiles, one after the other; of what comes after a small product that is wrong nothing is tried. The card must be the
    current one. Raises DeviceError where memory is short, and the driver's errors."""
    with card.lane() as lane:
        for tile in WARPGROUP_TILES:
            small = float(np.max([_small(card, lane.stream, tile, splits) for splits in (1, 2)]))  # NaN, if one is
            right = small < _LIMIT
            large, repeats, time = _large(card, lane.stream, tile) if right else (np.nan, False, np.nan)
            yield Attempt(str(tile), small, large, repeats, time)


def _small(card: Card, stream: Any, tile: AnyTile, splits: int) -> float:
    """The relative error of a convolution of few numbers, with all that may follow it, at edges of the tile in every direction."""
    size = Convolution(1, 9, 8, 20, 3, 3, 1, 1, 1, 1, 9, 8, 72)
    generator = np.random.default_rng(0)
    shapes = (1, 9, 8, 20), (3, 3, 20, 72), (72,), (1, 9, 8, 72)
    x, w, bias, residual = (generator.standard_normal(shape, np.float32) for shape in shapes)
    right = conv2d_reference(*(array.astype(np.float64) for array in (x, w, bias)), padding="same") + residual
    stored = tf32_weights(np.ascontiguousarray(w.reshape(-1, 72).T))
    a, b, c, more = (card.upload(array.reshape(-1)) for array in (x, stored, bias, residual))
    out, parts = (card.upload(np.full(count, np.nan, np.float32)) for count in (right.size, splits * right.size))
    convolve(stream, tile, splits, size, a, b, c, more, True, parts, out)
    return _error(_fetched(out, stream), np.maximum(right, 0).reshape(-1))


_LARGE = (64, 28, 28, 128, 3, 3, 1, 1, 1, 1, 28, 28, 256)  # more blocks than any card holds at once


def _large(card: Card, stream: Any, tile: AnyTile) -> tuple[float, bool, float]:
    """The relative error beside what ``mma`` makes of the same, whether all runs gave the same bits, and the time beside its."""
    size = Convolution(*_LARGE)
    counts = size.n * size.h * size.w * size.ci, size.depth * size.co, size.co, size.rows * size.co
    x, w, bias, out = (card.array((count,), "trying wgmma") for count in counts)
    for array in (x, w, bias):
        noise(stream, array)

    def queued(by: AnyTile, stream: Any) -> None:
        convolve(stream, by, 1, size, x, w, bias, None, False, None, out)

    def computed(by: AnyTile) -> Any:
        noise(stream, out)  # so that what is not written shows
        queued(by, stream)
        return _fetched(out, stream)

    usual = next(way.tile for way in convolutions(card.sms, size, "tf32", False) if way.splits == 1)
    expected = computed(usual)
    found = [computed(tile) for _ in range(_RUNS)]
    repeats = all(array.tobytes() == found[0].tobytes() for array in found)
    times = np.median(timed(stream, [partial(queued, tile), partial(queued, usual)], _RUNS), axis=0)
    return _error(found[0], expected), repeats, float(times[0] / times[1]) if times[1] else 1.0  # in the simulator


def _fetched(array: Any, stream: Any) -> Any:
    host = array.copy_to_host(stream=stream)
    if not simulated():
        stream.synchronize()
    return host


def _error(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
