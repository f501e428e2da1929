"""What machines do with the loops: recordings, simulated caches and warps, memory, machine code."""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from npresnet import study
from npresnet.errors import MissingExtraError, UsageError
from npresnet.files.safe_write import file_hash
from npresnet.kernels import simd
from npresnet.study.asm import WIDTHS, _native_width
from npresnet.study.caches import Cache, conflicts, reuse_distances, sectors
from npresnet.study.listing import Line, beside_python
from npresnet.study.plans import plan_of
from npresnet.study.recorded import Log, python_of
from npresnet.study.stepwise import Stepwise
from npresnet.study.warps import run_blocks, watch_card
from npresnet.study.watch import CROPS
from npresnet.study.x86 import hot_loop, role_of

try:
    import numba_cuda
except ImportError:
    numba_cuda = None

cuda: Any = None  # what kernels know under this name is the one that runs them

card = pytest.mark.skipif(numba_cuda is None, reason="numba-cuda is not installed: its kernels are Python of its own")


# Recordings ----------------------------------------------------------------------------------------------------------

M, K, N = 6, 16, 32
INSIDE = sum(  # of all windows' taps on a 6 x 6 map, those that are not padding
    1
    for oh in range(6)
    for ow in range(6)
    for i in range(3)
    for j in range(3)
    if 0 <= oh + i - 1 < 6 and 0 <= ow + j - 1 < 6
)
SEEN = 16 + 4 * 9 + 4 * 12  # pixels of 9 patches of 4x4: in the middle, in corners, at edges
CLOSED_FORMS = {
    "gemm_naive": {"a": (M * N * K, 0), "b": (M * N * K, 0), "bias": (M * N, 0), "c": (0, M * N)},
    # two blocks of 8 steps of k, two of 16 columns: C is set to zero, added to once per block of k, and has the bias added
    "gemm_blocked": {"a": (M * K * 2, 0), "b": (M * N * K, 0), "bias": (M * N, 0), "c": (M * N * 3, M * N * 4)},
    "conv2d_direct": {
        "x": (INSIDE * 4, 0), "w": (INSIDE * 4 * 8, 0), "bias": (36 * 8, 0), "out": (INSIDE * 4 * 8 + 36 * 8, INSIDE * 4 * 8 + 2 * 36 * 8),
    },
    "im2col": {"x": (INSIDE * 4, 0), "cols": (0, 36 * 36)},
    "pack_b": {"b": (K * 20, 0), "packed": (0, 3 * K * 8)},
    # 6 rows are one tile, 8 columns a panel: A is read once per panel, B once per tile, C written once
    "gemm_packed": {"a": (M * K * 4, 0), "packed": (K * N, 0), "bias": (M * N, 0), "zeros": (0, 0), "c": (0, M * N)},
    # 9 tiles of 2x2: 16 products, each of 9 rows (5 and 4 in a tile of the micro-kernel), 4 steps of k and 8 columns
    "winograd": {
        "x": (SEEN * 4, 0), "v": (16 * 9 * 4, 16 * 9 * 4), "u": (16 * 2 * 4 * 8, 0),
        "room": (8 * 64 + 16 * 9 * 8, 8 * 64 + (SEEN - 16) * 4 + 16 * 9 * 8), "bias": (9 * 8, 0), "zeros": (16 * 9 * 8 + 9 * 4 * 8, 0),
        "out": (0, 9 * 4 * 8),
    },
}  # fmt: skip
PIECES = {
    "conv2d_direct": 36,
    "im2col": 36,
    "gemm_naive": M * N,
    "gemm_blocked": 4,
    "pack_b": 3,
    "gemm_packed": 4,
    "winograd": 9 + 16 * 2 + 9 * 2,
}


@pytest.mark.parametrize("kernel", CROPS)
def test_counts_are_the_closed_forms(kernel):
    found = study.watch(kernel)
    assert {use.name: (use.reads, use.writes) for use in found.arrays} == CLOSED_FORMS[kernel]
    assert found.exact
    assert found.total == sum(reads + writes for reads, writes in CLOSED_FORMS[kernel].values())
    for use in found.arrays:
        assert use.heat.shape == use.shape
        assert use.heat.sum() == use.reads + use.writes
    l1, l2 = found.caches
    assert l1.hits + l1.misses == found.total
    assert l2.hits + l2.misses == l1.misses
    assert sum(row.count for row in found.reuse) == found.total
    counts = Counter(number for number, _, _ in found.accesses)
    assert set(counts) <= set(range(len(found.arrays)))
    assert found.piece_count == PIECES[kernel]


