"""Whether all that a plan's steps read and write lies inside their maps: a check of a plan as data, for tests and for doubt.

Compiled steps check nothing; they trust the plan that told them where to read and write. ``check_bounds`` does for each step what
its loop would do, in numbers: the first and the last byte of each map that it touches must lie within the stretch of memory that
the map is in, and that stretch must be the step's at the time, and hold what the step is to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from ..kernels.activation import ActivationStep
from ..kernels.avgpool import AvgPoolStep, MeanStep
from ..kernels.channel_reduce import ChannelReduceStep
from ..kernels.channels import ChannelsStep
from ..kernels.combine import CombineStep, Operand
from ..kernels.conv2d_transpose import Col2imStep
from ..kernels.crop_and_resize import CropAndResizeStep
from ..kernels.geometry import Window
from ..kernels.globalmaxpool import GlobalMaxPoolStep
from ..kernels.groupnorm import GroupNormStep
from ..kernels.maxpool import MaxPoolStep
from ..kernels.mold import MoldStep
from ..kernels.paste_masks import PasteMaskStep
from ..kernels.resize import ResizeStep
from ..kernels.scale import AffineStep
from ..kernels.softmax import SoftmaxStep
from ..kernels.steps.epilogue import Epilogue
from ..kernels.steps.grouped import GroupedStep
from ..kernels.steps.grouped_lanes import GroupedLanesStep
from ..kernels.steps.grouped_winograd import GroupedWinogradStep
from ..kernels.steps.im2col import CopyStep, Im2colStep, Patches
from ..kernels.steps.phases import PhasesStep
from ..kernels.steps.pointwise import PointwiseStep
from ..kernels.steps.records import Address, Map, Step, places
from ..kernels.steps.winograd import InputTiles, OutputTiles, WinogradInStep, WinogradOutStep, WinogradStep, v_bytes
from ..kernels.unitnorm import UnitNormStep
from .building import ARENA, GIVEN, ZEROS, InMemory, Packed
from .by_plan import Plan

__all__ = ["check_bounds", "touched"]

Touched = tuple[Map, int]
"""A map, and how many of its pixels, from the first on, a step may touch."""


def check_bounds(plan: Plan) -> None:
    """Raises AssertionError where a step of ``plan`` would touch memory outside its maps."""
    sizes, begun = _sizes(plan), _begun(plan)
    for index, step in enumerate(plan.records):
        for place in places(step):  # what lies in an output until that is written
            if isinstance(place, InMemory) and place.buffer is not None and place.buffer.room is not None:
                assert index <= place.buffer.last < begun[place.buffer.room.stretch], (step, place)
        for what, pixels in touched(step):
            assert pixels > 0, (step, what)
            assert what.channels > 0, (step, what)
            assert what.pitch == 0 or what.pitch >= 4 * what.channels, (step, what)
            _check(step, index, what.address, (pixels - 1) * what.pitch + 4 * what.channels, sizes)
        for address, size in _stretches(step):
            _check(step, index, address, size, sizes)
    _check_contents(plan)


def _check_contents(plan: Plan) -> None:
    """What a step reads in the arena, a step before it has written that makes one of its inputs, or a part of its own work; and
    nobody has written anything else there since."""
    held: dict[int, set[str]] = {}  # by buffer: several where they are parts of a whole
    for step, record in zip(plan.steps, plan.records, strict=True):
        wanted = {step.output, *step.inputs}
        (made,), (added,) = _buffers([_made_at(record)]) or [0], _buffers([_added_at(record)]) or [0]
        for buffer in {*_buffers(places(record))} - ({made} - {added}):
            names = held.get(buffer, set())
            assert any(name in wanted or name.rpartition("/")[0] in wanted for name in names), (step, names)
        held[made] = {step.output} if made == added else {step.output, *held.get(made, ())}


def _buffers(addresses: Iterable[Address]) -> list[int]:
    return [id(place.buffer) for place in addresses if isinstance(place, InMemory) and place.buffer]


def _made_at(step: Step) -> Address:
    """Where a step's result begins."""
    match step:
        case WinogradInStep():
            return step.v
        case PointwiseStep() | Im2colStep():
            return step.product.out.address
        case WinogradStep() | WinogradOutStep():
            return step.made.out.address
    out: Map = step.out  # type: ignore[attr-defined]
    return out.address


