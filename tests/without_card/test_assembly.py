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
from numba.cuda import compiler

from npresnet.cuda.choice import issue_share, issued_by_stem
from npresnet.kernels import cuda as on_card
from npresnet.kernels.cuda import assembly as compiled
from npresnet.kernels.cuda import fused, implicit, stem, tensor, wgmma, winograd
from npresnet.kernels.cuda.assembly import assemble, assemble_all, newest, suffix
from npresnet.kernels.cuda.launch import KERNELS, Kernel, ceil_div
from npresnet.kernels.cuda.occupancy import multiprocessor, resident_warps

for module in pkgutil.iter_modules(on_card.__path__, f"{on_card.__name__}."):
    importlib.import_module(module.name)  # so that no file's kernels are forgotten

SHIPPED = {kernel.name: kernel for kernel in KERNELS}
ARCHITECTURES = ((8, 0), (9, 0), newest())


@functools.cache
def library(kernel):
    """LLVM's code of a kernel, for every architecture: three quarters of the time go into it."""
    options = {"device": False, "abi": "numba", "launch_bounds": kernel.bounds}
    return compiler._compile_pyfunc_with_fixup(kernel.function, kernel.signature, cc=(8, 0), **options)[0]


def intermediate(kernel, capability, output="ptx", lines=False):
    """As the function of the same name that it replaces below, but Numba's part of the work is done once."""
    architecture = (*capability, suffix(kernel))
    if output == "ltoir":
        return library(kernel).get_ltoir(cc=architecture)
    (code,) = library(kernel).get_asm_strs(cc=architecture)
    return code


@pytest.fixture(autouse=True)
def _share_the_front_end(monkeypatch):
    monkeypatch.setattr(compiled, "intermediate", intermediate)


@functools.cache
def together(capability, letter):
    """{name: assembly} of all kernels that an architecture runs, with that letter behind its number or without one."""
    kernels = [each for each in SHIPPED.values() if suffix(each) == letter and each.only in (None, capability)]
    return assemble_all(kernels, capability)


def assembly(name, capability):
    return together(capability, suffix(SHIPPED[name]))[name]


every_architecture = pytest.mark.parametrize(
    "capability", ARCHITECTURES, ids=lambda capability: "sm_{}{}".format(*capability)
)

SHARED = {
    "gemm_shared": 2 * 16 * 16 * 4,
    "gemm_tiled": 2 * 64 * 16 * 4,
    "gemm_vectorized": 2 * 2 * 128 * 8 * 4,
    "groupnorm": 8 * 128,
    "unitnorm": 8 * 128,
    "softmax": 128 * (4 + 8),
    "global_avgpool": 8 * 32 * 8,
    "global_maxpool": 8 * 32 * 4,
    **{kernel.name: 7 * 7 * 3 * 64 * 4 for kernel in stem.STEMS.values()},
    **{kernel.name: 2 * (tile.bm + tile.bn) * tile.bk * 4 for tile, kernel in implicit.TILES.items()},
    **{kernel.name: tile.stages * (tile.bm + tile.bn) * tile.bk * 4 for tile, kernel in tensor.TENSOR_TILES.items()},
}
"""Bytes of static shared memory, for all buffers of each tile; other kernels take none."""


def architectures(name):
    """Those for which a kernel is looked at: those without shared memory, which are far from all limits, the newest alone."""
    if SHIPPED[name].only:
        return [SHIPPED[name].only]
    return ARCHITECTURES if name in SHARED else ARCHITECTURES[-1:]


BOUNDED = tuple(module.__name__ for module in (fused, implicit, stem, tensor, wgmma, winograd))
"""Files whose kernels count in 32 bits, and are called for arrays of so many elements only."""


def test_every_kernel_has_a_name_of_its_own():
    assert len(SHIPPED) == len(KERNELS) >= 38
    assert set(SHARED) <= set(SHIPPED)
    assert max(SHARED.values()) <= 48 * 1024  # more would have to be asked for at every launch


@pytest.mark.parametrize("name", ["gemm_vectorized", "im2col_vectors", "softmax"])
def test_alone_as_together(name, monkeypatch):
    """The same instructions where a kernel is compiled as for a card: for its architecture, and linked by itself."""
    shared = assembly(name, newest())
    monkeypatch.undo()
    alone = assemble(SHIPPED[name], newest())
    assert (alone.registers, alone.shared, alone.instructions) == (shared.registers, shared.shared, shared.instructions)
    assert [loop.total() for loop in alone.loops()] == [loop.total() for loop in shared.loops()]