@pytest.mark.parametrize("kernel", CROPS)
def test_outlines_hold_what_a_piece_touches_and_no_more(kernel):
    found = study.watch(kernel)
    ends = [piece.first for piece in found.pieces[1:]] + ([found.total] if len(found.accesses) == found.total else [])
    for piece, end in zip(found.pieces, ends, strict=False):  # of the last, not all accesses may be kept
        for number, (use, box) in enumerate(zip(found.arrays, piece.boxes, strict=True)):
            cells = [
                divmod(element, use.columns)
                for which, element, _ in found.accesses[piece.first : end]
                if which == number
            ]
            expected = None
            if cells:
                rows, columns = zip(*cells, strict=True)
                expected = min(rows), max(rows) + 1, min(columns), max(columns) + 1
            assert box == expected


def test_a_tile_stays_in_registers():
    """Its piece reads a panel and all of A, and writes six rows of eight columns: read, in C, is nothing."""
    found = study.watch("gemm_packed")
    assert [piece.boxes for piece in found.pieces] == [
        [
            (0, M, 0, K),
            (panel, panel + 1, 0, 8 * K),
            (0, 1, 8 * panel, 8 * panel + 8),
            None,
            (0, M, 8 * panel, 8 * panel + 8),
        ]
        for panel in range(4)
    ]


def test_blocks_are_those_of_the_loops():
    found = study.watch("gemm_blocked")
    assert [piece.boxes[1] for piece in found.pieces] == [
        (0, 8, 0, 16),
        (8, 16, 0, 16),
        (0, 8, 16, 32),
        (8, 16, 16, 32),
    ]
    found = study.watch("im2col")
    assert found.pieces[7].boxes == [(0, 3, 0, 12), (7, 8, 0, 36)]  # the window around pixel 1, 1, and its row


def test_instructions_are_done_as_a_processor_would():
    """One by one, of a kernel that was made up: branches, a loop, masks; and what lies outside of all arrays is refused."""
    module, i64 = ir.Module(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64, i64, i64]), "f")
    start, loop, end = (function.append_basic_block() for _ in range(3))
    builder = ir.IRBuilder(start)
    to, source, count = function.args
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(i64)
    at = builder.mul(step, simd.number(4 * simd.LANES))
    lane = ir.Constant(ir.VectorType(i64, simd.LANES), list(range(simd.LANES)))
    left = builder.sub(count, builder.mul(step, simd.number(simd.LANES)))
    mask = builder.icmp_signed("<", lane, simd.splat(builder, left))
    given = simd.masked_load(builder, builder.add(source, at), mask)
    simd.prefetch(builder, source)
    simd.masked_store(
        builder, simd.activated(builder, given, simd.constant(0.5), simd.constant(-1.0)), builder.add(to, at), mask
    )
    following = builder.add(step, simd.number(1))
    step.add_incoming(simd.number(0), start)
    step.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", builder.mul(following, simd.number(simd.LANES)), count), loop, end)
    builder.position_at_end(end)
    builder.ret_void()
    x = np.arange(-5, 2 * simd.LANES - 5, dtype=np.float32)
    y = np.full_like(x, 9)
    machine = Stepwise({"x": x, "y": y})
    size = simd.LANES + 3
    machine._work_off(function, (y.ctypes.data, x.ctypes.data, size))
    assert y.tolist() == [*np.where(x < 0, np.maximum(x / 2, -1), x)[:size], *[9] * (simd.LANES - 3)]
    assert Counter((number, written) for number, _, written in machine.log.accesses) == {
        (0, False): size,
        (1, True): size,
    }
    with pytest.raises(UsageError, match="outside of all arrays"):
        machine._work_off(function, (y.ctypes.data, x.ctypes.data, 3 * simd.LANES))


def test_blocks_keep_b_in_cache():
    naive, blocked, packed = (study.watch(kernel, l1=2048) for kernel in ("gemm_naive", "gemm_blocked", "gemm_packed"))
    assert blocked.caches[0].misses < naive.caches[0].misses / 4
    assert packed.total < blocked.total / 3 < naive.total / 3


