"""Which network a weight file holds: a row of the table of families, or the network that the file itself describes.

A row is found by the names of layers; where a file has no names, by how many layers of each class there are and by the
shapes of their kernels. A file that describes its own layers (``config.py``) confirms the row, or corrects it: what
the file says about its own network is believed before the table. Without a row, that description alone is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mode

from ..errors import WeightsError
from ..files.hdf5.tree import StoredTensor
from ..files.layers import StoredFile, StoredLayer, Tensor, TheanoKernel
from .architecture import Architecture, Request, own_architecture
from .building import build_graph
from .described import OwnNetwork, network_from_config
from .families import FAMILIES, Family, block_kind
from .fingerprints import fingerprints
from .graph import Graph, Layer
from .keras_order import keras_order
from .operators import Add, BatchNorm, Conv2D, Dense, MaxPool, Pad, Rescale
from .stored_shapes import stored_shapes

__all__ = ["Network", "find_network"]

_StoredLayers = Mapping[str, StoredLayer]


@dataclass(frozen=True)
class Network:
    """The network in a file.

    layers   the file's tensors under the names of the graph's layers, kernels in the order and direction of TensorFlow's
    reasons  how it was recognised
    doubts   what was assumed because the file does not say
    """

    architecture: Architecture
    graph: Graph
    layers: _StoredLayers
    reasons: Sequence[str]
    doubts: Sequence[str] = ()


@dataclass
class _Notes:
    """What is to be told about a search while it goes on. ``assumed``: doubts that a file's own description settles."""

    reasons: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def find_network(file: StoredFile, path: Path, request: Request | None) -> Network:
    """The network in a file.

    path     the file's, whose name may tell how kernels are stored
    request  restricts the search to some families and depths

    Raises WeightsError when nothing fits, or what fits is not what was asked for.
    """
    notes = _Notes()
    layers = _oriented(file, path, notes)
    own = network_from_config(file.config) if file.config else None
    try:
        variant = None
        if file.unnamed:
            layers, variant = _named_by_position(file, request, notes)
        architecture, layers = _recognise(replace(file, layers=layers), request, notes, variant)
    except WeightsError as failure:
        if request is not None or own is None:
            raise
        if own.unsupported:
            raise WeightsError(
                f"{failure}; nor can the network be run that the file describes: {_refused(own)}"
            ) from None
        if not any(isinstance(layer.operator, Add) for layer in own.graph.layers):
            raise
        return _own(own, layers, own_architecture(own.name, own.graph), own.graph.features, notes)
    graph = build_graph(architecture)
    if own is None:
        return Network(architecture, graph, layers, notes.reasons, [*notes.doubts, *notes.assumed])
    return _reconciled(architecture, graph, own, layers, request, notes)


def _refused(own: OwnNetwork) -> str:
    items = [f"{name!r} ({why})" for name, why in own.unsupported.items()]
    return ", ".join(items[:4]) + (f", and {len(items) - 4} more" if len(items) > 4 else "")


def _own(
    own: OwnNetwork, layers: _StoredLayers, architecture: Architecture, features: Mapping[str, str], notes: _Notes
) -> Network:
    """The network of a file's own description, with the features of a row where one is known."""
    graph = replace(own.graph, features=dict(features))
    notes.reasons.append(f"built from the file's own description of {own.name!r}: {len(graph.layers)} layers")
    if architecture.family.name == "custom":
        notes.doubts.append("nothing says how pictures were prepared for this network: pixels go in as RGB, 0 to 255")
    return Network(architecture, graph, layers, notes.reasons, notes.doubts)


