"""Where NaN may get lost, and where it is looked for."""

from __future__ import annotations

from npresnet.network.operators import AveragePool, BatchNorm, Conv2D, GlobalMaxPool, MaxPool, ReLU
from npresnet.plan.nan import ends, read_by_pools

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


def test_ends():
    assert ends(GRAPH, ("relu", "bn", "third")) == ("third",)
    assert ends(GRAPH, ("side", "relu", "third")) == ("side", "third")
    assert ends(GRAPH, ("relu",)) == ("relu",)