def test_recorded_arrays():
    log = Log()
    data = np.arange(12.0).reshape(3, 4)
    array = log.array("a", data)
    row = array[1]
    row[2] += 5
    assert data[1, 2] == 11
    assert log.accesses == [(0, 6, False), (0, 6, True)]
    log.accesses.clear()
    array[0, 1:3] = array[2, :2]
    assert log.accesses == [(0, 8, False), (0, 9, False), (0, 1, True), (0, 2, True)]
    assert data[0].tolist() == [0, 8, 9, 3]
    assert (len(array), array.shape) == (3, (3, 4))


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda a: a[[0, 1]], "the index [0, 1]"),
        (lambda a: a[np.array([True, False, True])], "the index"),
        (lambda a: a[0] + a[1], "arithmetic with a whole part"),
        (lambda a: np.exp(a), "function of NumPy"),
        (lambda a: a.ctypes, ".ctypes"),
        (lambda a: a.__setitem__(0, np.zeros(4)), "not recorded"),
        (lambda a: list(a), "a loop over its elements"),
    ],
)
def test_what_cannot_be_followed_is_refused(use, words):
    with pytest.raises(UsageError, match=r"watch: a: .*cannot be followed") as caught:
        use(Log().array("a", np.zeros((3, 4))))
    assert words in str(caught.value)


def test_what_is_no_kernel_is_refused():
    with pytest.raises(UsageError, match="study asm"):
        study.watch("conv2d_grouped")
    with pytest.raises(UsageError, match="cache: got 1000 bytes"):
        study.watch("im2col", l1=1000)
    with pytest.raises(UsageError, match="cannot be recorded"):
        python_of(3)


# Caches --------------------------------------------------------------------------------------------------------------


def test_streaming_misses_once_per_line():
    cache = Cache(4096, 4)
    for address in range(0, 2048, 4):
        cache.touch(address)
    assert cache.misses == 2048 // 64
    for address in range(0, 2048, 4):  # what fits stays
        cache.touch(address)
    assert cache.misses == 2048 // 64


def test_what_does_not_fit_is_thrown_out():
    cache = Cache(1024, 2)
    for _ in range(2):
        for address in range(0, 2048, 64):
            assert not cache.touch(address)
    ways = Cache(1024, 2)  # 8 sets: lines 512 bytes apart share one
    assert [ways.touch(address) for address in (0, 512, 0, 1024, 512, 0)] == [False, False, True, False, False, False]
    with pytest.raises(ValueError, match="cache: got 1000 bytes"):
        Cache(1000, 4)


def test_reuse_distances():
    assert reuse_distances([0, 4, 64, 128, 0, 64]) == [-1, 0, -1, -1, 2, 2]


def test_sectors_and_conflicts():
    lanes = range(32)
    assert sectors([4 * lane for lane in lanes]) == 4
    assert sectors([128 * lane for lane in lanes]) == 32
    assert sectors([4 for _ in lanes]) == 1
    assert conflicts(list(lanes)) == 1
    assert conflicts([32 * lane for lane in lanes]) == 32
    assert conflicts([7 for _ in lanes]) == 1  # all get the same word together
    assert conflicts([2 * lane for lane in lanes]) == 2


# Warps ---------------------------------------------------------------------------------------------------------------


@card
def test_warps_of_the_naive_kernel():
    found = study.watch("gemm_cuda_naive")
    rows = {(row.array, row.kind): row for row in found.requests}
    m, k, n = found.shape
    assert found.exact
    assert rows["a", "read"].count == rows["b", "read"].count == m * n * k // 32
    assert rows["a", "read"].sectors == 1  # all lanes want the same number
    assert rows["b", "read"].sectors == 4  # side by side
    assert found.loads == 2 * m * n * k + m * n
    assert list(rows["b", "read"].lanes) == list(range(32))


@card
def test_warps_of_kernels_with_shared_memory():
    shared, tiled = study.watch("gemm_cuda_shared"), study.watch("gemm_cuda_tiled")
    for found, tile in ((shared, 16), (tiled, 64)):
        m, k, n = found.shape
        assert found.exact
        assert found.loads - sum(r.numbers for r in found.requests if r.array == "bias") == m * k * (
            n // tile
        ) + k * n * (m // tile)
    turns = {(row.array, row.kind): row.turns for row in tiled.requests if row.memory == "shared"}
    assert (
        turns["tile_a", "write"] == 16
    )  # transposed: a column of the tile has stride 64, of which 16 lanes share two banks
    assert turns["tile_b", "write"] == 1


@card
def test_a_kernel_of_a_card_is_followed_or_refused():
    def fancy(a, out):
        out[cuda.threadIdx.x] = a[:2]

    with pytest.raises(UsageError, match=r"watch: a: the index .* cannot be followed"):
        run_blocks(fancy, 1, (4,), {"a": np.zeros(8, np.float32), "out": np.zeros(4, np.float32)})

    def far(a, out):
        out[cuda.threadIdx.x] = a[cuda.threadIdx.x + 6]

    with pytest.raises(UsageError, match="outside of"):
        run_blocks(far, 1, (4,), {"a": np.zeros(8, np.float32), "out": np.zeros(4, np.float32)})


def test_without_numba_cuda_it_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "npresnet.kernels.cuda", None)
    with pytest.raises(MissingExtraError, match="numba-cuda"):
        watch_card("gemm_cuda_naive")


# Memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(1, 45, 52), (3, 96, 64)])
def test_blocks_do_not_overlap(net, batch):
    found = study.memory(net, batch)
    plan = plan_of(net, batch)
    for a in found.blocks:
        for b in found.blocks:
            if a is not b and a.where == b.where and a.first <= b.last and b.first <= a.last:
                assert a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset, (a, b)
    top = max(block.offset + block.bytes for block in found.blocks if block.where == "arena")
    assert top == found.arena_bytes == plan.arena_bytes
    assert found.peak_bytes <= found.sum_bytes == sum(block.bytes for block in found.blocks)
    held = {part.what: part.bytes for part in found.held}
    assert held["weights, packed"] == plan.weights_bytes
    assert held["arena"] + held["scratch"] + held["outputs"] == plan.memory_bytes
    assert found.total_bytes == sum(held.values())
    for block in found.blocks:
        assert block.producer in found.steps
        assert block.consumers


def test_a_trace_can_be_read(net, images, tmp_path):
    path = tmp_path / "trace.json"
    study.write_trace(path, net, images)
    whole, *spans = json.loads(path.read_text())["traceEvents"]
    assert len(spans) == len(plan_of(net, (1, 45, 52)).steps)
    assert sum(span["dur"] for span in spans) == pytest.approx(whole["dur"])
    ends = [span["ts"] + span["dur"] for span in spans]
    assert [span["ts"] for span in spans] == pytest.approx([0, *ends[:-1]])
    assert ends[-1] == pytest.approx(whole["ts"] + whole["dur"])
    assert len(file_hash(path)) == 64


# Machine code --------------------------------------------------------------------------------------------------------

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="listings of a processor are read for x86 alone")


@pytest.fixture(scope="module")
def listings():
    """One of them in this process, as the page has it."""
    native = _native_width()
    return {width: study.asm("tile", None if width == native else width) for width in ("avx2", "avx512")}


@x86
@pytest.mark.parametrize(("width", "vectors"), [("avx2", 2), ("avx512", 4)])
def test_the_micro_kernel(listings, width, vectors):
    found = listings[width]
    steps = 4  # of k in one turn
    assert found.fma == steps * 6 * vectors
    assert found.spills == 0
    assert found.registers <= found.available == WIDTHS[width][2]
    texts = [row.text for row in found.instructions]
    assert found.fma == sum(bool(re.match(r"vfmadd\w*ps\b", text)) for text in texts)  # counted again
    loads = [text for text in texts if re.match(r"vmovups [^%]*\(|vbroadcastss [^%]*\(", text)]
    folded = [text for text in texts if re.match(r"vfmadd\w*ps [^%]*\(", text)]
    assert found.loads == len(loads) + len(folded) == steps * (6 + vectors)
    assert found.flop == 2 * 6 * vectors * int(WIDTHS[width][0]) * steps
    assert any("zmm" in text for text in texts) == (width == "avx512")
    assert sum(row.count for row in found.roles) == len(texts)
    assert "bound by the multiply-adds" in found.verdict


@x86
def test_lines_that_make_an_instruction_stand_beside_it(listings):
    """The micro-kernel's own, and not the one that calls it: Numba knows no more."""
    for found in listings.values():
        assert found.mapped
        of = {row.role: row.python for row in found.instructions if row.role in ("FMA", "broadcast", "load")}
        assert of["FMA"].startswith("sums = {(row, v): fma(builder")
        assert of["load"].startswith("b_vectors = [load(builder")
        assert of["broadcast"] == "spread = [splat(builder, value) for value in values]"
        counts = {line.python: line.count for line in found.lines}
        assert counts[of["FMA"]] == found.fma
        assert (
            sum(counts.values())
            == sum(row.line is not None for row in found.instructions)
            > 0.9 * len(found.instructions)
        )


def test_lines_are_shown_of_equal_instructions_alone():
    plain, marked = [Line("a", None), Line("b", None)], [Line("a", 1), Line("c", 2)]
    rows, mapped = beside_python(plain, marked, __file__, lambda text: "other")
    assert (mapped, [row.text for row in rows], [row.line for row in rows]) == (False, ["a", "b"], [None, None])
    rows, mapped = beside_python(plain, [Line("a", 1), Line("b", None)], __file__, lambda text: "other")
    assert mapped
    assert rows[0].python.startswith('"""What machines do')
    assert (rows[1].line, rows[1].python) == (None, "")