def _reconciled(
    architecture: Architecture,
    graph: Graph,
    own: OwnNetwork,
    layers: _StoredLayers,
    request: Request | None,
    notes: _Notes,
) -> Network:
    """The row of the table, or the file's own description where that says something else or more."""
    known: dict[object, int] = {}
    row, mine = fingerprints(graph, known), fingerprints(own.graph, known)
    by_number = {number: name for name, number in mine.items()}
    ends = [*graph.features.values(), *([graph.classifier] if graph.classifier else [])]
    if all(row[name] in by_number for name in ends):
        notes.reasons.append("the file's own description of its layers says the same")
        more = [name for name in own.outputs if mine[name] not in row.values()]
        if own.unsupported or not more:
            return Network(architecture, graph, layers, notes.reasons, notes.doubts)
        features = {feature: by_number[row[name]] for feature, name in graph.features.items()}
        return _own(own, layers, replace(architecture, classes=None, own=own.name), features, notes)
    odd = next(x for x in graph.layers if row[x.name] not in by_number and all(row[i] in by_number for i in x.inputs))
    if request is not None and request.options:
        notes.doubts.append(f"the file's own description differs from what was asked for, first at {odd.name!r}")
    elif own.unsupported and not _covers(own, graph):
        notes.doubts.append(
            f"the file's own description of its layers cannot be followed, because of {_refused(own)}; the table's "
            f"{architecture.name} is taken instead"
        )
        notes.doubts += notes.assumed
    else:
        notes.reasons.append(_difference(odd, own.graph, architecture))
        return _own(own, layers, replace(architecture, classes=None, own=own.name), own.graph.features, notes)
    return Network(architecture, graph, layers, notes.reasons, notes.doubts)


def _covers(own: OwnNetwork, graph: Graph) -> bool:
    """Whether all layers with weights of ``graph`` are among those that a file describes and that can be run."""
    sources = {layer.source for layer in own.graph.layers}
    return all(layer.source in sources for layer in graph.layers if layer.operator.tensors())


