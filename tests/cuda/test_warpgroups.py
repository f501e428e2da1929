"""Products of warp groups in the simulator: matrices by their 64 bits, as the PTX ISA has them; and that whatever is wrong about them,
or about the order of things, gives wrong numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numba import cuda, float32, int32

from npresnet.kernels.cuda.launch import SIMULATED

if not SIMULATED:
    pytest.skip("a card has these instructions itself", allow_module_level=True)

from npresnet.cuda import trial
from npresnet.cuda.card import open_card
from npresnet.kernels.cuda import wgmma as kernels
from npresnet.kernels.cuda.ptx import copies_commit, copies_wait, copy4_async
from npresnet.kernels.cuda.warpgroups import (
    BASE,
    GROUP,
    PATTERN,
    SWIZZLED,
    async_fence,
    decoded,
    shared_address,
    wgmma,
    wgmma_commit,
    wgmma_fence,
    wgmma_wait,
)
from npresnet.kernels.cuda.wgmma import WARPGROUP_TILES
from npresnet.verify.compare import compare

from .test_fused import LIMITS, area, convolution, expected, run

ROWS, K = np.arange(16)[:, None], np.arange(8)
AT = 2 * PATTERN  # where the examples begin, in bytes


def described(swizzling, leading, stride, begin=AT):
    return begin // 16 | leading // 16 << 16 | stride // 16 << 32 | swizzling << 62


def swizzled(places, bits):
    """Swizzle<bits, 4, 3> of CuTe, on addresses in bytes."""
    return places ^ (places >> 3 & (1 << bits) - 1 << 4)


@pytest.mark.parametrize(
    ("description", "layout", "bits"),
    [
        # "K-Major, no-swizzling and tf32 type": Swizzle<0,4,3> o ((8,2),(4,4)):((4,32),(1,64))
        (described(0, 64 * 4, 32 * 4), ROWS % 8 * 4 + ROWS // 8 * 32 + K % 4 + K // 4 * 64, 0),
        # "K-Major, 32B swizzling and tf32 type": Swizzle<1,4,3> o ((8,2),(4,4)):((8,64),(1,4))
        (described(3, 16, 64 * 4), ROWS % 8 * 8 + ROWS // 8 * 64 + K % 4 + K // 4 * 4, 1),
        # by the table of canonical layouts: ((8,m),(T,2k)):((4T,SBO),(1,T)) and ((8,m),(T,2k)):((8T,SBO),(1,T)), T = 4
        (described(2, 16, 128 * 4), ROWS % 8 * 16 + ROWS // 8 * 128 + K, 2),
        (described(1, 16, 256 * 4), ROWS % 8 * 32 + ROWS // 8 * 256 + K, 3),
        (SWIZZLED | AT // 16, ROWS * 32 + K, 3),
        (SWIZZLED | AT // 16 + 4, ROWS * 32 + 16 + K, 3),  # two products further along the row
    ],
)
def test_matrices_of_the_isa(description, layout, bits):
    np.testing.assert_array_equal(decoded(description, 16), (swizzled(AT + 4 * layout, bits) - BASE) // 4)


# One product ---------------------------------------------------------------------------------------------------------

N = 24


def one_product(a, b, c, description, order):
    """c[64, N] = a[64, 8] @ b[N, 8].T, each thread with what is its own; ``order``: what is left out, or done too early."""
    shared = cuda.shared.array(0, float32)
    sums = cuda.local.array(N // 2, float32)
    thread = cuda.threadIdx.x
    start = (-shared_address(shared, 0) & PATTERN - 1) // 4
    sums[:] = float32(0)
    for array, first in ((a, start), (b, start + 64 * 32)):
        for at in range(thread * 4, array.size, GROUP * 4):
            row, k = at // 8, at % 8
            copy4_async(shared, first + row * 32 + (k // 4 ^ row % 8) * 4, array, at, True)
    copies_commit()
    copies_wait(0)
    if order != "no fence of the copies":
        async_fence()
    cuda.syncthreads()
    if order == "written after the fence":
        shared[start + thread] = float32(1)
        cuda.syncthreads()
    if order != "no fence":
        wgmma_fence(sums, N // 2)
    there = (shared_address(shared, int32(start + place)) // 16 for place in (0, 64 * 32))
    wgmma(sums, shared, *(description | each for each in there), N)
    if order != "no group":
        wgmma_commit()
    if order == "written before the wait":
        shared[start + thread] = float32(1)
    if order != "no wait":
        wgmma_wait(sums, N // 2, 0)
    for i in range(N // 2):
        row, column = thread // 32 * 16 + i // 2 % 2 * 8 + thread % 32 // 4, i // 4 * 8 + thread % 4 * 2 + i % 2
        c[row * N + column] = sums[i]


def product(description=SWIZZLED, order=""):
    """(what one product gives, what it is)"""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-9, 10, (rows, 8)).astype(np.float32) for rows in (64, N))
    c = np.full(64 * N, np.nan, np.float32)
    cuda.jit(one_product)[1, GROUP, 0, 4 * 32 * (64 + N) + PATTERN](a.reshape(-1), b.reshape(-1), c, description, order)
    return c.reshape(64, N), a @ b.T


def test_a_product():
    np.testing.assert_array_equal(*product())


@pytest.mark.parametrize(
    "order",
    ["no fence of the copies", "written after the fence", "no group", "written before the wait", "no wait"],
)
def test_an_order_that_is_wrong_shows(order):
    assert np.isnan(product(order=order)[0]).any()


def test_a_fence_that_is_missing_is_an_error():
    with pytest.raises(AssertionError, match="a product before wgmma_fence"):
        product(order="no fence")


@pytest.mark.parametrize(
    "wrong",
    [
        SWIZZLED ^ 1 << 62,  # none
        SWIZZLED ^ 3 << 62,  # by 64 bytes
        SWIZZLED | 3 << 62,  # by 32 bytes
        SWIZZLED ^ 1 << 38 | 32 << 32,  # 512 bytes to the next eight rows
        SWIZZLED ^ 1 << 38 | 128 << 32,  # 2048
    ],
    ids=hex,
)
def test_bits_that_are_wrong_show(wrong):
    found, right = product(wrong)
    assert not np.isclose(found, right).all()


def test_a_leading_offset_is_not_looked_at():
    np.testing.assert_array_equal(*product(SWIZZLED ^ 7 << 16))


# The kernel ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def agrees():
    """Whether a convolution with more turns than there are tiles in shared memory comes out rightly."""
    tile = min(WARPGROUP_TILES, key=area)
    x, w, bias, size = convolution((1, 10, 7, 20), (3, 3), 1, "same", 44)
    assert size.depth > tile.bk * tile.stages
    right = expected(x, w, bias, 1, "same")
    return lambda: compare(run(tile, 1, x, w, bias, size), right).agrees(LIMITS["tf32"], 1e-2)


def test_what_is_wrong_in_the_kernel_shows(agrees, monkeypatch):
    """One thing after the other; all that is done is right again at the end."""
    multiply, wait, address = kernels.wgmma, kernels.wgmma_wait, kernels.shared_address

    def always_the_first(sums, shared, a, b, n):
        multiply(sums, shared, a & ~7, b & ~7, n)

    def one_turn_later(sums, count, but):
        wait(sums, count, 2 * but)

    def past_the_pattern(shared, index):
        return address(shared, index) + 16

    for name, wrong in (
        ("wgmma", always_the_first),
        ("wgmma_wait", one_turn_later),
        ("shared_address", past_the_pattern),
        ("SWIZZLED", SWIZZLED ^ 3 << 62),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(kernels, name, wrong)
            assert not agrees(), f"{name}: {wrong}"
    assert agrees()


def test_what_is_tried_on_a_card(monkeypatch):
    """Fewer and smaller products than there."""
    tile = min(WARPGROUP_TILES, key=area)
    monkeypatch.setattr(trial, "WARPGROUP_TILES", [tile])
    monkeypatch.setattr(trial, "_LARGE", (1, 5, 6, 12, 3, 3, 1, 1, 1, 1, 5, 6, 20))
    monkeypatch.setattr(trial, "_RUNS", 2)
    card = open_card(0)
    (attempt,) = trial.attempts(card)
    assert attempt.problem == ""
    assert attempt.large < 1e-6 < 1e-5 < attempt.small


def test_tiles_fit():
    """227 KB are what a block may have at most: CUDA Programming Guide, compute capability 9.0."""
    for tile in WARPGROUP_TILES:
        assert tile.threads % GROUP == 0
        assert tile.stages >= 3
        assert tile.shared <= 227 * 1024
