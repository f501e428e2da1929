"""Normalisation by statistics of the input against Keras's layers and against float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import LADDER, groupnorm_reference, unitnorm_reference
from npresnet.verify.compare import compare

from ..support import cases

keras = pytest.importorskip("keras")


@functools.cache
def oracle(case):
    """(Keras's result, the float64 truth)."""
    x, gamma, beta = case.arrays()
    flags = {"scale": gamma is not None, "center": beta is not None, "epsilon": case.epsilon}
    if case.parameters == "image":
        layer = keras.layers.LayerNormalization(axis=[1, 2, 3], **flags)
    elif case.shape[1:3] == (1, 1) and case.groups == 1:
        layer = keras.layers.LayerNormalization(**flags)
    else:
        layer = keras.layers.GroupNormalization(case.groups, **flags)
    layer.build(x.shape)
    layer.set_weights([] if gamma is None else [gamma, beta])
    return np.array(layer(x)), case.run(groupnorm_reference, dtype=np.float64)


@cases.each("groupnorm")
def test_keras(case, version):
    expected, truth = oracle(case)
    if case.offset:  # Keras subtracts the mean's square from the squares' mean
        if not version.__name__.endswith("_reference"):
            assert compare(case.run(version), truth).agrees(4 * cases.EPS)
    elif case.values in (*cases.FLUSHED, "spread"):  # whose squares overflow there
        cases.assert_true(case.run(version), truth)
    else:
        cases.assert_close(case.run(version), expected, truth)


@cases.each("unitnorm")
def test_unitnorm(tf, case, version):
    (x,) = case.arrays()
    truth = case.run(unitnorm_reference, dtype=np.float64)
    if case.values in (*cases.FLUSHED, "spread"):
        if not version.__name__.endswith("_reference"):  # whose squares in float32 are zero or infinite, too
            cases.assert_true(case.run(version), truth)
    else:
        cases.assert_close(case.run(version), tf.linalg.l2_normalize(x, -1, case.least**2).numpy(), truth)


@pytest.mark.parametrize("version", LADDER["groupnorm"][1:], ids=cases.name_of)
def test_refuses(version):
    x, c = np.zeros((2, 3, 5, 6), np.float32), np.zeros(6, np.float32)
    for groups in (0, 4, -1):
        with cases.refuses(ValueError, f"groups: got {groups}", "6 channels"):
            version(x, c, c, groups=groups, epsilon=1e-3)
    with cases.refuses(ValueError, "gamma: got shape (5,)", "(6,) or (3, 5, 6)"):
        version(x, c[:5], c, groups=1, epsilon=1e-3)
    with cases.refuses(ValueError, "beta: got shape (1, 6)"):
        version(x, c, c[None], groups=1, epsilon=1e-3)
    with cases.refuses(ValueError, "at least one number"):
        version(x[:, :0], c, c, groups=1, epsilon=1e-3)