def _difference(odd: Layer, own: Graph, architecture: Architecture) -> str:
    theirs = own.by_name.get(odd.name)
    if theirs is None or theirs.operator == odd.operator:
        return f"the file's own description is followed, which leaves {architecture.name} at {odd.name!r}"
    return (
        f"the file's own description is followed: it has {theirs.operator} for {odd.name!r}, where {architecture.name} "
        f"has {odd.operator}"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Kernels as Theano keeps them


def _oriented(file: StoredFile, path: Path, notes: _Notes) -> _StoredLayers:
    """The layers with kernels as TensorFlow has them: (height, width, in, out), not flipped.

    Theano's convolution flips its kernels, and Keras 1 stored them as (out, in, height, width) where images were
    (channels, height, width). The second is seen in the shapes. The first is not: only the file's backend or name tells.
    """
    kernels = [t["kernel"].shape for t in file.layers.values() if "kernel" in t and len(t["kernel"].shape) == 4]
    windows = [(shape[2:] in ((7, 7), (3, 3)), shape[:2] in ((7, 7), (3, 3))) for shape in kernels]
    outer = sum(last for last, _ in windows) > sum(first for _, first in windows)
    name = path.name.lower()
    if "th_kernels" in name or "tf_kernels" in name:
        flipped = "th_kernels" in name
        why = "the file's name"
    else:
        flipped = file.backend == "theano" or (outer and file.backend is None)
        why = "the file's backend" if file.backend else "their order; nothing else says so"
        if outer and file.backend is None:
            notes.doubts.append("kernels are taken for Theano's, so flipped, because of their order alone")
    if not outer and not flipped:
        return file.layers
    order = " and stored as (out, in, height, width)" if outer else ""
    notes.reasons.append(f"kernels are {'flipped' if flipped else 'not flipped'}{order}, by {why}")
    return {
        layer: {
            role: TheanoKernel(tensor, outer, flipped) if role == "kernel" and len(tensor.shape) == 4 else tensor
            for role, tensor in tensors.items()
        }
        for layer, tensors in file.layers.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# Files without names

_COUNTED = {"conv2d": Conv2D, "depthwise_conv2d": Conv2D, "batch_normalization": BatchNorm, "dense": Dense}
_WEIGHTLESS = {"zero_padding2d": Pad, "max_pooling2d": MaxPool, "add": Add, "rescaling": Rescale}


def _variants(family: Family, depth: int) -> Iterator[Architecture]:
    """The networks of one family and depth that differ in more than widths."""
    for stage5 in (True, False) if family.optional_stage5 else (True,):
        standard = Architecture.standard(family, depth, stage5=stage5, classes=1)
        yield standard
        if family.inside:
            yield replace(standard, inside=True)
        if family.name == "keras-resnet":
            yield replace(standard, stem="same")
        if family.name == "fchollet":
            yield replace(standard, pool="valid")


def _named_by_position(file: StoredFile, request: Request | None, notes: _Notes) -> tuple[_StoredLayers, Architecture]:
    """The layers of a file without names under the names of the one network that they fit, and that network.

    Raises WeightsError where none fits, or several do.
    """
    fits: list[tuple[str, Architecture, _StoredLayers]] = []
    for container, classes in file.unnamed.items():
        for family, depth in _candidates(request):
            for variant in _variants(family, depth):
                layers = _assigned(build_graph(variant), classes)
                if layers is not None and _shapes_fit(variant, layers):
                    fits.append((container, variant, layers))
    names = list(dict.fromkeys(_full_name(variant) for _, variant, _ in fits))
    if not fits:
        raise WeightsError(
            "the file holds no names of layers (Keras wrote none before version 3.6), and no known network has as many "
            "layers of each class with kernels of these shapes"
            + (f" among those that {request.text!r} allows" if request else "")
        )
    if len(names) > 1 and (request is None or len({variant.name for _, variant, _ in fits}) > 1):
        raise WeightsError(
            f"the file holds no names of layers, and what it holds fits {', '.join(names)}, which are different networks; "
            f"say which with architecture={names[0]!r}, or another of them"
        )
    container, variant, layers = fits[0]
    notes.reasons.append(f"no names in the file: layers of {container!r} counted by class fit {', '.join(names)}")
    if request is not None:
        notes.doubts.append(
            f"the file has no names of layers; that it is a network of {variant.family.package} was taken on trust"
        )
    return layers, variant


def _full_name(variant: Architecture) -> str:
    """A variant as ``load(architecture=)`` takes it."""
    text = variant.name
    text += f" stem={variant.stem}" if variant.stem != variant.family.stem else ""
    return text + (f" pool={variant.pool}" if variant.pool else "")


def _assigned(graph: Graph, classes: Mapping[str, Mapping[int, Sequence[StoredTensor]]]) -> _StoredLayers | None:
    """Tensors by the layers of ``graph``, which Keras counts in its own order; None where the counts differ."""
    layers: dict[str, StoredLayer] = {}
    order = keras_order(graph)
    for kind, operator in _COUNTED.items():
        counted = [graph.by_name[name] for name in order if isinstance(graph.by_name[name].operator, operator)]
        if operator is Conv2D:  # keras-applications has a depthwise convolution where we have a grouped one
            counted = [layer for layer in counted if bool(layer.stored) == (kind == "depthwise_conv2d")]
        stored = [tensors for _, tensors in sorted(classes.get(kind, {}).items()) if tensors]
        if kind != "dense" and len(stored) != len(counted):
            return None
        for layer, tensors in zip(counted, stored, strict=False):
            roles = list(layer.operator.tensors())
            if len(tensors) != len(roles):
                return None
            layers[layer.source] = dict(zip(roles, tensors, strict=True))
    if any(kind in classes for kind in _WEIGHTLESS):  # Keras lists layers without weights too, up to 3.5
        for kind, operator in _WEIGHTLESS.items():
            if len(classes.get(kind, ())) != sum(isinstance(layer.operator, operator) for layer in graph.layers):
                return None
    return layers


def _shapes_fit(variant: Architecture, layers: _StoredLayers) -> bool:
    """Whether a network like ``variant``, as wide as the tensors say, has tensors of just these shapes."""
    family, depth = variant.family, variant.depth
    if not _first_layers_fit(layers, family, strict=True) or not _depth_fits(layers, family, depth):
        return False
    graph = build_graph(_measured(StoredFile(layers, (), ""), family, depth, _Notes()))
    return all(
        {role: tensor.shape for role, tensor in layers.get(layer.source, {}).items()}
        == stored_shapes(layer.operator, layers.get(layer.source, {}))
        for layer in graph.layers
    )


# ---------------------------------------------------------------------------------------------------------------------
# Rows of the table

_MOST_BLOCKS = 64  # in one stage; ResNet-152 has 36


def _candidates(request: Request | None) -> tuple[tuple[Family, int], ...]:
    if request is not None:
        return request.candidates
    return tuple((family, depth) for family in FAMILIES.values() for depth in family.depths)


def _blocks_found(layers: _StoredLayers, family: Family, depth: int) -> tuple[int, ...]:
    """Blocks in stages 2 to 5, by the names that ``family`` gives at ``depth``: up to the last one of which any
    convolution is there, so that a hole in the middle is reported as missing layers."""
    return tuple(
        max(
            (
                index + 1
                for index in range(_MOST_BLOCKS)
                if any(
                    _name(family, family.names.conv, depth, stage, index, b) in layers for b in family.names.branches
                )
            ),
            default=0,
        )
        for stage in range(2, 6)
    )


def _name(family: Family, template: str, depth: int, stage: int, index: int, branch: str = "") -> str:
    """A layer's name in block ``index`` (from 0) of ``stage``."""
    return template.format(
        stage=stage, stage0=stage - 2, stage1=stage - 1, block=family.label(depth, stage, index), branch=branch
    )


def _main_conv(family: Family, depth: int, stage: int, index: int, branch: int = 0) -> str:
    """Name of the convolution number ``branch`` on a block's main path."""
    return _name(family, family.names.conv, depth, stage, index, family.names.branches[branch])


def _convolutions(layers: _StoredLayers, names: Iterable[str]) -> list[tuple[int, bool]]:
    """(output channels, whether there is a bias) of those of the named layers that are convolutions."""
    found = (layers[name] for name in names if name in layers)
    return [(t["kernel"].shape[3], "bias" in t) for t in found if "kernel" in t and len(t["kernel"].shape) == 4]


def _channels(layers: _StoredLayers, names: Iterable[str], default: int) -> int:
    """Output channels of most of the named convolutions, so that a single odd one is reported and not believed."""
    return mode([channels for channels, _ in _convolutions(layers, names)] or [default])


def _recognise(
    file: StoredFile, request: Request | None, notes: _Notes, variant: Architecture | None
) -> tuple[Architecture, _StoredLayers]:
    """The architecture whose names and shapes the file holds, and its layers, renamed where they had no names.

    variant  the one that was found by counting layers, where the file has no names
    """
    layers = file.layers
    insisted = request is not None and request.package is not None
    families = list(dict.fromkeys(family for family, _ in _candidates(request)))
    if variant is not None:
        families = [variant.family]
    fitting = [family for family in families if _first_layers_fit(layers, family, strict=not insisted)]
    if not fitting:
        raise WeightsError(_no_resnet(file, request))
    # a family whose tell-tale layers include another's is the more special one
    most = max(len(_tell_tales(family)) for family in fitting)
    fitting = [family for family in fitting if len(_tell_tales(family)) == most]
    every = [(family, depth) for family in fitting for depth in family.depths]
    matching = [(family, depth) for family, depth in every if _depth_fits(layers, family, depth)]
    if not matching:
        raise WeightsError(_no_depth(layers, every))
    family, depth = matching[0]
    if any(other.name == "fchollet" for other, _ in matching) and len({other.name for other, _ in matching}) > 1:
        family = FAMILIES["fchollet"] if _is_original(file, notes) else family
        depth = next(d for f, d in matching if f is family)
    if request is not None and (family, depth) not in request.candidates:
        raise WeightsError(
            f"the file holds {Architecture(family, depth).name} ({_stage_counts(layers, family, depth)} blocks in stages "
            f"2 to 5), but {request.text!r} was asked for; leave the architecture out, or give that file"
        )
    notes.reasons.append(f"layers {_tell_tales(family)[0]!r} and {_main_conv(family, depth, 2, 0)!r}: {family.title}")
    if family.names.stem_conv == "conv1":
        notes.reasons.append(f"convolutions {'with' if family.bias == 'all' else 'without'} bias: {family.name}")
    notes.reasons.append(f"{_stage_counts(layers, family, depth)} blocks in stages 2 to 5: ResNet-{depth}")
    if family.squeeze:
        layers = _name_gates(family, depth, layers)
    architecture = _measured(replace(file, layers=layers), family, depth, notes, variant)
    return (replace(architecture, **request.options) if request else architecture), layers


def _is_original(file: StoredFile, notes: _Notes) -> bool:
    """Whether layers named as both Mask R-CNN and the original Keras ResNet50 name theirs are the latter's.

    They differ in epsilon and pool, so it matters. The original has a classifier, or else leaves activations unnamed.
    """
    if any(name.startswith(("fpn_", "rpn_", "mrcnn_")) for name in file.layer_names):
        return False
    if "fc1000" in file.layers:
        notes.reasons.append("layer 'fc1000': the original Keras ResNet50, not Mask R-CNN")
        return True
    if "res2a_out" in file.layer_names:
        return False
    if any(name.startswith("activation_") for name in file.layer_names):
        notes.reasons.append("activations without names of their own: the original Keras ResNet50, not Mask R-CNN")
        return True
    notes.assumed.append(
        "the original Keras ResNet50 has the same names; Mask R-CNN's network is assumed. If it is the original, say "
        "architecture='fchollet/resnet50'"
    )
    return False


def _tell_tales(family: Family) -> list[str]:
    """Layers with weights by which a family is known, those of the first block included."""
    names, depth = family.names, family.depths[0]
    stems = 3 if family.deep_stem else 1
    found = [names.stem_conv.format(i=i) for i in range(1, stems + 1)]
    found += [names.stem_bn.format(i=stems)] if family.stem_norm else []
    found += [name for name in (names.input_bn, names.stem_scale) if name]
    if family.order == "pre":
        found += [names.final_bn, _name(family, names.pre_bn, depth, 2, 0)]
    return found


def _first_layers_fit(layers: _StoredLayers, family: Family, *, strict: bool) -> bool:
    """Whether the family's tell-tale layers are there; ``strict``: and kernels and biases are of its kind."""
    if not all(name in layers for name in _tell_tales(family)) or not any(
        _blocks_found(layers, family, family.depths[0])
    ):
        return False
    if (_depthwise(layers, family) is not None) != (family.groups > 1):
        return False
    gates = len(_unnamed_convolutions(layers)) or sum("_se_" in name for name in layers)
    if any(other.squeeze and other.names == family.names for other in FAMILIES.values()):
        counts = [2 * sum(blocks) for blocks in family.blocks.values()]
        if (gates in counts) != bool(family.squeeze):
            return False
    if not strict:
        return True
    return mode([bias for _, bias in _convolutions(layers, layers)] or [family.bias == "all"]) == (family.bias == "all")


def _depthwise(layers: _StoredLayers, family: Family) -> Tensor | None:
    """The kernel of the first block's 3x3 convolution if it is depthwise, with fewer results than inputs."""
    tensors = layers.get(_main_conv(family, family.depths[0], 2, 0, branch=1), {})
    kernel = tensors.get("depthwise_kernel", tensors.get("kernel"))
    grouped = kernel is not None and len(kernel.shape) == 4 and 0 < kernel.shape[3] < kernel.shape[2]
    return kernel if grouped and block_kind(family.depths[0]) == "bottleneck" else None


def _unnamed_convolutions(layers: _StoredLayers) -> list[str]:
    """1x1 convolutions that Keras named by a counter, in its order."""
    numbered = {
        name: int(found[1] or 0)
        for name, tensors in layers.items()
        if (found := re.fullmatch(r"conv2d(?:_(\d+))?", name))
        and "kernel" in tensors
        and tensors["kernel"].shape[:2] == (1, 1)
    }
    return sorted(numbered, key=numbered.__getitem__)


def _name_gates(family: Family, depth: int, layers: _StoredLayers) -> _StoredLayers:
    """Give the convolutions of squeeze-and-excitation, two per block and counted through, the graph's names."""
    names = iter(_unnamed_convolutions(layers))
    if not _unnamed_convolutions(layers):  # counted, and so named, before
        return layers
    renamed = dict(layers)
    for stage, blocks in enumerate(family.blocks[depth], 2):
        for index in range(blocks):
            for part in ("reduce", "expand"):
                template = family.names.squeeze.replace("{part}", part)
                renamed[_name(family, template, depth, stage, index)] = renamed.pop(next(names))
    return renamed


def _depth_fits(layers: _StoredLayers, family: Family, depth: int) -> bool:
    """Whether exactly this depth's blocks are there, of the right kind, with or without stage 5 where that may be."""
    found, wanted = _blocks_found(layers, family, depth), family.blocks[depth]
    thirds = (_main_conv(family, depth, stage, 0, branch=2) for stage in range(2, 6))
    if any(name in layers for name in thirds) != (block_kind(depth) == "bottleneck"):
        return False
    return found == wanted or (family.optional_stage5 and found == (*wanted[:3], 0))


def _stage_counts(layers: _StoredLayers, family: Family, depth: int) -> str:
    return "/".join(map(str, _blocks_found(layers, family, depth)))


def _no_resnet(file: StoredFile, request: Request | None) -> str:
    for family in FAMILIES.values():
        if request and _first_layers_fit(file.layers, family, strict=True):
            return (
                f"the file names its layers as {family.name} does, but {request.text!r} was asked for; leave the "
                "architecture out, or give that file"
            )
    names = list(file.layers)[:6]
    shown = ", ".join(map(repr, names)) + (", ..." if len(file.layers) > len(names) else "")
    return (
        f"no ResNet is recognised among the {len(file.layers)} layers with weights ({shown or 'none'}), which are not named "
        f"as in any family that is known ({', '.join(FAMILIES)}); the file holds another network, or its layers were renamed"
    )


def _no_depth(layers: _StoredLayers, candidates: Sequence[tuple[Family, int]]) -> str:
    """No depth has exactly the blocks that are there: the file is incomplete, or the network is a variant."""
    family, depth = max(candidates, key=lambda c: sum(_blocks_found(layers, *c)))
    known = "; ".join(f"ResNet-{d}: {'/'.join(map(str, blocks))}" for d, blocks in family.blocks.items())
    return (
        f"the file names its layers as {family.name} does, but holds {_stage_counts(layers, family, depth)} blocks in "
        f"stages 2 to 5, which is no known depth ({known}); the file is incomplete, or the network was changed"
    )


def _measured(
    file: StoredFile, family: Family, depth: int, notes: _Notes, variant: Architecture | None = None
) -> Architecture:
    """Fill in what the shapes tell: widths, groups, stage 5, classifier, and the stem's border where families waver.

    variant  what counting layers has told, where they have no names
    """
    layers, names = file.layers, family.names
    standard = Architecture.standard(family, depth, stage5=_blocks_found(layers, family, depth)[3] > 0)
    last = 1 if block_kind(depth) == "basic" else 2

    def width(stage: int, branch: int, default: int) -> int:
        blocks = range(family.blocks[depth][stage - 2])
        return _channels(layers, (_main_conv(family, depth, stage, index, branch) for index in blocks), default)

    stem = names.stem_conv.format(i=3 if family.deep_stem else 1)
    found = replace(
        standard,
        stem_width=_channels(layers, [stem], standard.stem_width),
        widths=tuple(
            (width(stage, 0, inner), width(stage, last, outer))
            for stage, (inner, outer) in zip(standard.stages, standard.widths, strict=True)
        ),
        inside=_scales_inside(file, family),
    )
    kernel = _depthwise(layers, family)
    if kernel is not None:
        found = replace(found, groups=kernel.shape[2] // kernel.shape[3])
    if variant is not None:
        found = replace(found, stem=variant.stem, pool=variant.pool, inside=variant.inside)
    elif family.name == "keras-resnet" and names.stem_pad not in file.layer_names:
        # A model's list of layers names those without weights too: there, no padding layer means version 0.2.0's
        # "same". Where the network is one layer of a bigger model, its own list is not in the file.
        pad = names.pad.format(stage=2, block="a", branch="2b")
        if pad in file.layer_names:
            found = replace(found, stem="same")
            notes.reasons.append(
                f"layer {pad!r} but no {names.stem_pad!r}: stem with 'same' padding, as in keras-resnet 0.2.0"
            )
        else:
            notes.assumed.append(
                "no padding layers are listed: stem padded by 3, as in keras-resnet 0.1.0, is assumed; if it was made by "
                "0.2.0, say architecture='keras-resnet/resnet<depth> stem=same'"
            )
    if found.stage5:
        for name in names.classifiers:
            kernel = layers.get(name, {}).get("kernel")
            if kernel is not None and len(kernel.shape) == 2 and kernel.shape[0] == found.widths[-1][1]:
                found = replace(found, classes=kernel.shape[1], classifier=name)
                notes.reasons.append(f"layer {name!r}: a classifier of {kernel.shape[1]} classes")
                break
    return found


def _scales_inside(file: StoredFile, family: Family) -> bool:
    """Whether the network scales pixels itself: by the list of layers, whose names Keras may have counted on
    (``rescaling_3``), or by the settings of a class of networks (kimm's, KerasCV's), which are saved in place of layers."""
    for name, _ in family.inside:
        if any(re.fullmatch(rf"{name}(_\d+)?", listed) for listed in file.layer_names):
            return True
    settings = (file.config or {}).get("config", {})
    return bool(settings.get("include_preprocessing") or settings.get("include_rescaling"))
