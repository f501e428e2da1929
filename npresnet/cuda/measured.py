"""Choices by measurement: what a card was seen to do the fastest comes before what the model of ``choice.py`` expects.

``Choices`` knows what was measured, in earlier processes, too: a file beside the compiled kernels, one for each kind of
card, with a line for each convolution. ``Measuring`` times what is not known yet, while a program is made with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

from ..errors import UsageError
from ..files.safe_write import replaced
from ..kernels.cache import kernel_cache
from ..kernels.cuda.fused import Convolution, noise
from ..kernels.cuda.launch import SIMULATED
from ..kernels.cuda.stem import DEPTH, Stem
from .card import Card
from .choice import Apart, Choice, StemChoice, convolutions, stems, winograd_fits
from .program import Queue
from .timing import timed
from .trial import warpgroups_work

__all__ = ["MOST", "Choices", "Measured", "Measuring", "seconds_of"]

_Way = TypeVar("_Way", Choice, StemChoice | Apart)

_SLOWER = 3.0  # times what is expected of the best one: not worth a try
MOST = 24
"""How many choices for one convolution are tried, at most."""
_ROUNDS, _REPEATS = 5, 4


class Choices:
    """Which kernel computes a convolution on a card: the fastest, where that was measured, else the one that the model
    expects to be."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self.known = _read(_file(card))
        """{convolution, as text: choice, as text}"""

    def convolution(self, size: Convolution, precision: str, winograd: bool) -> Choice:
        """The choice for a convolution; ``winograd``: whether it may be that, where it fits."""
        winograd = winograd and winograd_fits(size)
        warpgroups = precision == "tf32" and warpgroups_work(self._card)
        ways = convolutions(self._card.sms, size, precision, winograd, warpgroups)
        return self._of(_key(precision, size, winograd), size, ways)

    def stem(self, size: Stem, convolution: Convolution, precision: str) -> StemChoice | Apart:
        """The choice for a stem, whose convolution alone is ``convolution``."""
        one = self.convolution(convolution, precision, False)
        return self._of(_key(precision, size, False), size, stems(self._card.sms, size, convolution, one))

    def _of(self, key: str, size: Convolution | Stem, ways: Sequence[_Way]) -> _Way:
        known = self.known.get(key)
        return next((way for way in ways if str(way) == known), ways[0])

    def keep(self) -> None:
        """Write what is known, for other processes. No state of the disk is an error: then it serves this one alone."""
        path = _file(self._card)
        if path is None:
            return
        with suppress(OSError, UsageError), replaced(path) as temporary:
            everything = {**_read(path), **self.known}  # others may have measured meanwhile
            temporary.write_text(json.dumps(everything, indent=0, sort_keys=True))


class Measured(NamedTuple):
    """What came of measuring one convolution: the choice that the model expected to be the fastest, the one that is, and the
    seconds that each takes."""

    convolution: str
    expected: str
    expected_seconds: float
    best: str
    best_seconds: float


class Measuring(Choices):
    """Choices that are measured when they are asked for, unless they are known already. The card must be the current one.

    choices  get to know what is found
    stream   on which it runs; nothing else should run on the card meanwhile
    seen     is called after each convolution
    """

    def __init__(self, card: Card, choices: Choices, stream: Any, seen: Callable[[Measured], None]) -> None:
        self._card, self._stream, self._seen = card, stream, seen
        self.known = choices.known

    def _of(self, key: str, size: Convolution | Stem, ways: Sequence[_Way]) -> _Way:
        if key not in self.known:
            limit = _SLOWER * ways[0].prediction.cycles
            tried = [way for way in ways[:MOST] if way.prediction.cycles <= limit]
            seconds = seconds_of(self._card, self._stream, size, tried)
            best = min(range(len(tried)), key=seconds.__getitem__)
            self.known[key] = str(tried[best])
            self._seen(Measured(key, str(tried[0]), seconds[0], str(tried[best]), seconds[best]))
        return super()._of(key, size, ways)


def seconds_of(card: Card, stream: Any, size: Convolution | Stem, ways: Sequence[Any]) -> list[float]:
    """How long each way to compute a convolution takes: the median of a few rounds, in each of which all have their turn. The card
    must be the current one."""
    counts = [_arrays(size, way) for way in ways]
    starts = [list(accumulate(map(_aligned, count), initial=0)) for count in counts]
    memory = card.array((max(start[-1] for start in starts),), "measuring")
    noise(stream, memory)  # zeros take less power, and a card may run them faster
    queues = [
        _queue(way, size, [memory[at : at + length] for at, length in zip(start, count, strict=False)])
        for way, start, count in zip(ways, starts, counts, strict=True)
    ]
    for queue in queues:  # in the simulator, too, where nothing is timed
        queue(stream)
    rounds = timed(stream, [_repeated(queue) for queue in queues], _ROUNDS)
    return [median(times) / _REPEATS for times in zip(*rounds, strict=True)]


def _arrays(size: Convolution | Stem, way: Any) -> list[int]:
    """Numbers in each array of a convolution: images, weights, bias, a residual if it can have one, result, and what it works
    in."""
    if isinstance(size, Stem):
        depth = way.convolution.depth if isinstance(way, Apart) else DEPTH
        counts = [3 * size.n * size.h * size.w, depth * size.co, size.co, size.n * size.po * size.qo * size.co]
    else:
        result = size.rows * size.co
        depth = 36 * size.ci if way.winograd else size.depth
        counts = [size.n * size.h * size.w * size.ci, depth * size.co, size.co, result, result]
    return [*counts, *way.workspace(size)]


def _aligned(count: int) -> int:
    """``count`` numbers up to where CUDA's own allocations would go on."""
    return -(-count // 64) * 64


def _queue(way: Any, size: Convolution | Stem, arrays: Sequence[Any]) -> Queue:
    given = 4 if isinstance(size, Stem) else 5
    *inputs, out = arrays[:given]
    return lambda stream: way.queue(stream, size, *inputs, True, arrays[given:], out)


def _repeated(queue: Queue) -> Queue:
    def often(stream: Any) -> None:
        for _ in range(_REPEATS):
            queue(stream)

    return often


def _key(precision: str, size: Convolution | Stem, winograd: bool) -> str:
    """A convolution as text: all that decides what is the fastest."""
    images = f"{precision} {size.n}x{size.h}x{size.w}"
    if isinstance(size, Stem):
        return f"{images}x3 stem {size.po}x{size.qo}x{size.co}"
    window = f"{size.kh}x{size.kw}/{size.sh}x{size.sw}{'' if winograd else ' direct'}"
    return f"{images}x{size.ci} {window} {size.ho}x{size.wo}x{size.co}"


def _file(card: Card) -> Path | None:
    folder = None if SIMULATED else kernel_cache("cuda")  # in the simulator nothing takes any time
    name = "-".join(re.findall(r"[a-z0-9]+", card.name.lower()))
    return Path(folder, f"choices-{name}.json") if folder else None


def _read(path: Path | None) -> dict[str, str]:
    """What the file says; nothing where there is none, or something else."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text()) if path else {}
        if isinstance(found, dict):
            return {key: value for key, value in found.items() if isinstance(value, str)}
    return {}
