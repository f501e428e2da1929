"""The kernels of planned networks: every tile, split and finish, against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import cuda, float32

from npresnet.kernels import conv2d_reference, maxpool_reference, pad_reference
from npresnet.kernels.cuda import fused, stem, winograd
from npresnet.kernels.cuda.implicit import TILES, Tile
from npresnet.kernels.cuda.launch import SIMULATED
from npresnet.kernels.cuda.ptx import copies_commit, copies_wait, copy4_async
from npresnet.kernels.cuda.tensor import TENSOR_TILES, TensorTile, tf32_weights
from npresnet.kernels.cuda.wgmma import WARPGROUP_TILES
from npresnet.kernels.geometry import window
from npresnet.kernels.winograd import transform_kernel
from npresnet.verify.compare import compare

from ..support.cases import numbers

LIMITS = {"fp32": 5e-7, "3xtf32": 5e-7, "tf32": 1e-3}  # worst seen: 2.4e-7, 1.2e-7, 3.4e-4


def precision_of(tile):
    return "fp32" if isinstance(tile, Tile) else "3xtf32" if isinstance(tile, TensorTile) and tile.exact else "tf32"


def area(tile):
    return tile.bm * tile.bn


def on_card(array):
    return cuda.to_device(np.ascontiguousarray(array, np.float32).reshape(-1))


def empty(count):
    """Memory full of NaN: what is not written shows."""
    return on_card(np.full(count, np.nan))


def convolution(images, kernel, stride, padding, co):
    """(x, w, bias, sizes) of a convolution with seeded numbers."""
    x = numbers(("x", images, kernel), images)
    w = numbers(("w", images, kernel, co), (*kernel, images[3], co))
    geometry = window(images[1:3], kernel, stride, padding, 1)
    kh, kw, sh, sw, _, _, top, left, ho, wo = geometry
    return x, w, numbers("b", (co,)), fused.Convolution(*images, kh, kw, sh, sw, top, left, ho, wo, co)


def stored(w, tile):
    """A kernel as the tile's kernel takes it."""
    flat = w.reshape(-1, w.shape[3])
    if isinstance(tile, Tile):
        return flat
    transposed = np.ascontiguousarray(flat.T)
    return tf32_weights(transposed) if precision_of(tile) == "tf32" else transposed


def run(tile, splits, x, w, bias, size, residual=None, relu=False):
    count = size.rows * size.co
    out = empty(count)
    more = None if residual is None else on_card(residual)
    fused.convolve(
        0,
        tile,
        splits,
        size,
        on_card(x),
        on_card(stored(w, tile)),
        on_card(bias),
        more,
        relu,
        empty(splits * count),
        out,
    )
    return out.copy_to_host().reshape(size.n, size.ho, size.wo, size.co)


def expected(x, w, bias, stride, padding, residual=None, relu=False):
    y = conv2d_reference(*(a.astype(np.float64) for a in (x, w, bias)), stride=stride, padding=padding)
    y = y if residual is None else y + residual
    return np.maximum(y, 0) if relu else y


# a tile's edges in both directions, 3x3 and 1x1, channels that are no multiple of a tile's steps
SMALL: list[tuple[Any, ...]] = [
    ((1, 9, 7, 8), (3, 3), 1, "same", 12, 1, True, True),
    ((2, 5, 5, 12), (3, 3), 2, "same", 8, 2, False, True),
    ((2, 4, 3, 4), (7, 7), 2, 3, 4, 1, False, False),
    ((1, 6, 5, 36), (1, 1), 2, "valid", 36, 3, True, False),
]


@pytest.mark.parametrize("tile", [min(TILES, key=area), min(WARPGROUP_TILES, key=area)], ids=str)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_convolution(case, tile):
    images, kernel, stride, padding, co, splits, add, relu = case
    x, w, bias, size = convolution(images, kernel, stride, padding, co)
    residual = numbers("r", (size.n, size.ho, size.wo, co)) if add else None
    y = run(tile, splits, x, w, bias, size, residual, relu)
    difference = compare(y, expected(x, w, bias, stride, padding, residual, relu))
    assert difference.agrees(LIMITS[precision_of(tile)], 1e-2), difference


