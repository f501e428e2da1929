"""The micro-kernel at every register width, each in a process of its own: the width is read at import."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from npresnet.kernels.gemm import KC, gemm_reference

from ..support import cases

WIDTHS = ("4", "8", "16")
OTHERS = {"other tile": ("16", "9,3,8,65536,5"), "other tile of 256 bits": ("8", "4,3,2,20000,3")}
"""Settings that no table has: {name: (width, settings)}."""

# Tails in rows and columns for tiles of 6 x 8, 6 x 16 and 6 x 64; sums of nothing, of one term, of several passes.
ROWS, COLUMNS, DEPTHS = (1, 2, 5, 6, 7, 13, 15), (1, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 130), (0, 1, 2, 31)
SHAPES = [(m, k, n) for m in ROWS for k in DEPTHS for n in COLUMNS] + [(7, k, 9) for k in (KC, KC * 3 // 2, 3 * KC + 1)]
CONVOLUTION = cases.Conv2d((2, 7, 5, 67), (3, 3), 37, (2, 2), "same")
GROUPS = cases.GroupedConv2d((1, 3, 9, 128), (3, 3), 128, padding="same", groups=16)
TILES = cases.Conv2d((2, 7, 9, 67), (3, 3), 37, padding="same")

PROGRAM = """
import os
import numpy as np
from npresnet.cpu.packing import Constants
from npresnet.kernels import conv2d, conv2d_winograd, gemm, grouped_conv2d_lanes, grouped_conv2d_winograd
from npresnet.plan.memory import Memory
from npresnet.cpu.by_plan import make_plan
from npresnet.kernels.simd import LANES
from npresnet.kernels.tile import NR
from tests.support.cases import Gemm
from tests.kernels.test_simd import CONVOLUTION, GROUPS, SHAPES, TILES
from tests.cpu.test_plan import _images, _network
results = {"widths": np.array([LANES, NR]), "convolution": CONVOLUTION.run(conv2d), "tiles": TILES.run(conv2d_winograd)}
graph, weights = _network("keras-resnet", 18, 32, classes=5)
outputs = [*graph.features.values(), graph.classifier]
plan = make_plan(graph, Constants(graph, weights), (1, 65, 54), outputs, winograd=True, threads=2)
assert {"F(4x4,3x3)", "F(2x2,3x3)", "im2col", "multiply"} <= {step.algorithm for step in plan.steps}
results |= plan.run(_images(1, 65, 54), Memory())
if "NPRESNET_SETTINGS" not in os.environ:  # of which groups have none
    results |= {version.__name__: GROUPS.run(version) for version in (grouped_conv2d_lanes, grouped_conv2d_winograd)}
for m, k, n in SHAPES:
    memory = np.full(m * n + 256, -1234.5, np.float32)  # 256 numbers more, to see what is written behind the result
    Gemm(m, k, n).run(gemm, out=memory[: m * n].reshape(m, n))
    results[f"{m} {k} {n}"] = memory
np.savez(FILE, **results)
"""


@pytest.fixture(scope="module")
def results(run_python, tmp_path_factory):
    """{width, or other settings: {name: array}}, from one process each."""
    folder = tmp_path_factory.mktemp("widths")
    for width in WIDTHS:
        run_python(f"FILE = {str(folder / width)!r}\n{PROGRAM}", NPRESNET_LANES=width)
    for name, (width, settings) in OTHERS.items():
        run_python(f"FILE = {str(folder / name)!r}\n{PROGRAM}", NPRESNET_LANES=width, NPRESNET_SETTINGS=settings)
    return {name: dict(np.load(folder / f"{name}.npz")) for name in (*WIDTHS, *OTHERS)}


@pytest.mark.parametrize("width", WIDTHS)
def test_width_is_taken(results, width):
    lanes, columns = results[width]["widths"]
    assert lanes == int(width)
    assert columns % lanes == 0


def test_other_settings_are_taken(results):
    assert [results[name]["widths"][1] for name in OTHERS] == [48, 24]


@pytest.mark.parametrize("width", WIDTHS)
def test_products(results, width):
    for m, k, n in SHAPES:
        memory = results[width][f"{m} {k} {n}"]
        product, behind = memory[: m * n].reshape(m, n), memory[m * n :]
        cases.assert_true(product, cases.Gemm(m, k, n).run(gemm_reference, dtype=np.float64))
        assert (behind == -1234.5).all(), (m, k, n)


@pytest.mark.parametrize("width", [*WIDTHS[1:], *OTHERS])
def test_same_bits_at_any_width(results, width):
    """Each result is one sum over k, in the same order and with the same fused roundings whatever the width, tile and blocks."""
    for name, found in results[width].items():
        if name != "widths":
            cases.assert_same_bits(found, results[WIDTHS[0]][name])


@pytest.mark.parametrize("asked", ["0", "5", "32", "-4", "8.0", "wide", ""])
def test_refuses_other_widths(asked):
    done = subprocess.run(
        [sys.executable, "-c", "import npresnet.kernels.simd"],
        env={**os.environ, "NPRESNET_LANES": asked},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.search(f"ValueError: NPRESNET_LANES: got {asked!r}; it must be 4, 8 or 16", done.stderr)
