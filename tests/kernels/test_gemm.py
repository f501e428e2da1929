"""Matrix products against ``tf.matmul``, and against the same product in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import LADDER, gemm_packed
from npresnet.kernels.gemm import gemm_reference
from npresnet.kernels.tile import MR, NR

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(TensorFlow's result, the float64 truth)."""
    a, b, bias = case.arrays()
    product = tf.matmul(a, b)
    if bias is not None:
        product = tf.nn.bias_add(product, bias)
    return product.numpy(), case.run(gemm_reference, dtype=np.float64)


@cases.each("gemm")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth, terms=case.k if version.__name__ in cases.SEQUENTIAL else 0)


@pytest.mark.parametrize("version", LADDER["gemm"], ids=cases.name_of)
@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (2 * MR, 0, NR + 1)], ids=str)
def test_nothing_to_add_up(version, m, k, n):
    bias = cases.numbers("bias", (n,))
    product = version(np.zeros((m, k), np.float32), np.zeros((k, n), np.float32), bias)
    cases.assert_same_bits(product, np.tile(bias, (m, 1)))


@pytest.mark.parametrize("columns", [1, NR - 1, NR, NR + 1])
@pytest.mark.parametrize("rows", [1, MR - 1, MR, MR + 1])
def test_whole_numbers_are_exact(rows, columns):
    """Each element of the tile has a value of its own: no rounding hides two of them that changed places."""
    a = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) + 1
    b = np.arange(3 * columns, dtype=np.float32).reshape(3, columns) - 7
    bias = np.arange(columns, dtype=np.float32) * 10_000
    cases.assert_same_bits(gemm_packed(a, b, bias), (a.astype(int) @ b.astype(int) + bias).astype(np.float32))


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("version", LADDER["gemm"][1:], ids=cases.name_of)
@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ((zeros(2, 3), zeros(4, 5)), ValueError, ["2x3", "4x5"]),
        ((zeros(2, 3), zeros(3, 5), zeros(4)), ValueError, ["bias", "4", "5"]),
        ((zeros(2, 3), zeros(3, 5), zeros(1, 5)), ValueError, ["bias", "(1, 5)"]),
        ((zeros(2, 3, 1), zeros(3, 5)), ValueError, ["gemm: a", "(2, 3, 1)"]),
        ((zeros(2, 3), zeros(3)), ValueError, ["gemm: b", "(3,)"]),
        ((zeros(2, 3), zeros(3, 5).astype(np.float64)), TypeError, ["gemm: b", "float64"]),
        ((zeros(2, 3), zeros(3, 5), [0.0] * 5), TypeError, ["bias", "list"]),
    ],
    ids=lambda value: None,
)
def test_refuses(version, arguments, kind, said):
    with cases.refuses(kind, *said):
        version(*arguments)
