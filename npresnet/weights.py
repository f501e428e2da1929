"""From a Keras weight file to the tensors of a network: what the file holds, which network it is, what fits.

Three steps, each a function: ``read_layers`` turns the spellings of Keras 1, 2 and 3 into {layer: {role: tensor}};
``recognise`` finds family, depth, widths and classifier in those names and shapes; ``match`` compares them with the
graph and reports everything that is missing, unused, mis-shaped or not a number at once. ``load_weights`` does all
three and raises when anything is wrong; ``inspect`` tells instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mode

import numpy as np
import numpy.typing as npt

from .architecture import BLOCKS, FAMILIES, Architecture, Family, block_kind, build_graph, parse_architecture
from .errors import WeightsError
from .graph import BatchNorm, Graph
from .hdf5 import Group, StoredTensor, open_weights

__all__ = ["Inspection", "Weights", "inspect", "load_weights"]

Weights = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
"""{layer name: {role: float32 array}}; roles as in ``Operator.tensors``."""

_StoredLayers = Mapping[str, Mapping[str, StoredTensor]]

# how Keras 1 (W, b, running_*) and later versions spell the role of a variable
_ROLES = {
    "kernel": "kernel",
    "W": "kernel",
    "bias": "bias",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "mean",
    "running_mean": "mean",
    "moving_variance": "variance",
    "running_std": "variance",  # since Keras 1.0.7 the value is a variance; only the name stayed
}

# the roles of unnamed variables (param_0, param_1, ...) in the order in which Keras stores them, by their number
_UNNAMED = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "mean", "variance")}


@dataclass(frozen=True)
class _File:
    """What ``read_layers`` finds: tensors by layer, the names of all layers in order, and the file's own remarks."""

    layers: _StoredLayers
    layer_names: tuple[str, ...]
    layout: str
    keras_version: str | None
    backend: str | None


def _role(layer: str, last: str) -> str:
    """The role of a variable from the last part of its path: ``kernel:0``, ``conv1_W:0``, ``moving_mean`` ..."""
    name = re.sub(r":\d+$", "", last)
    if name.startswith(layer + "_"):  # Keras 1 puts the layer's name in front
        name = name[len(layer) + 1 :]
    return _ROLES.get(name, name)


