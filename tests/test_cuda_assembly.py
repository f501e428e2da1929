"""What the compiler makes of the kernels for cards: PTX, and machine code with its registers. No card is needed.

Three architectures: the first with all that the kernels use, a data centre's, and the newest that is installed.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import sys

import pytest

if sys.platform not in ("linux", "win32"):
    pytest.skip("numba-cuda has no wheels for this platform", allow_module_level=True)

pytest.importorskip("numba_cuda")  # which test_cuda.py asserts to be there

from numba import cuda, float32

from npresnet.kernels import cuda as on_card
from npresnet.kernels.cuda.assembly import assemble, intermediate, newest
from npresnet.kernels.cuda.launch import KERNELS, Kernel, ceil_div

for module in pkgutil.iter_modules(on_card.__path__, f"{on_card.__name__}."):
    importlib.import_module(module.name)

SHIPPED = {f"{kernel.function.__module__.rpartition('.')[2]}.{kernel.name}": kernel for kernel in KERNELS}
"""{file.kernel: that kernel}, of all files there are."""

ARCHITECTURES = ((8, 0), (9, 0), newest())

assembly = functools.cache(lambda name, capability: assemble(SHIPPED[name], capability))

every_architecture = pytest.mark.parametrize(
    "capability", ARCHITECTURES, ids=lambda capability: "sm_{}{}".format(*capability)
)

LADDER = ("add", "avgpool", "batchnorm", "conv2d", "gemm", "globalmaxpool", "grouped", "im2col", "maxpool", "multiply",
          "pad", "relu", "scale", "sigmoid", "softmax")  # fmt: skip
"""Files whose kernels take arrays of any size."""

SHARED = {
    "gemm.gemm_shared": 2 * 16 * 16 * 4,
    "gemm.gemm_tiled": 2 * 64 * 16 * 4,
    "gemm.gemm_vectorized": 2 * 2 * 128 * 8 * 4,
    "softmax.softmax": 128 * (4 + 8),
    "avgpool.global_avgpool": 8 * 32 * 8,
    "globalmaxpool.global_maxpool": 8 * 32 * 4,
    **{f"implicit.convolve_{m}x{n}": 2 * (m + n) * 16 * 4 for m, n in ((128, 128), (128, 64), (64, 64), (64, 32))},
    # rows of 16 numbers, 20 apart
    **{f"tensor.convolve_tf32_{m}x{n}": 2 * (m + n) * 20 * 4 for m, n in ((128, 128), (128, 64), (64, 64))},
    **{f"tensor.convolve_3xtf32_{m}x{n}": 2 * (m + n) * 20 * 4 for m, n in ((128, 64), (64, 64))},
}
"""Bytes of shared memory, two buffers of each tile where there are two; other kernels take none."""

# Where the compiler for the newest architecture keeps the sums in memory.
STACK = {("implicit.convolve_128x128", (12, 1)): 256, ("implicit.convolve_128x64", (12, 1)): 256}


def test_every_kernel_has_a_name_of_its_own():
    assert len(SHIPPED) == len(KERNELS) >= 38
    assert set(SHARED) <= set(SHIPPED)


@every_architecture
@pytest.mark.parametrize("name", SHIPPED)
def test_resources(name, capability):
    """Nothing spilled, no array in local memory, registers and shared memory as meant."""
    made, kernel = assembly(name, capability), SHIPPED[name]
    assert made.spills == 0
    assert made.stack <= STACK.get((name, capability), 0)
    assert made.shared <= SHARED.get(name, 0) + 1024 * (capability >= (9, 0))  # the driver reserves 1 KiB of newer ones
    assert made.shared >= SHARED.get(name, 0)
    threads, together = kernel.bounds
    registers = ceil_div(made.registers, 8) * 8  # they are handed out by eights, and an SM has 65,536
    assert registers * threads * together <= 65_536
    assert threads * together <= 1536  # what the smallest SM holds


@pytest.mark.parametrize("name", SHIPPED)
def test_intermediate_code(name):
    """PTX, as a driver would compile it; and denormal numbers are kept, as on the CPU."""
    text = intermediate(SHIPPED[name], (8, 0))
    assert ".target sm_80" in text
    assert ".visible .entry" in text
    for operation in ("add.ftz", "mul.ftz", "fma.rn.ftz", "mad.ftz", "div.full", "div.approx"):
        assert operation not in text


@every_architecture
def test_the_vectorized_product(capability):
    """16 bytes at a time from memory and from the tiles, and hardly anything but multiply-adds in the innermost loop."""
    made = assembly("gemm.gemm_vectorized", capability)
    for instruction in ("LDG.E.128", "LDS.128", "STS.128", "STG.E.128"):
        assert made.count(instruction) > 0
    assert made.count("LDG") == made.count("LDG.E.128")
    assert made.count("STG") == made.count("STG.E.128")
    loop = next(loop for loop in made.loops() if loop.count("FFMA"))  # inner ones come first
    assert loop.count("FFMA") >= 128
    assert loop.count("FFMA") >= 0.8 * sum(loop.instructions.values())


@every_architecture
@pytest.mark.parametrize("name", ["gemm.gemm_naive", "gemm.gemm_shared", "gemm.gemm_tiled", "conv2d.conv2d_direct"])
def test_products_are_multiply_adds(name, capability):
    made = assembly(name, capability)
    assert made.count("FFMA") > 0
    assert made.count("FADD") <= 16 * (name == "gemm.gemm_tiled") + 1  # the bias
    assert made.count("FMUL") == 0


@every_architecture
def test_loads_of_im2col(capability):
    made = assembly("im2col.im2col_vectors", capability)
    assert made.count("LDG") == made.count("LDG.E.128") == 1
    assert made.count("STG") == made.count("STG.E.128") == 1


@every_architecture
def test_grouped_rounds_as_the_cpu(capability):
    """Products in float32, sums in float64: no multiply-add takes both."""
    made = assembly("grouped.grouped", capability)
    assert made.count("FMUL") > 0
    assert made.count("DADD") > 0
    assert made.count("FFMA") == made.count("DFMA") == 0


@pytest.mark.parametrize(
    "name",
    ["avgpool.avgpool", "avgpool.global_avgpool", "softmax.softmax", "sigmoid.sigmoid", "batchnorm.scale_and_shift"],
)
def test_sums_in_float64(name):
    assert assembly(name, (9, 0)).count("DADD") + assembly(name, (9, 0)).count("DFMA") > 0


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kernel in SHIPPED.items()
        if name.split(".")[0] in LADDER and "grid" in kernel.function.__code__.co_names
    ],
)
def test_threads_are_counted_in_64_bits(name):
    """Block times threads, plus thread: an array of more than 2**31 elements has more threads than 32 bits count."""
    text = intermediate(SHIPPED[name], (8, 0))
    assert re.search(r"(mul|mad)\.wide\.[su]32", text)
    assert "mad.lo.s32" not in text


# The checker can fail ------------------------------------------------------------------------------------------------


@pytest.fixture
def make():
    """Makes kernels for one test, which then are forgotten."""
    before = len(KERNELS)
    yield lambda function, arguments, threads, together=1: Kernel(function, arguments, threads, together, 0)
    del KERNELS[before:]


def test_an_array_in_local_memory_is_seen(make):
    def turn_round(x, n):
        array = cuda.local.array(64, float32)
        for i in range(n):  # indices that only the run tells
            array[i] = x[i]
        for i in range(n):
            x[i] = array[n - 1 - i]

    made = assemble(make(turn_round, "vector int", 32), (9, 0))
    assert made.stack >= 64 * 4
    assert made.count("LDL") > 0


def test_spills_are_seen(make):
    """The product's kernel again, for more blocks on an SM than have room for its registers."""
    kernel = SHIPPED["gemm.gemm_vectorized"]
    made = assemble(make(kernel.function, " ".join(kernel.arguments), kernel.threads, 4), (9, 0))
    assert made.registers <= 64
    assert made.spills > 0
    loop = next(loop for loop in made.loops() if loop.count("FFMA"))
    assert loop.count("FFMA") < 0.8 * sum(loop.instructions.values())


def test_narrow_loads_are_seen():
    assert assembly("gemm.gemm_naive", (9, 0)).count("LDG.E.128") == 0
    assert assembly("gemm.gemm_naive", (9, 0)).count("LDG.E") == assembly("gemm.gemm_naive", (9, 0)).count("LDG") > 0
