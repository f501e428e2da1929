"""Whole backbones against live TensorFlow, layer by layer, from files that Keras itself has saved.

For every layer, computed layer by layer, and for every tensor that a plan keeps, with Winograd and without: our float32
result within 1e-5 of TensorFlow's, and no further from the float64 truth than twice as far as TensorFlow is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import npresnet
from npresnet.cpu import by_layer as engine
from npresnet.model import assemble
from npresnet.network.families import FAMILIES
from npresnet.verify import oracle
from npresnet.verify.compare import compare
from npresnet.verify.rows import keras_model

from ..support.networks import Network, save, saved, shared, thin, write_detector

# odd, even, one pixel more than a multiple of 32: every border rule of the stem, the pool and the strides is met
SIZES = {"odd": (1, 67, 53), "even": (2, 64, 48), "odd-even": (1, 33, 70)}

FULL = [
    (Network("matterport", 50), "odd"),
    (Network("matterport", 50, stage5=False), "even"),
    (Network("keras.applications", 50, classes=1000), "odd"),
    (Network("keras-resnet", 18, classes=1000), "odd"),
    (Network("keras-resnet", 34, spread="trained"), "even"),
    (Network("matterport", 50, spread="trained"), "odd-even"),
    (Network("keras-resnet", 50), "odd-even"),
]
THIN = [
    (thin("matterport", 50, 32), "odd"),
    (thin("matterport", 50, 8, spread="trained"), "odd"),
    (thin("keras.applications", 50, 16, classes=5), "even"),
    (thin("keras-resnet", 18, 16, classes=7, stem="same"), "even"),
    (thin("keras-resnet", 34, 16, stem="same"), "odd"),
]
# Other depths have more of the same blocks, by other names; it is the number of layers that costs.
DEEP = [
    (thin("matterport", 101, 8, stage5=False), "odd-even"),
    (thin("matterport", 152, 8), "even"),
    (thin("keras.applications", 101, 8), "even"),
    (thin("keras.applications", 152, 8, classes=10, spread="trained"), "odd-even"),
    (thin("keras-resnet", 101, 8), "odd"),
    (thin("keras-resnet", 152, 8, spread="trained"), "even"),
]


def _pixels(n, h, w):
    return np.random.default_rng(5).uniform(-124, 132, (n, h, w, 3)).astype(np.float32)


def _spikes(n, h, w):
    """A dark picture with a few lights in it, a thousand times as bright as the rest."""
    random = np.random.default_rng(6)
    images = random.normal(0, 0.1, (n, h, w, 3)).astype(np.float32)
    images[random.random((n, h, w)) < 0.01] = 150.0
    return images


def _by_plan(net, algorithm, images):
    """Every tensor that ``net(images)`` keeps between its steps, by the name of its layer."""
    planned = assemble(net._inspection, algorithm=algorithm)
    ends = [step.name for step in planned.profile(images, repeats=1)]
    kept = [name for name in dict.fromkeys(ends) if name in net.layers]
    return planned(images, outputs=[*kept, *([net.graph.classifier] if net.graph.classifier else [])])


def _check(path, size, asked=None, images=_pixels, model=None):
    """Compare every layer of the network in ``path`` with TensorFlow's, and both with the float64 reference: layer by
    layer, and by plan with Winograd and without. ``model`` is what Keras has saved to the file, or else Keras loads it into
    a network of the architecture that we found."""
    net = npresnet.load(path, asked)
    images = images(*SIZES[size])
    last = net.graph.ends_for(*images.shape[1:3])
    ours = {step.name: step.array for step in net.trace(images)}
    ways = {"by layer": ours, **{algorithm: _by_plan(net, algorithm, images) for algorithm in ("auto", "direct")}}
    truth = {
        step.name: step.array
        for step in engine.run(
            net.graph, net.weights, images.astype(np.float64), last, algorithm="reference", threads=1
        )
    }
    if model is None:
        model = keras_model(net.architecture)
        oracle.load_file(model, path)

    def floor(name):
        """What rounding alone may add where TensorFlow happens to hit the truth: once the result's own; for a softmax
        that of its scores and of what they are made from, because exp turns absolute into relative errors."""
        if name != net.graph.classifier:
            return 1e-7
        w, entry = net.weights[name], net.graph.by_name[name].inputs[0]
        largest = np.abs(truth[entry] @ w["kernel"] + w["bias"]).max()
        return float((np.finfo(np.float32).eps + compare(ours[entry], truth[entry]).relative) * largest)

    seen, failures, largest = set(), [], 0.0
    for name, expected in oracle.activations(model, images):
        if name not in ours or name == net.layers[0]:
            continue
        seen.add(name)
        theirs = compare(expected, truth[name]).relative
        largest = max(largest, theirs)
        for way, arrays in ways.items():
            if way != "by layer":  # folded weights round differently from the first layer on: where TensorFlow is
                theirs = largest  # lucky at one layer, a plan need not be at the same one
            if name in arrays:
                difference, own = compare(arrays[name], expected), compare(arrays[name], truth[name]).relative
                if not difference.agrees() or own > 2 * theirs + floor(name):
                    failures.append(f"{way}: {name}: {difference}, from the truth: ours {own:.1e}, theirs {theirs:.1e}")
    assert all(len(arrays) > len(net.layers) / 5 for arrays in ways.values())
    needed = {layer.name for layer in net.graph.needed_for(last)} - {net.layers[0]}
    assert seen == needed, f"not compared: {needed - seen}"
    assert not failures, "\n".join(failures)
    return net


@pytest.mark.parametrize(("network", "size"), [*FULL, *DEEP], ids=lambda value: str(value).split(", stage_widths")[0])
def test_full_size_and_deep_agree_with_tensorflow(tmp_path_factory, network, size):
    net = _check(saved(tmp_path_factory, network), size, model=shared(network))
    assert (net.architecture.family.name, net.architecture.depth) == (network.family, network.depth)
    assert net.architecture.stage5 == network.stage5
    assert net.architecture.classes == network.classes


def test_spikes_agree_with_tensorflow(tmp_path_factory):
    """The largest values beside the smallest: what transforms of a whole tile find hardest."""
    network = Network("keras-resnet", 18, classes=10, spread="trained")
    net = _check(saved(tmp_path_factory, network), "even", images=_spikes)
    assert "F(4x4,3x3)" in net.summary(SIZES["even"][1:])


@pytest.mark.parametrize(("network", "size"), THIN, ids=lambda value: str(value).split(", stage_widths")[0])
def test_thin_agrees_with_tensorflow_in_both_layouts(tmp_path_factory, network, size):
    """The weights alone beside TensorFlow, and the whole model to the bit beside those: what runs is the same then."""
    net = _check(saved(tmp_path_factory, network), size, model=shared(network))
    whole = npresnet.load(saved(tmp_path_factory, network, "model"))
    assert replace(whole.graph, result=None, aliases={}) == net.graph  # which weights alone cannot know
    assert whole.weights.keys() == net.weights.keys()
    for layer, tensors in net.weights.items():
        assert whole.weights[layer].keys() == tensors.keys()
        assert all(array.tobytes() == whole.weights[layer][role].tobytes() for role, array in tensors.items()), layer
    assert net.architecture.stem_width == network.stem_width
    assert net.architecture.widths[: len(network.stage_widths)] == network.stage_widths


def test_detector_file(tmp_path_factory, tmp_path):
    """The two-level nesting of ``mask_rcnn_coco.h5``: its backbone, on images of which there is no pyramid."""
    path = tmp_path / "detector.h5"
    write_detector(saved(tmp_path_factory, thin("matterport", 50)), path)
    net = _check(path, "odd")
    assert net.architecture.name == "matterport/resnet50"
    assert "fpn_p2" in net.layers


def test_the_check_can_fail(tmp_path_factory, tmp_path):
    """One batch-norm epsilon wrong still looks plausible; the comparison must see it."""
    network = thin("matterport", 50)
    path = tmp_path / "weights.h5"
    save(network.build(), path)
    right = FAMILIES["matterport"]
    families = {**FAMILIES, "matterport": replace(right, epsilon=1.001e-5)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("npresnet.network.by_names.FAMILIES", families)
        with pytest.raises(AssertionError, match="bn2a_branch2a"):
            _check(path, "odd")
