"""Weight files for the tests: networks built, filled and saved by Keras, and the same weights in other spellings.

``saved`` gives files that Keras itself wrote. ``respell`` and ``write_detector`` rewrite such a file with h5py alone,
the way older Keras releases and matterport's Mask R-CNN laid theirs out.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from npresnet.verify import oracle

from .random_weights import Spread, randomize

Layout = Literal["weights", "model", "v3", "archive"]
Dialect = Literal["keras1", "keras2", "keras3.0", "keras3.3"]
Encoding = Literal["bytes", "str", "split"]
Weights = dict[str, dict[str, NDArray[Any]]]

_SUFFIX: dict[Layout, str] = {"weights": ".h5", "model": ".h5", "v3": ".weights.h5", "archive": ".keras"}


# Files written by Keras ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network of :func:`npresnet.verify.oracle.build` with the random weights of :func:`randomize`.

    block_labels  for each stage the labels of its blocks, where a file spells them another way than upstream does
    """

    family: str
    depth: int
    stage5: bool = True
    stem_width: int = 64
    stage_widths: tuple[tuple[int, int], ...] | None = None
    classes: int | None = None
    stem: Literal["explicit", "same"] = "explicit"
    block_labels: tuple[tuple[str, ...], ...] | None = None
    seed: int = 1
    spread: Spread = "plain"

    def build(self) -> Any:
        """A Keras model of its own, filled."""
        usual = {field.name: field.default for field in fields(self)}
        chosen = {name: getattr(self, name) for name in ("stage5", "stem")}
        options = {name: value for name, value in chosen.items() if value != usual[name]}
        model = oracle.build(
            self.family,
            self.depth,
            stem_width=self.stem_width,
            stage_widths=self.stage_widths,
            classes=self.classes,
            **options,
        )
        if self.block_labels is not None:
            model = relabelled(model, self.block_labels)
        randomize(model, self.seed, self.spread)
        return model


def relabelled(model: Any, block_labels: Sequence[Sequence[str]]) -> Any:
    """A network of matterport's or keras-resnet's kind with other labels of its blocks: ``res3x1_branch2a``, say.

    block_labels  for each stage as many labels, each another, as it has blocks
    """
    import keras

    label = re.compile(r"(res|bn|padding)(\d)([^_]+)((?:_.*)?)", re.DOTALL)
    found = [match for layer in model.layers if (match := label.fullmatch(layer.name))]
    upstream: dict[str, dict[str, None]] = {}  # labels by stage, in order
    for match in found:
        upstream.setdefault(match[2], {})[match[3]] = None
    renamed = {
        (stage, old): new
        for (stage, labels), own in zip(upstream.items(), block_labels, strict=True)
        for old, new in zip(labels, own, strict=True)
    }

    def with_own_label(layer: Any) -> Any:
        config = layer.get_config()
        if match := label.fullmatch(layer.name):
            config["name"] = f"{match[1]}{match[2]}{renamed[match[2], match[3]]}{match[4]}"
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=with_own_label)


@functools.lru_cache(maxsize=24)
def shared(network: Network) -> Any:
    """The network as a Keras model that other tests have, too: look at it and run it, but leave its weights alone.

    Building takes Keras seconds even where the layers are thin.
    """
    return network.build()


def thin(family: str, depth: int, width: int = 4, **options: Any) -> Network:
    """A network of the same depth with a stem of ``width`` channels instead of 64, all other widths in proportion."""
    expansion = 1 if depth in (18, 34) else 4
    stages = 4 if options.get("stage5", True) else 3
    widths = tuple((width << i, (width << i) * expansion) for i in range(stages))
    return Network(family, depth, stem_width=width, stage_widths=widths, **options)