def _added_at(step: Step) -> Address:
    """Where what a step adds to its result begins; 0 where there is none."""
    part: Any = step.product if isinstance(step, PointwiseStep | Im2colStep) else getattr(step, "made", step)
    epilogue: Epilogue | None = getattr(part, "epilogue", None)
    return epilogue.residual.address if epilogue else 0


def _check(step: Step, index: int, address: Address, size: int, sizes: dict[int, int]) -> None:
    assert isinstance(address, InMemory), (step, address)
    stretch, _ = address.placed
    room = sizes[stretch]
    buffer = address.buffer
    assert (buffer is not None) == (address.stretch == ARENA), (step, address)
    if buffer is not None:
        assert buffer.first <= index <= buffer.last, (step, buffer)
        assert 0 <= buffer.offset <= room - buffer.size, (step, buffer)
        room = buffer.size
    assert 0 <= address.offset <= room - size, (step, address, size, room)


def _begun(plan: Plan) -> dict[int, int]:
    """{stretch of memory other than the arena: the first step that touches it}."""
    found: dict[int, int] = {}
    for index, step in enumerate(plan.records):
        for place in places(step):
            if isinstance(place, InMemory) and place.buffer is None:
                found.setdefault(place.stretch, index)
    return found


def _sizes(plan: Plan) -> dict[int, int]:
    """{stretch of memory: its bytes}."""
    given = [*plan.inputs.values(), *plan.outputs.values()]
    bytes_of = {GIVEN + number: 4 * plan.batch[0] * math.prod(shape) for number, shape in enumerate(given)}
    return {ARENA: plan.arena_bytes, ZEROS: plan.zeros_bytes, **bytes_of}


def touched(step: Step) -> list[Touched]:
    """The maps that a step reads and writes. Raises TypeError for a kind of step that is not known here."""
    return list(_touched(step))


def _touched(step: Step) -> Iterator[Touched]:
    match step:
        case GroupNormStep():
            shared = [one for one in (step.gamma, step.beta) if one.pitch]
            assert all(isinstance(one.address, Packed) for one in (step.gamma, step.beta)), step
            assert all(one.pitch == 4 * step.x.channels for one in shared), step
            yield from ((one, step.images * step.pixels) for one in (step.x, step.out))
        case ActivationStep() | ChannelReduceStep() | ChannelsStep() | SoftmaxStep() | UnitNormStep():
            yield from ((step.x, step.pixels), (step.out, step.pixels))
        case AffineStep():
            yield from ((step.x, step.pixels), *_finished(step.out, step.epilogue, step.pixels))
        case CombineStep():
            yield from _finished(step.out, step.epilogue, step.n * step.height * step.width)
        case MeanStep() | GlobalMaxPoolStep():
            yield from ((step.x, step.n * step.pixels), (step.out, step.n))
        case AvgPoolStep() | MaxPoolStep():
            _check_window(step.window)
            yield from ((step.x, step.n * step.height * step.width), (step.out, step.n * _positions(step.window)))
        case ResizeStep():
            yield from (
                (step.x, step.n * step.height * step.width),
                (step.out, step.n * step.rows * step.columns),
            )
        case CropAndResizeStep():
            yield from (
                (step.x, step.count * step.height * step.width),
                (step.out, step.count * step.each * step.rows * step.columns),
            )
        case PasteMaskStep() | MoldStep():  # which have no maps
            pass
        case Col2imStep():
            _check_window(step.window)
            yield step.x, step.n * _positions(step.window)
            yield from _finished(step.out, step.epilogue, step.n * step.height * step.width)
        case GroupedStep() | GroupedLanesStep():
            _check_window(step.window)
            yield step.x, step.n * step.height * step.width
            yield from _finished(step.out, step.epilogue, step.n * _positions(step.window))
        case GroupedWinogradStep():
            yield step.x, step.n * step.height * step.width
            yield from _finished(step.out, step.epilogue, step.n * step.height * step.width)
        case PointwiseStep():
            yield step.x, step.rows
            yield from _finished(step.product.out, step.product.epilogue, step.rows)
        case Im2colStep():
            yield _read(step.patches, step.rows)
            yield from _finished(step.product.out, step.product.epilogue, step.rows)
        case PhasesStep():
            yield _read(step.patches, step.n * _positions(step.patches.window))
            yield from _finished(step.out, step.epilogue, step.n * _positions(step.patches.window))
        case CopyStep():
            yield from (_read(step.patches, step.rows), (step.out, step.rows))
        case WinogradStep():
            yield _given(step.given)
            yield from _made(step.made)
        case WinogradInStep():
            yield _given(step.given)
        case WinogradOutStep():
            yield from _made(step.made)
        case _:
            raise TypeError(f"{type(step).__name__}: what it touches is not known; say it in {__name__}")