@pytest.mark.parametrize(
    ("name", "capability"),
    [(name, each) for name in SHIPPED for each in architectures(name)],
    ids=str,
)
def test_resources(name, capability):
    """Nothing spilled, no array in local memory, registers and shared memory as meant."""
    made, kernel = assembly(name, capability), SHIPPED[name]
    assert made.spills == 0
    assert made.stack == 0
    assert made.shared <= SHARED.get(name, 0) + 1024 * (capability >= (9, 0))  # the driver reserves 1 KiB of newer ones
    assert made.shared >= SHARED.get(name, 0)
    threads, together = kernel.bounds
    registers = ceil_div(made.registers, 8) * 8  # they are handed out by eights, and an SM has 65,536
    assert registers * threads * together <= 65_536
    assert threads * together <= 1536  # what the smallest SM holds


@pytest.mark.parametrize("name", SHIPPED)
def test_intermediate_code(name):
    """PTX, as a driver would compile it; and denormal numbers are kept, as on the CPU."""
    major, minor = capability = SHIPPED[name].only or (8, 0)
    text = intermediate(SHIPPED[name], capability)
    assert f".target sm_{major}{minor}{suffix(SHIPPED[name])}" in text
    assert ".visible .entry" in text
    for operation in ("add.ftz", "mul.ftz", "fma.rn.ftz", "mad.ftz", "div.full", "div.approx"):
        assert operation not in text


def test_compiles_with_a_numpy_that_has_no_row_stack(run_python):
    """As 2.5 and newer, of which numba-cuda 0.30.4 does not know."""
    found = run_python("from tests import compile_kernels; compile_kernels.main()", NUMBA_ENABLE_CUDASIM="0")
    assert found.count(" registers, 0 bytes spilled") == 5


@every_architecture
def test_the_vectorized_product(capability):
    """16 bytes at a time from memory and from the tiles, and hardly anything but multiply-adds in the innermost loop."""
    made = assembly("gemm_vectorized", capability)
    for instruction in ("LDG.E.128", "LDS.128", "STS.128", "STG.E.128"):
        assert made.count(instruction) > 0
    assert made.count("LDG") == made.count("LDG.E.128")
    assert made.count("STG") == made.count("STG.E.128")
    loop = max(made.loops(), key=lambda loop: loop.count("FFMA"))
    assert loop.count("FFMA") >= 128
    assert loop.count("FFMA") >= 0.8 * loop.total()


@every_architecture
@pytest.mark.parametrize("tile", implicit.TILES, ids=str)
def test_implicit_products(tile, capability):
    """16 bytes at a time from everywhere; of what is issued in the main loop, as many are products as choices count on."""
    made = assembly(implicit.TILES[tile].name, capability)
    for instruction in ("LDG.E.128", "LDS.128", "STS.128", "STG.E.128"):
        assert made.count(instruction) > 0
    assert made.count("LDG") == made.count("LDG.E.128")
    assert made.count("STG") == made.count("STG.E.128")
    products = tile.tm * tile.tn * tile.bk
    assert products / made.issued(products) > 0.95 * issue_share(tile)


@every_architecture
@pytest.mark.parametrize("tile", tensor.TENSOR_TILES, ids=str)
def test_tensor_products(tile, capability):
    """Tensor cores, tiles copied without registers in between, fragments loaded four matrices at a time."""
    made = assembly(tensor.TENSOR_TILES[tile].name, capability)
    assert made.count("HMMA.1688.F32.TF32") > 0
    assert made.count("FFMA") == 0
    assert made.count("LDGSTS.E.BYPASS.128") == made.count("LDGSTS") > 0
    assert made.count("LDSM.16.M88.4") == made.count("LDSM") > 0
    assert made.count("LDGDEPBAR") == 1  # a group of copies ends; in each turn all but the latest groups are awaited
    assert re.findall(r"DEPBAR\.LE SB0, (0x\w+)", made.text) == [hex(tile.stages - 2), "0x0"]
    assert made.count("LDG") == made.count("LDG.E.64")  # bias and residual alone
    products = tile.wm // 16 * (tile.wn // 8) * (tile.bk // 8) * (3 if tile.exact else 1)
    enough = 0.95 if capability <= (9, 0) else 0.85  # the newest compiler spends more on addresses
    assert min(8 * products / made.issued(products, "HMMA"), 1.0) > enough * issue_share(tile)