def _named(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """A layer's tensors by role, where Keras has stored them as ``param_0``, ``param_1``, ..."""
    unnamed = [f"param_{position}" for position in range(len(tensors))]
    if tensors.keys() != set(unnamed) or len(tensors) not in _UNNAMED:
        return tensors
    return {role: tensors[name] for role, name in zip(_UNNAMED[len(tensors)], unnamed, strict=True)}


def _find(groups: Mapping[str, Group], name: str) -> Group | None:
    """The group of a layer; a slash in a layer's name, which Keras 2 allowed, makes groups within groups."""
    first, _, rest = name.partition("/")
    if name in groups or not rest or first not in groups:
        return groups.get(name)
    return _find(groups[first].groups(), rest)


def _layer_name(group: str, path: Sequence[str]) -> str:
    """Which layer a variable belongs to, from its group's name and its path below: (``conv1``, ``kernel:0``).

    Keras names the innermost scope after the layer; a second model in one TensorFlow session gets a counter there
    (``conv1_1`` inside group ``conv1``), so the group's name is trusted first. Inside a nested model (``rpn_model``)
    the scope is all there is.
    """
    if len(path) < 2 or re.fullmatch(re.escape(group) + r"(_\d+)?", path[-2]):
        return group
    return path[-2]


def read_layers(root: Group) -> _File:
    """The layers of a file in either legacy Keras layout: weights alone, or the whole model.

    Raises WeightsError for another layout, saying what to do.
    """
    layout, holder = "legacy HDF5, weights only", root
    names = root.names("layer_names")
    groups = root.groups()
    if names is None and "model_weights" in groups:
        layout, holder = "legacy HDF5, whole model", groups["model_weights"]
        names, groups = holder.names("layer_names"), holder.groups()
    if names is None:
        raise WeightsError(_foreign_layout(root, groups))

    layers: dict[str, dict[str, StoredTensor]] = {}
    for name in names:
        group = _find(groups, name)
        if group is None:
            raise WeightsError(f"the file lists a layer {name!r} but holds no group of that name; it is incomplete")
        for tensor in group.tensors():
            path = tensor.path[len(group.path) :].split("/")
            layer = _layer_name(name, path)
            role = _role(layer, path[-1])
            if role in layers.get(layer, {}):  # the same name in two nested models: keep both, by their full path
                layer = tensor.path.rsplit("/", 1)[0]
            layers.setdefault(layer, {})[role] = tensor
    version, backend = (holder.attribute(name) or root.attribute(name) for name in ("keras_version", "backend"))
    layers = {name: _named(tensors) for name, tensors in layers.items()}
    return _File(layers, tuple(names), layout, version and str(version), backend and str(backend))


def _foreign_layout(root: Group, groups: Mapping[str, Group]) -> str:
    """Why an HDF5 file without ``layer_names`` cannot be read, and what to do."""
    advice = "load the model in Keras and write `model.save('name.h5')`, a layout that npresnet reads"
    if "layers" in groups or "_layer_checkpoint_dependencies" in groups:
        return f"this is a Keras 3 `.weights.h5` file, which npresnet does not read yet; {advice}"
    if root.attribute("nb_layers") is not None:
        return f"this is a weight file of Keras before 1.0, which holds no layer names; {advice}"
    return f"this HDF5 file was not written by Keras: it has no 'layer_names' and no 'model_weights'; {advice}"


# ---------------------------------------------------------------------------------------------------------------------
# Which network is it?

# Layers that give a family away which npresnet does not run yet, and what it is.
_NOT_YET = {
    "scale_conv1": "a flyyufelix ResNet with separate Scale layers",
    "post_bn": "a pre-activation ResNet (V2)",
    "bn_data": "a qubvel/classification_models ResNet",
    "stack0_block0_1_conv": "a keras-hub ResNetBackbone",
    "v2_stack_0_block1_1_conv": "a KerasCV ResNet",
    "conv_stem_conv2d": "a kimm (timm) ResNet",
    "conv_stage0_block0_branch2a": "the opennsfw2 ResNet",
}


_MOST_BLOCKS = 64  # in one stage; ResNet-152 has 36


def _blocks_found(layers: _StoredLayers, family: Family, depth: int) -> tuple[int, ...]:
    """Blocks in stages 2 to 5, by the names that ``family`` gives at ``depth``: up to the last one of which any
    convolution is there, so that a hole in the middle is reported as missing layers."""
    return tuple(
        max(
            (
                index + 1
                for index in range(_MOST_BLOCKS)
                if any(_main_conv(family, depth, stage, index, branch) in layers for branch in range(3))
            ),
            default=0,
        )
        for stage in range(2, 6)
    )


def _main_conv(family: Family, depth: int, stage: int, index: int, branch: int = 0) -> str:
    """Name of the convolution number ``branch`` on a block's main path."""
    label = family.label(depth, stage, index)
    return family.names.conv.format(stage=stage, block=label, branch=family.names.branches[branch])


def _convolutions(layers: _StoredLayers, names: Iterable[str]) -> list[tuple[int, bool]]:
    """(output channels, whether there is a bias) of those of the named layers that are convolutions."""
    found = (layers[name] for name in names if name in layers)
    return [(t["kernel"].shape[3], "bias" in t) for t in found if "kernel" in t and len(t["kernel"].shape) == 4]


def _channels(layers: _StoredLayers, names: Iterable[str], default: int) -> int:
    """Output channels of most of the named convolutions, so that a single odd one is reported and not believed."""
    return mode([channels for channels, _ in _convolutions(layers, names)] or [default])


def recognise(file: _File, asked: str | None) -> tuple[Architecture, list[str]]:
    """The architecture whose names and shapes the file holds, and the reasons in words.

    ``asked`` restricts the search to a depth or to family and depth. Raises WeightsError when nothing fits, or what
    fits is not what was asked for.
    """
    asked_family, asked_depth = parse_architecture(asked) if asked else (None, None)
    layers = file.layers
    candidates = [
        (family, depth)
        for family in FAMILIES.values()
        if (asked_family is None or family.name == asked_family) and _stem_fits(layers, family, strict=not asked_family)
        for depth in family.depths
    ]
    for name, what in _NOT_YET.items():
        if name in file.layer_names or name in layers:
            raise WeightsError(f"the file looks like {what} (it has a layer {name!r}), which npresnet does not run yet")
    if not candidates:
        raise WeightsError(_no_resnet(file, asked))

    matching = [(family, depth) for family, depth in candidates if _depth_fits(layers, family, depth)]
    if not matching:
        raise WeightsError(_no_depth(layers, candidates))
    family, depth = matching[0]
    if asked_depth is not None and asked_depth not in (d for _, d in matching):
        raise WeightsError(
            f"the file holds {family.name}/resnet{depth} ({_stage_counts(layers, family, depth)} blocks in stages 2 to 5), "
            f"but {asked!r} was asked for; leave the architecture out, or give that file"
        )
    if asked_family is None and family.name == "matterport" and "fc1000" in layers:
        raise WeightsError(
            "the file looks like the original Keras ResNet50 (conv1 with bias, fc1000), which npresnet does not run yet; "
            "architecture='matterport/resnet50' runs the Mask R-CNN network, which shares its names, on these weights"
        )
    reasons = [f"layers {family.names.stem_conv!r} and {_main_conv(family, depth, 2, 0)!r}: {family.title}"]
    if family.names.stem_conv == "conv1":
        reasons.append(f"convolutions {'with' if family.bias else 'without'} bias: {family.name}")
    reasons.append(f"{_stage_counts(layers, family, depth)} blocks in stages 2 to 5: ResNet-{depth}")
    return _measure(file, family, depth, reasons), reasons


def _stem_fits(layers: _StoredLayers, family: Family, *, strict: bool) -> bool:
    """Whether the family's first layers are there; ``strict``: and most convolutions have a bias if the family's do."""
    names = family.names
    if not all(name in layers for name in (names.stem_conv, names.stem_bn)):
        return False
    return not strict or mode([bias for _, bias in _convolutions(layers, layers)] or [family.bias]) == family.bias


def _depth_fits(layers: _StoredLayers, family: Family, depth: int) -> bool:
    """Whether exactly this depth's blocks are there, of the right kind, with or without stage 5 where that may be."""
    found, wanted = _blocks_found(layers, family, depth), BLOCKS[depth]
    thirds = (_main_conv(family, depth, stage, 0, branch=2) for stage in range(2, 6))
    if any(name in layers for name in thirds) != (block_kind(depth) == "bottleneck"):
        return False
    return found == wanted or (family.optional_stage5 and found == (*wanted[:3], 0))


def _stage_counts(layers: _StoredLayers, family: Family, depth: int) -> str:
    return "/".join(map(str, _blocks_found(layers, family, depth)))


def _no_resnet(file: _File, asked: str | None) -> str:
    for family in FAMILIES.values():
        if asked and _stem_fits(file.layers, family, strict=True):
            return (
                f"the file names its layers as {family.name} does, but {asked!r} was asked for; leave the architecture "
                "out, or give that file"
            )
    names = list(file.layers)[:6]
    shown = ", ".join(map(repr, names)) + (", ..." if len(file.layers) > len(names) else "")
    stems = "; ".join(f"{f.name}: {f.names.stem_conv!r} and {f.names.stem_bn!r}" for f in FAMILIES.values())
    return (
        f"no ResNet is recognised among the {len(file.layers)} layers with weights ({shown or 'none'}); the first layers "
        f"tell the family ({stems}); the file holds another network, or its layers were renamed"
    )


def _no_depth(layers: _StoredLayers, candidates: Sequence[tuple[Family, int]]) -> str:
    """No depth has exactly the blocks that are there: the file is incomplete, or the network is a variant."""
    family, depth = max(candidates, key=lambda c: sum(_blocks_found(layers, *c)))
    known = "; ".join(f"ResNet-{d}: {'/'.join(map(str, BLOCKS[d]))}" for d in family.depths)
    return (
        f"the file names its layers as {family.name} does, but holds {_stage_counts(layers, family, depth)} blocks in "
        f"stages 2 to 5, which is no known depth ({known}); the file is incomplete, or the network was changed"
    )


def _measure(file: _File, family: Family, depth: int, reasons: list[str]) -> Architecture:
    """Fill in what the shapes tell: widths, stage 5, classifier, and the stem's border where families waver."""
    layers, names = file.layers, family.names
    standard = Architecture.standard(family, depth, stage5=_blocks_found(layers, family, depth)[3] > 0)
    last = 1 if block_kind(depth) == "basic" else 2

    def width(stage: int, branch: int, default: int) -> int:
        blocks = range(BLOCKS[depth][stage - 2])
        return _channels(layers, (_main_conv(family, depth, stage, index, branch) for index in blocks), default)

    found = replace(
        standard,
        stem_width=_channels(layers, [names.stem_conv], standard.stem_width),
        widths=tuple(
            (width(stage, 0, inner), width(stage, last, outer))
            for stage, (inner, outer) in zip(standard.stages, standard.widths, strict=True)
        ),
    )
    if family.name == "keras-resnet" and names.stem_pad not in file.layer_names:
        # A model's list of layers names those without weights too: there, no padding layer means version 0.2.0's
        # "same". Where the network is one layer of a bigger model, its own list is not in the file.
        pad = names.pad.format(stage=2, block="a", branch="2b")
        if pad in file.layer_names:
            found = replace(found, stem="same")
            reasons.append(
                f"layer {pad!r} but no {names.stem_pad!r}: stem with 'same' padding, as in keras-resnet 0.2.0"
            )
        else:
            reasons.append("no padding layers are listed: stem padded by 3, as in keras-resnet 0.1.0, is assumed")
    if found.stage5:
        for name in names.classifiers:
            kernel = layers.get(name, {}).get("kernel")
            if kernel is not None and len(kernel.shape) == 2 and kernel.shape[0] == found.widths[-1][1]:
                found = replace(found, classes=kernel.shape[1], classifier=name)
                reasons.append(f"layer {name!r}: a classifier of {kernel.shape[1]} classes")
                break
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Does everything fit?


@dataclass(frozen=True)
class Inspection:
    """What a weight file turned out to be.

    matched     layers of the network whose tensors are all there
    missing     'layer/role (shape)' that the network needs and the file lacks
    misshaped   'layer/role: shape in the file, shape needed'
    unsound     'layer/role: what is wrong with its numbers'
    unused      layers of the file that are not part of the network (a detector's heads, say), with their tensor count
    """

    path: Path
    bytes: int
    layout: str
    keras_version: str | None
    backend: str | None
    architecture: Architecture
    reasons: Sequence[str]
    graph: Graph
    weights: Weights
    matched: Sequence[str] = ()
    missing: Sequence[str] = ()
    misshaped: Sequence[str] = ()
    unsound: Sequence[str] = ()
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Numbers in the network's own tensors."""
        return sum(array.size for tensors in self.weights.values() for array in tensors.values())

    @property
    def problems(self) -> list[str]:
        """One sentence for each kind of trouble; empty when the weights can be run."""
        kinds = (
            ("missing", self.missing, "the file lacks"),
            ("misshaped", self.misshaped, "shapes do not fit for"),
            ("unsound", self.unsound, "numbers are unusable in"),
        )
        return [
            f"{text} {len(found)} {'tensor' if len(found) == 1 else 'tensors'}: {_some(found)}"
            for _, found, text in kinds
            if found
        ]


def _some(items: Sequence[str], most: int = 12) -> str:
    """The items in words, cut after ``most``."""
    text = "; ".join(items[:most])
    return text if len(items) <= most else f"{text}; and {len(items) - most} more"


def _unsound(role: str, array: npt.NDArray[np.float32], epsilon: float | None) -> str | None:
    """What makes a tensor's numbers unusable, or None."""
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        return f"{bad} of {array.size} numbers are NaN or infinite"
    if epsilon is not None and role == "variance" and array.size and float(array.min()) + epsilon <= 0:
        return f"a variance is negative ({float(array.min()):g})"
    return None


def inspect(path: str | os.PathLike[str], architecture: str | None = None) -> Inspection:
    """Read a weight file and say what it is and what fits; only a file that is no ResNet at all is an error.

    path          a Keras ``.h5`` file
    architecture  None to detect, ``"resnet101"``, or ``"matterport/resnet101"``

    Raises WeightsError for what cannot be read or recognised, UsageError for an unknown architecture.
    """
    with open_weights(path) as root:
        file = read_layers(root)
        if file.backend == "theano":
            raise WeightsError(
                "the file was written with Keras on Theano, whose kernels are stored flipped; npresnet does not run it yet; "
                "load it in Keras 2 on TensorFlow and save it again"
            )
        found, reasons = recognise(file, architecture)
        graph = build_graph(found)
        weights: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
        matched, missing, misshaped, unsound = [], [], [], []
        for layer in graph.layers:
            needed = layer.operator.tensors()
            if not needed:
                continue
            stored = file.layers.get(layer.name, {})
            epsilon = layer.operator.epsilon if isinstance(layer.operator, BatchNorm) else None
            arrays: dict[str, npt.NDArray[np.float32]] = {}
            for role, shape in needed.items():
                where = f"{layer.name}/{role}"
                if role not in stored:
                    missing.append(f"{where} {shape}")
                elif stored[role].shape != shape:
                    misshaped.append(f"{where}: {stored[role].shape} in the file, {shape} needed")
                elif stored[role].dtype.kind != "f":  # quantised, perhaps; other layers may well count in integers
                    unsound.append(f"{where}: stored as {stored[role].dtype}, not as floating-point numbers")
                else:
                    arrays[role] = stored[role].read()
                    trouble = _unsound(role, arrays[role], epsilon)
                    if trouble:
                        unsound.append(f"{where}: {trouble}")
            for role in stored:
                if role not in needed:
                    misshaped.append(f"{layer.name}/{role}: in the file, but the network has no such tensor")
            if len(arrays) == len(needed):
                matched.append(layer.name)
            weights[layer.name] = arrays
        unused = {name: len(tensors) for name, tensors in file.layers.items() if name not in graph.by_name}
        return Inspection(
            Path(path), Path(path).stat().st_size, file.layout, file.keras_version, file.backend, found, reasons, graph,
            weights, matched, missing, misshaped, unsound, unused,
        )  # fmt: skip


def load_weights(path: str | os.PathLike[str], architecture: str | None = None) -> Inspection:
    """As ``inspect``, but anything that keeps the weights from being run is an error. Raises WeightsError, UsageError."""
    found = inspect(path, architecture)
    if found.problems:
        raise WeightsError(
            f"{found.path}: recognised as {found.architecture}, but {'; '.join(found.problems)}; "
            f"`npresnet info {found.path.name}` shows all of it; give a complete file of this network"
        )
    return found
