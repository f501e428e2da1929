"""Random networks, the same ones each time, against Keras 2 and 3; and that faults show in them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("keras")
pytest.importorskip("tf_keras")

from npresnet.network import described, operators, wiring
from npresnet.network.dialects import IDLE, LAYERS
from npresnet.plan import layer_calls

from ..fuzz_networks import fault_of, run, smallest
from ..support.random_blocks import TABLES, missing
from ..support.random_networks import Recipe, recipe_of, varied

VARIED = varied(45)


@pytest.mark.parametrize("first", range(0, 45, 15))
def test_networks(first: int) -> None:
    """Few that have much between them: more rows than the first 90 seeds."""
    report = run(VARIED[first : first + 15])
    assert not report.faults, "\n\n".join(report.faults)
    assert report.counts.networks >= 13, report.without
    assert report.counts.arrays > 300


def test_all_layers_have_a_row() -> None:
    """So that a new one is tried among others, too; and no row is left out."""
    assert missing() == []
    needed = {need for table in TABLES for row in table for need in row.needs}
    assert set(LAYERS) - needed - OTHERS == set()


OTHERS = {
    *IDLE,  # of which the row "noise" and images that are augmented draw some
    # drawn wherever blocks are
    *("Activation", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Add"),
    # nobody's but older versions', or the functions' own
    *("BatchNorm", "BatchNormalizationV1", "BatchNormalizationV2", "Channels", "Convolution2D", "Lambda", "Merge", "Scale"),
    *("SeparableConvolution2D", "Sigmoid", "SyncBatchNormalization"),
}  # fmt: skip


# Faults that there were: taken back, they show ----------------------------------------------------------------------


def shows(kind: str, most: int = 8) -> Recipe:
    """The first network with something of this kind that is wrong. Fails where ``most`` of them are right."""
    tried = 0
    for seed in range(2000):
        recipe = recipe_of(seed)
        if kind not in str(recipe):
            continue
        tried += 1
        if run([seed], shrink=False).faults:
            return recipe
        assert tried < most, f"{most} networks with {kind!r} show nothing"
    raise AssertionError(f"no network with {kind!r}")


def test_a_model_used_twice_that_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lay = wiring._Laid._lay

    def once(self: Any, layer: Any, path: Any, use: Any, values: Any, place: Any) -> None:
        if wiring.is_model(layer) and (place[0], 0) in values and place not in values:
            values[place] = values[place[0], 0]
        else:
            lay(self, layer, path, use, values, place)

    monkeypatch.setattr(wiring._Laid, "_lay", once)
    recipe = shows("nested, used twice")
    least, fault = smallest(recipe, tries=12)
    assert fault is not None
    assert len(str(least)) < len(str(recipe))
    monkeypatch.undo()
    assert fault_of(least) is None


def test_a_gate_whose_shape_is_taken_for_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.Multiply, "output_shape", lambda self, *given: given[0])
    shows("squeeze and excitation")


def test_batch_norm_of_rows_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, fields = layer_calls._stored("gamma", "beta", "mean", "variance"), layer_calls._fields("epsilon")
    call = layer_calls.LayerCall("batchnorm", tensors=stored, options=fields)
    monkeypatch.setitem(layer_calls.CALLS, operators.BatchNorm, (call,))
    shows("pooled", most=30)


def test_one_name_in_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described._Building, "stored", lambda self, node: node.layer)
    shows("names 'again'", most=20)