def _stretches(step: Step) -> Iterator[tuple[Address, int]]:
    """What a step reads or writes beside maps, with its bytes; packed weights are not among it."""
    match step:
        case CombineStep():
            for operand in (step.a, step.b):
                if not isinstance(operand.map.address, Packed):  # weights are as many as they were packed for
                    yield operand.map.address, _extent(operand, step)
        case CropAndResizeStep():
            yield step.boxes, 16 * step.count * step.each
        case PasteMaskStep():
            yield step.masks, 4 * step.count * step.rows * step.columns
            yield step.boxes, 32 * step.count
            yield step.out, step.count * step.height * step.width
        case MoldStep():
            yield step.picture, step.height * step.width * step.channels
            yield step.out, 4 * step.rows * step.columns * step.channels
            yield step.mean, 8 * step.channels
            for at, share, count in (
                (step.y, step.y_share, step.y2 - step.y1),
                (step.x, step.x_share, step.x2 - step.x1),
            ):
                yield from ((at, 16 * count), (share, 16 * count))
        case WinogradInStep():
            yield step.v, v_bytes(step.given.m, step.given.tiles, step.given.x.channels)
        case WinogradOutStep():
            yield step.v, v_bytes(step.made.m, step.made.tiles, step.made.channels)


def _extent(operand: Operand, step: CombineStep) -> int:
    """Bytes from the beginning of a map that is joined with another, of which it may have a part."""
    assert operand.map.channels in (1, step.out.channels), step
    steps = ((step.n, operand.image), (step.height, operand.row), (step.width, operand.map.pitch))
    assert all(pitch >= 0 for _, pitch in steps), step
    return sum((count - 1) * pitch for count, pitch in steps) + 4 * operand.map.channels


def _finished(out: Map, epilogue: Epilogue, pixels: int) -> Iterator[Touched]:
    """What is written, and what is added to it."""
    yield out, pixels
    assert epilogue.residual.channels >= out.channels, (out, epilogue)
    yield epilogue.residual, pixels


def _given(tiles: InputTiles) -> Touched:
    return tiles.x, tiles.n * tiles.height * tiles.width


def _made(tiles: OutputTiles) -> Iterator[Touched]:
    yield from _finished(tiles.out, tiles.epilogue, tiles.n * tiles.height * tiles.width)


def _read(patches: Patches, rows: int) -> Touched:
    """A window reads what lies in the images, and takes the rest for zeros."""
    _check_window(patches.window)
    assert rows % _positions(patches.window) == 0, (patches, rows)
    return patches.x, rows // _positions(patches.window) * patches.height * patches.width


def _positions(window: Window) -> int:
    return window.ho * window.wo


def _check_window(window: Window) -> None:
    """Loops over a window count upwards, by at least one."""
    assert min(window.kh, window.kw, window.sh, window.sw, window.dh, window.dw, window.ho, window.wo) >= 1, window