def applications(name: str, which: Any = None, **options: Any) -> Any:
    """One of keras.applications, by its own program, without its top and with an eighth of the channels.

    which    the Keras that makes it; None for Keras 3
    options  of the program
    """
    K = which or importlib.import_module("keras")
    made = K.layers.Conv2D.__init__

    def narrow(self: Any, filters: int, kernel_size: int, **settings: Any) -> None:
        made(self, filters // 8, kernel_size, **settings)

    with mock.patch.object(K.layers.Conv2D, "__init__", narrow):
        return getattr(K.applications, name)(weights=None, include_top=False, **options)


def saved(tmp_path_factory: pytest.TempPathFactory, network: Network, layout: Layout = "weights") -> Path:
    """The file that Keras writes for a network, made once in a test session.

    layout  "weights" legacy HDF5 with the weights alone; "model" legacy HDF5 of the whole model; "v3" ``.weights.h5``;
            "archive" ``.keras``
    """
    folder = tmp_path_factory.getbasetemp() / "networks"
    folder.mkdir(exist_ok=True)
    name = f"{network.family}-{network.depth}-{zlib.crc32(repr(network).encode()):08x}-{layout}{_SUFFIX[layout]}"
    path = folder / name
    if not path.exists():
        unfinished = folder / f"unfinished-{name}"
        save(shared(network), unfinished, layout)
        unfinished.replace(path)
    return path


def save(model: Any, path: Path, layout: Layout = "weights") -> None:
    """Save a Keras model; ``path`` must end as the layout wants it: .h5, .h5, .weights.h5 or .keras."""
    if layout == "weights":
        # Keras 3 reads this layout but no longer offers to write it: `save_weights` takes .weights.h5 names only.
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    elif layout == "v3":
        model.save_weights(path)
    else:
        model.save(path)


# Files rewritten with h5py -------------------------------------------------------------------------------------------


def read(path: Path) -> Weights:
    """All layers of a legacy file written by Keras 3, in the order of ``layer_names``: {layer: {role: array}}."""
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        return {
            layer: {name.split("/")[-1]: group[layer][name][()] for name in _text(group[layer].attrs["weight_names"])}
            for layer in _text(group.attrs["layer_names"])
        }


def _text(names: Iterable[str | bytes]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else name for name in names]


_KERAS_1 = {
    "kernel": "W",
    "bias": "b",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",  # by then a variance in spite of its name
}
_VERSION = {"keras2": "2.2.4", "keras3.0": "3.0.5", "keras3.3": "3.3.3"}


def _spelling(dialect: Dialect, layer: str, role: str) -> str:
    match dialect:
        case "keras1":
            return f"{layer}_{_KERAS_1[role]}:0"
        case "keras2":
            return f"{layer}/{role}:0"
        case "keras3.0":
            return role
        case "keras3.3":
            return f"{layer}/{role}"


def respell(source: Path, target: Path, dialect: Dialect, encoding: Encoding = "bytes") -> Path:
    """Write a legacy file again as another Keras would have spelled it.

    source    a file of the layout "weights" or "model"; a whole model stays one, with its ``model_config`` as it is
    encoding  of the lists of names: "bytes" fixed-length arrays (h5py 2), "str" variable-length text (h5py 3), "split"
              fixed-length arrays in two numbered parts (lists beyond HDF5's limit of 64 kB)
    """
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        group: Any = new
        if "model_weights" in old:
            for name, value in old.attrs.items():
                new.attrs[name] = value
            group = new.create_group("model_weights")
        spelled = {
            layer: {_spelling(dialect, layer, role): array for role, array in roles.items()}
            for layer, roles in read(source).items()
        }
        _write(group, spelled, encoding, _VERSION.get(dialect))
        if dialect.startswith("keras3"):
            _names(group.create_group("top_level_model_weights").attrs, "weight_names", [], "bytes")
    return target


def _write(group: Any, layers: Weights, encoding: Encoding, version: str | None) -> None:
    """Write {layer: {weight name: array}} in the legacy layout; without a version the backend is left out, too."""
    _names(group.attrs, "layer_names", list(layers), encoding)
    if version is not None:
        for name, value in {"backend": "tensorflow", "keras_version": version}.items():
            group.attrs[name] = value if encoding == "str" else value.encode()
    for layer, weights in layers.items():
        layer_group = group.create_group(layer)
        _names(layer_group.attrs, "weight_names", list(weights), encoding)
        for name, array in weights.items():
            layer_group[name] = array


def _names(attributes: Any, name: str, names: list[str], encoding: Encoding) -> None:
    if not names:
        attributes[name] = np.zeros(0)  # what both h5py 2 and 3 make of an empty list
    elif encoding == "str":
        attributes.create(name, names, dtype=h5py.string_dtype())
    elif encoding == "bytes":
        attributes[name] = np.array([entry.encode() for entry in names])
    else:
        half = (len(names) + 1) // 2
        for i, part in enumerate([names[:half], names[half:]]):
            if part:
                attributes[f"{name}{i}"] = np.array([entry.encode() for entry in part])


def write_detector(
    backbone: Path, target: Path, *, encoding: Encoding = "bytes", pyramid: int = 16, classes: int = 81, seed: int = 1
) -> Path:
    """Write a file like ``mask_rcnn_coco.h5``: a matterport backbone and around it the other parts of the detector.

    The layout is that of Keras 2 with the weights alone; layers without weights have empty groups, and those that
    matterport leaves unnamed get Keras's counters (``activation_1``).

    backbone  a legacy file of a matterport network with stage 5
    pyramid   channels of the feature pyramid; 256 gives the tensors of the published file their shapes
    """
    rng = np.random.default_rng(seed)
    counters: Counter[str] = Counter()
    counted = {"_pad": "zero_padding2d", "_relu": "activation", "_add": "add", "pool1": "max_pooling2d"}

    def original(name: str) -> str:
        for ending, kind in counted.items():
            if name.endswith(ending):
                counters[kind] += 1
                return f"{kind}_{counters[kind]}"
        return name

    def draw(*shape: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    def weighted(*kernel: int) -> dict[str, NDArray[Any]]:
        return {"kernel": draw(*kernel), "bias": draw(kernel[-1])}

    def norm(channels: int) -> dict[str, NDArray[Any]]:
        gamma, variance = 1 + draw(channels), 1 + np.abs(draw(channels))
        return {"gamma": gamma, "beta": draw(channels), "moving_mean": draw(channels), "moving_variance": variance}

    layers = {original(name): roles for name, roles in read(backbone).items()}
    features = {stage: layers[f"res{stage}a_branch2c"]["kernel"].shape[3] for stage in (2, 3, 4, 5)}
    p, head = pyramid, 4 * pyramid
    layers["fpn_c5p5"] = weighted(1, 1, features[5], p)
    for stage in (4, 3, 2):
        layers[f"fpn_p{stage + 1}upsampled"] = {}
        layers[f"fpn_c{stage}p{stage}"] = weighted(1, 1, features[stage], p)
        layers[f"fpn_p{stage}add"] = {}
    layers |= {f"fpn_p{stage}": weighted(3, 3, p, p) for stage in (5, 2, 3, 4)}
    layers["fpn_p6"] = {}
    region_proposals = {
        "rpn_conv_shared": weighted(3, 3, p, 2 * p),
        "rpn_class_raw": weighted(1, 1, 2 * p, 6),
        "rpn_bbox_pred": weighted(1, 1, 2 * p, 12),
    }
    layers |= {"rpn_model": {}, "rpn_class": {}, "rpn_bbox": {}, "ROI": {}, "roi_align_classifier": {}}
    layers["mrcnn_class_conv1"] = weighted(7, 7, p, head)
    layers["mrcnn_class_bn1"] = norm(head)
    layers["mrcnn_class_conv2"] = weighted(1, 1, head, head)
    layers["mrcnn_class_bn2"] = norm(head)
    layers["pool_squeeze"] = {}
    layers["mrcnn_class_logits"] = weighted(head, classes)
    layers["mrcnn_bbox_fc"] = weighted(head, 4 * classes)
    layers |= {"mrcnn_bbox": {}, "mrcnn_class": {}, "mrcnn_detection": {}, "roi_align_mask": {}}
    for i in (1, 2, 3, 4):
        layers[f"mrcnn_mask_conv{i}"] = weighted(3, 3, p, p)
        layers[f"mrcnn_mask_bn{i}"] = norm(p)
    layers["mrcnn_mask_deconv"] = weighted(2, 2, p, p)
    layers["mrcnn_mask"] = weighted(1, 1, p, classes)

    spelled = {layer: {f"{layer}/{role}:0": array for role, array in roles.items()} for layer, roles in layers.items()}
    # A nested model keeps its weights in one group, under their own layers' names.
    spelled["rpn_model"] = {
        f"{layer}/{role}:0": array for layer, roles in region_proposals.items() for role, array in roles.items()
    }
    with h5py.File(target, "w") as file:
        _write(file, spelled, encoding, "2.0.8")
    return target
