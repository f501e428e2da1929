"""Files without names of layers, as Keras wrote them before version 3.6: the network that has as many layers of each class.

Such a file counts layers by class (``conv2d_7``), in the order of Keras's ``model.layers``, which ``keras_order.py`` gives for
a graph. So every network of the table is tried: its layers are counted, the file's tensors are put under their names, and the
network fits if all shapes do. Networks that have the same tensors in the same order cannot be told apart; then the user must.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..errors import WeightsError
from ..files.hdf5.tree import StoredTensor
from ..files.stored import StoredFile, StoredLayer
from .architecture import Architecture, Request
from .building import build_graph
from .by_names import candidates, depth_fits, first_layers_fit
from .family import Family
from .found import Notes, StoredLayers
from .graph import Graph
from .keras_order import keras_order
from .measured import measured
from .operators import Add, BatchNorm, Conv2D, Dense, MaxPool, Pad, Rescale
from .stored_form import stored_shapes

__all__ = ["named_by_position"]

_COUNTED = {"conv2d": Conv2D, "depthwise_conv2d": Conv2D, "batch_normalization": BatchNorm, "dense": Dense}
_WEIGHTLESS = {"zero_padding2d": Pad, "max_pooling2d": MaxPool, "add": Add, "rescaling": Rescale}


def _variants(family: Family, depth: int) -> Iterator[Architecture]:
    """The networks of one family and depth that differ in more than widths."""
    options = family.options
    for stage5 in options.pop("stage5", (True,)):
        standard = Architecture.standard(family, depth, stage5=stage5, classes=1)
        yield standard
        for option, values in options.items():
            for value in values[1:]:
                yield replace(standard, **{option: value})


def named_by_position(file: StoredFile, request: Request | None, notes: Notes) -> tuple[StoredLayers, Architecture]:
    """The layers of a file without names under the names of the one network that they fit, and that network.

    Raises WeightsError where none fits, or several do.
    """
    fits: list[tuple[str, Architecture, StoredLayers]] = []
    for container, classes in file.unnamed.items():
        for family, depth in candidates(request):
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


def _assigned(graph: Graph, classes: Mapping[str, Mapping[int, Sequence[StoredTensor]]]) -> StoredLayers | None:
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


def _shapes_fit(variant: Architecture, layers: StoredLayers) -> bool:
    """Whether a network like ``variant``, as wide as the tensors say, has tensors of just these shapes."""
    family, depth = variant.family, variant.depth
    if not first_layers_fit(layers, family, strict=True) or not depth_fits(layers, family, depth):
        return False
    graph = build_graph(measured(StoredFile(layers, (), ""), family, depth, Notes()))
    return all(
        {role: tensor.shape for role, tensor in layers.get(layer.source, {}).items()}
        == stored_shapes(layer.operator, layers.get(layer.source, {}))
        for layer in graph.layers
    )