@pytest.mark.parametrize("tile", wgmma.WARPGROUP_TILES, ids=str)
def test_products_of_warp_groups(tile):
    """Asynchronous products that add to sums where these are, one group in each turn; in the loop there is one barrier, and what was
    copied is made visible before it. Nothing waits for a product but the two waits that are written; as many blocks fit on an SM as
    is meant, by their shared memory, too."""
    kernel = wgmma.WARPGROUP_TILES[tile]
    made = assembly(kernel.name, (9, 0))
    products = re.findall(r"HGMMA\.64x(\d+)x8\.F32\.TF32 (R\d+), gdesc\[UR\d+\], (R\d+)( ?,[^;]*)?", made.text)
    assert len(products) == made.count("HGMMA") == 4
    assert {int(columns) for columns, *_ in products} == {tile.bn}
    assert len({register for _, *registers, _ in products for register in registers}) == 1
    assert [more.strip(" ,") for *_, more in products] == ["", "", "", "gsb0"]  # the last of a group
    assert made.count("WARPGROUP.ARRIVE") == 1
    assert re.findall(r"WARPGROUP\.DEPBAR\.LE gsb0, (0x\w+)", made.text) == ["0x1", "0x0"]
    assert re.findall(r"\bDEPBAR\.LE SB0, (0x\w+)", made.text) == [hex(tile.stages - 3), "0x0"]
    assert re.search(r"DEPBAR\.LE SB0.*?FENCE\.VIEW\.ASYNC.*?BAR\.SYNC.*?HGMMA.*?LDGSTS", made.text, re.DOTALL)
    assert made.count("BAR") == made.count("FENCE") == made.count("LDGDEPBAR") == 1
    assert made.count("LDGSTS.E.BYPASS.128") == made.count("LDGSTS") == (tile.bm + tile.bn) * 8 // tile.threads
    assert made.count("LDG") == made.count("LDG.E.64")  # bias and residual alone
    assert made.count("HMMA") == made.count("FFMA") == 0
    assert made.shared == 0
    assert min(tile.bn / 2 * len(products) / made.issued(len(products), "HGMMA"), 1.0) > 0.95 * issue_share(tile)
    resident = resident_warps(multiprocessor((9, 0)), made.registers, tile.threads, kernel.shared)
    assert resident == kernel.together * tile.threads // 32


@every_architecture
@pytest.mark.parametrize("width", stem.STEMS)
def test_stems(width, capability):
    """A row of the image in loads of 16 bytes, and hardly anything but multiply-adds for it; what else there is for a row of
    the convolution is little, and as much as choices count on."""
    made = assembly(stem.STEMS[width].name, capability)
    of_a_row, of_a_strip = made.loops()[-2:]
    assert of_a_row.count("FFMA") == made.count("FFMA") == 7 * 4 * (2 * width + 1)
    assert of_a_row.count("LDG.E.128") == of_a_row.count("LDG") == -(-(4 * width + 7) // 4)
    assert of_a_row.count("LDS.128") == of_a_row.count("LDS") == 7
    step, turn = issued_by_stem(width)
    assert of_a_row.total() <= step
    assert of_a_strip.total() - of_a_row.total() <= turn


@every_architecture
@pytest.mark.parametrize("name", ["gemm_naive", "gemm_shared", "gemm_tiled", "conv2d_direct"])
def test_products_are_multiply_adds(name, capability):
    made = assembly(name, capability)
    assert made.count("FFMA") > 0
    assert made.count("FADD") <= 16 * (name == "gemm_tiled") + 1  # the bias
    assert made.count("FMUL") == 0


@every_architecture
def test_loads_of_im2col(capability):
    made = assembly("im2col_vectors", capability)
    assert made.count("LDG") == made.count("LDG.E.128") == 1
    assert made.count("STG") == made.count("STG.E.128") == 1


@every_architecture
def test_grouped_rounds_as_the_cpu(capability):
    """Products in float32, sums in float64: no multiply-add takes both."""
    made = assembly("grouped", capability)
    assert made.count("FMUL") > 0
    assert made.count("DADD") > 0
    assert made.count("FFMA") == made.count("DFMA") == 0


@pytest.mark.parametrize("name", ["avgpool", "global_avgpool", "softmax", "sigmoid", "scale_and_shift"])
def test_sums_in_float64(name):
    assert assembly(name, (9, 0)).count("DADD") + assembly(name, (9, 0)).count("DFMA") > 0


@pytest.mark.parametrize("name", [name for name in SHIPPED if "grid" in SHIPPED[name].function.__code__.co_names])
def test_threads_are_counted_in_64_bits(name):
    """Block times threads, plus thread: an array of more than 2**31 elements has more threads than 32 bits count."""
    text = intermediate(SHIPPED[name], (8, 0))
    assert re.search(r"(mul|mad)\.wide\.[su]32", text)
    if SHIPPED[name].function.__module__ not in BOUNDED:  # whose products of sizes are at most LARGEST
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
    kernel = SHIPPED["gemm_vectorized"]
    made = assemble(make(kernel.function, " ".join(kernel.arguments), kernel.threads, 4), (9, 0))
    assert made.registers <= 64
    assert made.spills > 0
    loop = max(made.loops(), key=lambda loop: loop.count("FFMA"))
    assert loop.count("FFMA") < 0.8 * loop.total()


def test_narrow_loads_are_seen():
    assert assembly("gemm_naive", (9, 0)).count("LDG.E.128") == 0
    assert assembly("gemm_naive", (9, 0)).count("LDG.E") == assembly("gemm_naive", (9, 0)).count("LDG") > 0