@x86
def test_lines_of_python_stand_beside_instructions():
    found = study.asm("gemm_naive")
    assert found.mapped
    lines = {row.python for row in found.instructions if row.role == "FMA"}
    assert lines == {"total += a[m, k] * b[k, n]"}


def test_roles():
    spelled = {
        "vfmadd231ps %zmm1, %zmm2, %zmm3": "FMA",
        "vfmadd231ss (%rax,%rbx,4), %xmm1, %xmm2": "FMA",
        "vmovups 64(%rdi), %zmm4": "load",
        "vbroadcastss (%rsi), %zmm5": "broadcast",
        "vmovups %zmm4, 64(%rdi)": "store",
        "vmovaps %zmm4, 128(%rsp)": "spill",
        "vmovups 128(%rsp), %zmm4": "spill",
        "movq -8(%rsp), %r8": "address",
        "prefetcht1 (%r14)": "prefetch",
        "addq $64, %rdi": "address",
        "vaddps (%rax), %zmm1, %zmm2": "load",
        "vaddps %zmm1, %zmm2, %zmm3": "other",
    }
    assert {text: role_of(text) for text in spelled} == spelled


def test_the_hot_loop_is_the_innermost_with_products():
    text = """
    .LBB0_1:
        addq $1, %rax
    .LBB0_2:
        vmovaps %ymm9, 32(%rsp)
        vfmadd231ps %ymm1, %ymm2, %ymm3
        cmpq %rax, %rbx
        jne .LBB0_2
        jmp .LBB0_1
    .LBB0_3:
        vfmadd231ss %xmm1, %xmm2, %xmm3
        vfmadd231ss %xmm1, %xmm2, %xmm3
        jne .LBB0_3
    """
    found = [line.text for line in hot_loop(text)]
    assert found[1] == "vfmadd231ps %ymm1, %ymm2, %ymm3"
    assert [role_of(line) for line in found] == ["spill", "FMA", "address", "address"]
    with pytest.raises(UsageError, match="no loop"):
        hot_loop("ret")


@card
def test_machine_code_of_a_card():
    found = study.asm("gemm_cuda_tiled", device="cuda", arch="sm_90")
    assert found.fma == 16  # 4 x 4 sums for one step of k
    assert found.spills == 0
    assert (found.warps, found.most_warps) == (16, 64)
    assert sum("FFMA" in row.text for row in found.instructions) == found.fma
    assert found.mapped
    python = {row.python for row in found.instructions if row.role == "FMA"}
    assert python == {"sums[i * _TN + j] += tile_a[k, row + i] * tile_b[k, column + j]"}


@card
def test_ptx():
    found = study.asm("gemm_cuda_tiled", device="cuda", arch="sm_90", ptx=True)
    assert found.fma == sum(row.text.startswith("fma.rn.f32") for row in found.instructions) == 16
    assert found.loads == sum("ld.shared" in row.text for row in found.instructions) == 8
    assert found.mapped
    assert {row.python for row in found.instructions if row.role == "load"} == {
        "sums[i * _TN + j] += tile_a[k, row + i] * tile_b[k, column + j]"
    }
    assert (found.target, found.warps, found.most_warps) == ("sm_90, PTX", 16, 64)


@card
def test_room_for_warps():
    """Whatever there is least of decides: registers, shared memory, warps, blocks."""
    from npresnet.kernels.cuda.occupancy import multiprocessor, resident_warps

    hopper, ada = multiprocessor((9, 0)), multiprocessor((8, 9))
    assert multiprocessor((1, 0)) is None
    assert resident_warps(hopper, 32, 256, 0) == 64
    assert resident_warps(hopper, 128, 256, 0) == 16
    assert resident_warps(hopper, 32, 256, 100 * 1024) == 16  # each block takes a KB more: two fit into 228
    assert resident_warps(ada, 32, 256, 40 * 1024) == 16
    assert resident_warps(ada, 32, 256, 0) == 48
    assert resident_warps(ada, 16, 32, 0) == 24  # blocks


@pytest.mark.parametrize(("arguments", "match"), [
    ({"kernel": "nothing"}, "kernel: got 'nothing'"), ({"width": "mmx"}, "width: got 'mmx'"), ({"device": "tpu"}, "device: got 'tpu'"),
    ({"kernel": "gemm_cuda_tiled", "device": "cuda", "arch": "x"}, "arch: got 'x'"),
    ({"kernel": "gemm_cuda_tiled"}, "ask for it with --device cuda"), ({"ptx": True}, "ptx: a processor has none"),
])  # fmt: skip
def test_what_has_no_listing(arguments, match):
    with pytest.raises(UsageError, match=match):
        study.asm(**arguments)