@pytest.mark.parametrize(
    ("tile", "deep"),
    [
        *((tile, deep) for tile in (*TILES, *TENSOR_TILES, min(WARPGROUP_TILES, key=area)) for deep in (True, False)),
        *((tile, True) for tile in WARPGROUP_TILES if tile != min(WARPGROUP_TILES, key=area)),
    ],
    ids=lambda value: {True: "deep", False: "shallow"}.get(value, str(value)),
)
def test_every_tile(tile, deep):
    """More turns than buffers, two taps, and a sum that ends within a tile's steps of k, within one tile; and fewer turns than
    buffers, with a full tile and one that is not in each direction."""
    stages = 2 if isinstance(tile, Tile) else tile.stages
    rows, co = (tile.bm - 3, tile.bn - 4) if deep else (tile.bm + 1, tile.bn + 4)
    taps, ci = (2, stages * tile.bk // 2 + 4) if deep else (1, 4)
    x, w, bias, size = convolution((1, 1, rows + taps - 1, ci), (1, taps), 1, "valid", co)
    difference = compare(run(tile, 1, x, w, bias, size, relu=True), expected(x, w, bias, 1, "valid", relu=True))
    assert difference.agrees(LIMITS[precision_of(tile)], 1e-2), difference
    if precision_of(tile) == "tf32":
        assert difference.relative > 1e-5, "this is more than tf32 can know"


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values(special):
    """They come out where the definition has them."""
    x, w, bias, size = convolution((1, 5, 5, 4), (3, 3), 1, "same", 4)
    x[0, 1, 2, 3] = special
    tile = min(TILES, key=area)
    y = run(tile, 1, x, w, bias, size, relu=True)
    with np.errstate(invalid="ignore"):
        reference = expected(x, w, bias, 1, "same")
        reference = np.where(reference < 0, 0, reference)
    assert compare(y, reference).agrees(LIMITS["fp32"])


def test_multiply_many():
    a, b = numbers("a", (3, 7, 20)), numbers("b", (3, 20, 12))
    c = empty(3 * 7 * 12)
    tile = min(TILES, key=area)
    fused.multiply_many(0, tile, 3, 7, 20, 12, on_card(a), on_card(b), c)
    assert compare(c.copy_to_host().reshape(3, 7, 12), np.matmul(a.astype(np.float64), b)).agrees(LIMITS["fp32"])


@pytest.mark.parametrize(
    ("images", "co", "add", "relu", "parts"),
    [((1, 5, 6, 4), 8, True, True, 1), ((2, 4, 3, 8), 4, False, False, 2), ((1, 9, 3, 4), 4, True, False, 2)],
)
def test_winograd(images, co, add, relu, parts):
    """Also with the tiles in parts, the last of which is smaller."""
    x, w, bias, size = convolution(images, (3, 3), 1, "same", co)
    residual = numbers("r", (*images[:3], co)) if add else None
    tiles = -(-winograd.tiles_of(size) // parts)
    out = empty(size.rows * co)
    tile = min(TILES, key=area)
    winograd.winograd(
        0, tile, parts, size, on_card(x), on_card(transform_kernel(w, 4)), on_card(bias),
        None if residual is None else on_card(residual), relu,
        empty(36 * tiles * size.ci), empty(36 * tiles * co), out,
    )  # fmt: skip
    difference = compare(out.copy_to_host().reshape(*images[:3], co), expected(x, w, bias, 1, "same", residual, relu))
    assert difference.agrees(2e-6), difference  # worst seen: 4e-7


@pytest.mark.parametrize(("add", "relu"), [(True, True), (False, False)])
def test_affine(add, relu):
    x, scale, shift, residual = numbers("x", (2, 3, 8)), numbers("f", (8,)), numbers("s", (8,)), numbers("r", (2, 3, 8))
    out = empty(x.size)
    fused.affine(0, *map(on_card, (x, scale, shift)), on_card(residual) if add else None, relu, out)
    reference = x.astype(np.float64) * scale + shift + (residual if add else 0)
    reference = np.maximum(reference, 0) if relu else reference
    assert compare(out.copy_to_host().reshape(x.shape), reference).agrees(3e-7)


@pytest.mark.parametrize("zeros", [False, True])
def test_maxpool(zeros):
    """All numbers are negative: zeros of the border win where they take part."""
    x = numbers("pool", (2, 5, 6, 4), "negative")
    geometry = window((5, 6), (3, 3), 2, 1, 1)
    out = empty(2 * geometry[-2] * geometry[-1] * 4)
    fused.maxpool(0, on_card(x), (5, 6, 4), geometry, zeros, out)
    padded = pad_reference(x, 1, 0.0 if zeros else -np.inf)
    np.testing.assert_array_equal(
        out.copy_to_host().reshape(2, *geometry[-2:], 4), maxpool_reference(padded, 3, stride=2)
    )
    assert zeros == bool((out.copy_to_host() == 0).any())


# (images, zeros around them; window of the pool: padding, whether it takes part; channels, ReLU, units of, strips of)
STEMS: list[tuple[Any, ...]] = [
    ((1, 13, 9), 3, 1, True, 8, False, 4, 1),  # Keras's V2: zeros win, for nothing else is above them
    ((2, 10, 19), 3, "same", False, 4, True, 4, 2),  # more than one unit across
    ((1, 11, 9), "same", "valid", False, 68, True, 7, 3),  # more than 64 channels
    ((1, 7, 31), 0, 1, True, 4, True, 7, 8),
]


@pytest.mark.parametrize("case", STEMS, ids=str)
def test_stem(case):
    images, padding, around, zeros, co, relu, width, rows = case
    x, w, bias, size = convolution((*images, 3), (7, 7), 2, padding, co)
    if not relu:
        bias = bias - 30  # so that all is negative
    geometry = window((size.ho, size.wo), (3, 3), 2, around, 1)
    sizes = stem.Stem(*images, size.top, size.left, size.ho, size.wo, *geometry[6:], co, zeros)
    out = empty(size.n * sizes.po * sizes.qo * co)
    planes = empty(np.prod(stem.planes_shape(sizes, width)))
    stem.stem(0, width, rows, sizes, on_card(x), on_card(w), on_card(bias), relu, planes, out)
    y = expected(x, w, bias, 2, padding, relu=relu)
    if zeros:
        y, around = pad_reference(y, 1), "valid"
    difference = compare(
        out.copy_to_host().reshape(size.n, sizes.po, sizes.qo, co), maxpool_reference(y, 3, stride=2, padding=around)
    )
    assert difference.agrees(LIMITS["fp32"]), difference
    if zeros and not relu:
        assert (y < 0).any()
        assert (out.copy_to_host() == 0).any()


def test_stem_and_nan():
    """A NaN in the image reaches whatever looks at it, and never wins in the pool."""
    x, w, bias, size = convolution((1, 9, 20, 3), (7, 7), 2, 3, 4)
    x[0, 4, 17, 1] = np.nan
    sizes = stem.Stem(1, 9, 20, 3, 3, size.ho, size.wo, 0, 0, 2, 4, 4, False)
    out, planes = empty(2 * 4 * 4), empty(np.prod(stem.planes_shape(sizes, 4)))
    stem.stem(0, 4, 1, sizes, on_card(x), on_card(w), on_card(bias), True, planes, out)
    y = conv2d_reference(x, w, bias, stride=2, padding=3)
    assert np.isnan(y).any()
    difference = compare(out.copy_to_host().reshape(1, 2, 4, 4), maxpool_reference(np.where(y < 0, 0, y), 3, stride=2))
    assert difference.agrees(LIMITS["fp32"]), difference


@pytest.mark.parametrize(("given", "wanted"), [(3, 4), (12, 10)])
def test_set_channels(given, wanted):
    x = numbers("channels", (2, 3, given))
    out = empty(6 * wanted)
    fused.set_channels(0, on_card(x), given, out, wanted)
    both = min(given, wanted)
    result = out.copy_to_host().reshape(2, 3, wanted)
    np.testing.assert_array_equal(result[..., :both], x[..., :both])
    assert not result[..., both:].any()


def test_nan_images():
    """Infinity is none, and earlier findings stay."""
    x = numbers("nan", (4, 300))
    x[1, 299], x[2, 0], x[3, 5] = np.nan, np.inf, np.nan
    found = on_card([0.0, 0.0, 0.0, 1.0])
    fused.nan_images(0, on_card(x), 4, found)
    np.testing.assert_array_equal(found.copy_to_host(), [0, 1, 0, 1])
    fused.clear(0, found)
    assert not found.copy_to_host().any()


def test_noise():
    """Numbers that look random: all other, as often below zero as above, and as far from it as they should be."""
    found = empty(3000)
    fused.noise(0, found)
    array = found.copy_to_host()
    assert len(np.unique(array)) > 2990
    assert np.abs(array).max() <= 1
    assert abs(array.mean()) < 0.05
    assert abs(array.std() - 1 / np.sqrt(3)) < 0.02
    assert np.abs(np.corrcoef(array[:-1], array[1:])[0, 1]) < 0.1


# The simulator sees copies that are not awaited -------------------------------------------------------------------------


def relay(x, out, ahead, buffers, commit, but):
    """Vectors of four through shared memory, copies ``ahead`` of them before they are read: the order of ``tensor.py``."""
    shared = cuda.shared.array(16, float32)
    count = x.size // 4
    for turn in range(-ahead, count):
        copies_wait(but)
        begun = turn + ahead
        if begun < count:
            copy4_async(shared, begun % buffers * 4, x, begun * 4, True)
        if commit:
            copies_commit()
        if turn >= 0:
            for i in range(4):
                out[4 * turn + i] = shared[turn % buffers * 4 + i]


@pytest.mark.skipif(not SIMULATED, reason="on a card they may be there all the same")
@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_copies_that_are_not_awaited(ahead):
    x = numbers("copied", (24,))

    def relayed(buffers=ahead + 1, commit=True, but=ahead - 1):
        out = empty(24)
        cuda.jit(relay)[1, 1](on_card(x), out, ahead, buffers, commit, but)
        return out.copy_to_host()

    np.testing.assert_array_equal(relayed(), x)
    assert np.isnan(relayed(but=ahead)[:4]).all(), "waited for too little"
    assert np.isnan(relayed(buffers=ahead)[:4]).all(), "a buffer was filled before it was read"
    assert np.isnan(relayed(commit=False)).all(), "waited for groups that there are not"
    np.testing.assert_array_equal(relayed(), x)  # nothing is left of those
