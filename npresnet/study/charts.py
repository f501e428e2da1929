"""The page's pictures as numbers: where each mark stands, in pixels, and which value each label shows. The template only writes
them down, as SVG; what is shown is in the page's JSON like everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ErrorsStudy
from .layers import LayersStudy
from .memory import MemoryStudy

__all__ = ["Chart", "Mark", "Strip", "Tick", "memory_chart", "roofline_chart", "strips"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 20, 46  # pixels around a chart, for its labels


@dataclass(frozen=True)
class Tick:
    """A label at ``at`` pixels along its axis."""

    at: float
    value: float
    form: str


@dataclass(frozen=True)
class Mark:
    """A circle (x, y, size) or a rectangle (x, y, width, height), of a ``kind``; ``title`` is what it says of itself."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Chart:
    """A picture of ``width`` x ``height`` pixels; ``roof``: points of a line."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    across: Sequence[Tick]
    up: Sequence[Tick]
    marks: Sequence[Mark]
    roof: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Strip:
    """One algorithm's errors, layer by layer: ``shades`` from 0 for the least error of all strips to 1 for the largest, by powers."""

    name: str
    shades: Sequence[float]
    titles: Sequence[str]


def _chart(
    width: int,
    height: int,
    across: Sequence[Tick],
    up: Sequence[Tick],
    marks: Sequence[Mark],
    roof: Sequence[tuple[float, float]] = (),
) -> Chart:
    return Chart(width, height, _LEFT, width - _RIGHT, _TOP, height - _BOTTOM, across, up, marks, roof)


def _log_scale(low: float, high: float, start: float, end: float) -> tuple[float, float, float, float]:
    return math.log10(low), math.log10(high), start, end


def _on(scale: tuple[float, float, float, float], value: float) -> float:
    low, high, start, end = scale
    return round(start + (math.log10(value) - low) / (high - low) * (end - start), 1)


def roofline_chart(study: LayersStudy, width: int = 720, height: int = 380) -> Chart | None:
    """FLOP per byte across, FLOP per second up, both by powers of ten; None where nothing was timed."""
    roof = study.ceilings
    if roof is None or not study.roofs:
        return None
    speeds = [dot.speed for dot in study.roofs]
    intensities = [dot.intensity for dot in study.roofs]
    low_x, high_x = 10 ** math.floor(math.log10(min(intensities))), 10 ** math.ceil(math.log10(max(intensities)))
    low_y, high_y = (
        10 ** math.floor(math.log10(min(speeds))),
        10 ** (math.ceil(10 * math.log10(1.2 * max(*speeds, roof.peak))) / 10),
    )
    x, y = _log_scale(low_x, high_x, _LEFT, width - _RIGHT), _log_scale(low_y, high_y, height - _BOTTOM, _TOP)
    marks = []
    for dot in sorted(study.roofs, key=lambda dot: -dot.share):
        size = round(3 + 30 * math.sqrt(dot.share), 1)
        words = f", {dot.winograd}" if dot.winograd else ""
        title = f"{dot.name}{words}: {dot.speed / 1e9:.1f} GFLOP/s, {dot.intensity:.1f} FLOP per byte, {dot.share:.1%} of the time"
        kind = {"": "plain", "executed": "executed", "by definition": "definition"}[dot.winograd]
        marks.append(Mark(_on(x, dot.intensity), _on(y, dot.speed), size, size, kind, title))
    ridge = roof.peak / roof.bandwidth
    line = [(_on(x, high_x), _on(y, roof.peak))]
    if low_x < ridge < high_x:
        line.append((_on(x, ridge), _on(y, roof.peak)))
        at = max(low_x, low_y / roof.bandwidth)
        line.append((_on(x, at), _on(y, at * roof.bandwidth)))
    else:
        line.append((_on(x, low_x), _on(y, min(roof.peak, max(low_y, low_x * roof.bandwidth)))))
    across = [Tick(_on(x, 10.0**n), 10.0**n, "value") for n in _powers(low_x, high_x)]
    up = [Tick(_on(y, 10.0**n), 10.0**n / 1e9, "value") for n in _powers(low_y, high_y)]
    return _chart(width, height, across, up, marks, line)


def _powers(low: float, high: float) -> range:
    return range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)


def memory_chart(study: MemoryStudy, width: int = 720, height: int = 320) -> Chart:
    """The plan's steps across, the arena's bytes up: one block for each stretch of it."""
    steps = max(len(study.steps), 1)
    top = max(study.arena_bytes, 1)
    per_step = (width - _LEFT - _RIGHT) / steps
    per_byte = (height - _TOP - _BOTTOM) / top
    marks = [
        Mark(
            round(_LEFT + block.first * per_step, 1),
            round(height - _BOTTOM - (block.offset + block.bytes) * per_byte, 1),
            round((block.last - block.first + 1) * per_step, 1),
            round(block.bytes * per_byte, 1),
            f"tone{number % 4}",
            f"{block.producer}: {block.bytes:,} bytes, steps {block.first} to {block.last}, read by {', '.join(block.consumers)}",
        )
        for number, block in enumerate(block for block in study.blocks if block.where == "arena")
    ]
    every = max(1, round(steps / 8))
    across = [Tick(round(_LEFT + (n + 0.5) * per_step, 1), n, "count") for n in range(0, steps, every)]
    up = [Tick(round(height - _BOTTOM - top * part / 4 * per_byte, 1), top * part / 4, "bytes") for part in range(1, 5)]
    return _chart(width, height, across, up, marks)


def strips(study: ErrorsStudy) -> tuple[list[Strip], tuple[float, float]]:
    """Errors through the network as shades, and the errors that the palest and the fullest stand for."""
    errors = {name: [getattr(row, name) for row in study.growth] for name in ("im2col", "direct", "auto")}
    every = [value for values in errors.values() for value in values if 0 < value < math.inf] or [1.0]
    low, high = min(every), max(every)

    def shade(value: float) -> float:
        if not 0 < value < math.inf:
            return 0.0 if value == 0 else 1.0
        return round(math.log(value / low) / math.log(high / low), 3) if high > low else 0.0

    found = []
    for name, values in errors.items():
        titles = [f"{row.name}: {value:.1e}" for row, value in zip(study.growth, values, strict=True)]
        found.append(Strip(name, [shade(value) for value in values], titles))
    return found, (low, high)
