"""Where Winograd's algorithm may not stand; where NaN may get lost, and where it is looked for."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.network.operators import (
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Conv2D,
    Crop,
    GlobalMaxPool,
    LayerNorm,
    MaxPool,
    Operator,
    Pad,
    ReLU,
    Resize,
    UpSample,
)
from npresnet.plan.winograd import ends, ordinary, read_by_divisions, read_by_pools

from .test_fusion import graph_of, nodes_of

GRAPH = graph_of(
    ("first", Conv2D(4, 4, (3, 3)), "input"),
    ("relu", ReLU(), "first"),
    ("second", Conv2D(4, 4, (3, 3)), "relu"),
    ("bn", BatchNorm(4, 1e-3), "second"),
    ("pool", MaxPool((2, 2), (2, 2), "valid"), "bn"),
    ("third", Conv2D(4, 4, (1, 1)), "pool"),
    ("average", AveragePool((2, 2), (1, 1), "same"), "third"),
    ("side", Conv2D(4, 4, (3, 3)), "relu"),
    ("largest", GlobalMaxPool(), "side"),
)


def test_what_max_pools_read():
    """All that comes before one; a global one passes NaN on."""
    found = read_by_pools(GRAPH, nodes_of(GRAPH, "average", "largest"))
    assert found == {"input", "relu", "bn"}
    assert not read_by_pools(GRAPH, nodes_of(GRAPH, "largest"))


def test_what_divisions_read():
    """Up to the convolution that made it: what that reads may have errors of any kind, for it sums over pixels."""
    graph = graph_of(
        ("first", Conv2D(4, 4, (3, 3)), "input"),
        ("relu", ReLU(), "first"),
        ("second", Conv2D(4, 4, (3, 3), padding="same"), "relu"),
        ("sum", Add(), "second relu"),
        ("pool", MaxPool((2, 2), (2, 2), "valid"), "sum"),
        ("norm", LayerNorm((4,), 1e-3), "pool"),
        ("third", Conv2D(4, 4, (3, 3)), "norm"),
    )
    assert read_by_divisions(graph, nodes_of(graph, "third")) == {"sum", "pool", "relu"}
    assert not read_by_divisions(GRAPH, nodes_of(GRAPH, "average", "largest"))


def looked_at(graph, *outputs):
    return ends(graph, outputs, graph.shapes(20, 20), read_by_pools(graph, nodes_of(graph, *outputs)))


def test_ends():
    """Where no other output shows all NaN; what max-pools read is right anyhow."""
    assert looked_at(GRAPH, "relu", "bn", "third") == ("third",)
    assert looked_at(GRAPH, "side", "relu", "third") == ("side", "third")
    assert looked_at(GRAPH, "relu") == ("relu",)
    assert looked_at(GRAPH, "relu", "side") == ("side",)


@pytest.mark.parametrize(
    ("operator", "size", "skips"),
    [
        (Conv2D(4, 4, (3, 3), padding="same"), 20, False),
        (Conv2D(4, 4, (3, 3)), 20, False),
        (Conv2D(4, 4, (1, 1), (2, 2)), 20, True),
        (Conv2D(4, 4, (3, 3), (2, 2), "same"), 20, False),
        (Conv2D(4, 4, (3, 3), (2, 2)), 20, True),  # the last row
        (Conv2D(4, 4, (3, 3), (2, 2)), 21, False),
        (Conv2D(4, 4, (3, 3), (4, 4), "same"), 20, True),
        (Conv2D(4, 4, (2, 1), (2, 2)), 20, True),
        (Conv2D(4, 4, (3, 3), dilation=(4, 4)), 10, True),  # between the taps
        (Conv2D(4, 4, (3, 3), dilation=(2, 2)), 20, False),
        (AveragePool((7, 7), (7, 7), "valid"), 20, True),
        (AveragePool((7, 7), (7, 7), "valid"), 21, False),
        (AveragePool((7, 7), (7, 7), "same"), 20, False),
        (AveragePool((1, 1), (2, 2), "valid"), 20, True),
        (MaxPool((2, 2), (2, 2), "valid"), 21, True),
        (Crop((0, 1, 0, 0)), 20, True),
        (Crop((0, 0, 0, 0)), 20, False),
        (Pad((1, 1, 1, 1)), 20, False),
        (UpSample((2, 2), "bilinear"), 20, False),
        (Resize((21, 20), "nearest"), 20, False),
        (Resize((20, 19)), 20, True),
        (GlobalMaxPool(), 20, False),
        (ReLU(), 20, False),
    ],
    ids=str,
)
def test_pixels_that_are_not_read(operator: Operator, size: int, skips: bool):
    """NaN there does not show behind it: then it is looked for before it, too."""
    assert operator.leaves_out((size, size, 4)) is skips
    graph = graph_of(("conv", Conv2D(4, 4, (3, 3), padding="same"), "input"), ("behind", operator, "conv"))
    found = ends(graph, ("conv", "behind"), graph.shapes(size, size), ())
    assert found == (("conv", "behind") if skips or operator.drops_nan else ("behind",))


def test_one_way_on_which_nan_stays_is_enough():
    graph = graph_of(
        ("conv", Conv2D(4, 4, (3, 3), padding="same"), "input"),
        ("cut", Crop((1, 1, 1, 1)), "conv"),
        ("back", Pad((1, 1, 1, 1)), "cut"),
        ("sum", Add(), "conv back"),
        ("both", Concatenate(), "cut cut"),
    )
    shapes = graph.shapes(20, 20)
    assert ends(graph, ("conv", "back"), shapes, ()) == ("conv", "back")
    assert ends(graph, ("conv", "cut", "back", "sum"), shapes, ()) == ("sum",)
    assert ends(graph, ("cut", "both"), shapes, ()) == ("both",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -(2.0**50)], ids=str)
def test_one_number_that_is_not_ordinary(value):
    array = np.full((5, 6, 3), 255.0, np.float32)
    assert ordinary(array)
    array[3, 2, 1] = value
    assert not ordinary(array)
