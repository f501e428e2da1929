"""Which way round a file keeps its convolution kernels.

Theano's convolution flips its kernels, and Keras 1 stored them as (out, in, height, width) where images were (channels,
height, width). The second is seen in the shapes of all kernels together. The first is not: only the file's backend tells, or
the name under which keras-applications published a file that notes none. A file of Keras 3's layout is neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..files.stored import StoredFile, StoredLayer, TheanoKernel
from .found import Notes, StoredLayers
from .graph import Graph
from .stored_form import by_role, stored_shapes

__all__ = ["oriented"]

_PUBLISHED = re.compile(r"[a-z0-9]+_weights_(tf|th)_dim_ordering_(tf|th)_kernels(_notop)?\.h5")
_LARGEST = 11  # pixels across a window of any convolution that is known


def oriented(file: StoredFile, own: Graph | None, path: Path, notes: Notes) -> StoredLayers:
    """The layers with kernels as TensorFlow has them: (height, width, in, out), not flipped.

    own   the network that the file describes, whose layers say which shapes they need
    path  the file's
    """
    if not file.legacy:
        return file.layers
    outer = _stored_outer(file, own)
    published = _PUBLISHED.fullmatch(path.name.lower())
    if file.backend is not None:
        flipped, why = file.backend == "theano", "the file's backend"
    elif published and (published[1] == "th") == outer:
        flipped, why = published[2] == "th", "the name under which keras-applications published such files"
        if flipped != outer:
            notes.doubts.append(
                f"kernels are taken as {'flipped' if flipped else 'not flipped'} because of {why} alone"
            )
    else:
        flipped, why = outer, "their order; nothing else says so"
        if outer:
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


def _stored_outer(file: StoredFile, own: Graph | None) -> bool:
    """Whether kernels are (out, in, height, width): by what the described layers need, or else by all kernels' own shapes."""
    needed = _needed(file, own) if own else {}
    votes = [0, 0]
    for layer, tensors in file.layers.items():
        shape = tensors["kernel"].shape if "kernel" in tensors else ()
        if len(shape) == 4:
            turned = (*shape[2:], shape[1], shape[0])
            fits = [_fits(candidate, tensors, needed.get(layer)) for candidate in (shape, turned)]
            if fits[0] != fits[1]:
                votes[fits[1]] += 1
    return votes[1] > votes[0]


def _needed(file: StoredFile, own: Graph) -> Mapping[str, tuple[int, ...]]:
    """{layer of the file: the shape of kernel that a described network needs}."""
    found = {}
    for layer in own.layers:
        if layer.operator.tensors():
            key = file.paths.get(layer.source, layer.source)
            shape = stored_shapes(layer.operator, by_role(layer, file.layers.get(key, {}))).get("kernel", ())
            if len(shape) == 4:
                found[key] = shape
    return found


def _fits(shape: tuple[int, ...], tensors: StoredLayer, needed: tuple[int, ...] | None) -> bool:
    """Whether a kernel's shape can be (height, width, in, out)."""
    if needed is not None:
        return shape == needed
    return 1 <= shape[0] == shape[1] <= _LARGEST and ("bias" not in tensors or tensors["bias"].shape == shape[3:])
