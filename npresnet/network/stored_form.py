"""In which form a file keeps the tensors that an operator needs: under which roles, in which shapes.

Three have a form of their own. A grouped convolution may be stored as a depthwise one (keras-applications' ResNeXt), of which
``kernels/grouped.py`` makes the kernel; Keras 2 calls that tensor ``depthwise_kernel``, Keras 3 ``kernel``. A separable
convolution is two layers of a graph, whose tensors are those of one layer of the file. And a Normalization comes with the
number of pixels that its statistics are of, which may be of all channels together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..files.stored import StoredLayer
from .graph import Layer
from .operators import Conv2D, Normalization, Operator

__all__ = ["as_needed", "as_stored", "by_role", "stored_shapes"]

_COUNT = ("count", "2")  # of a Normalization's pixels, by its name or by its place
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")  # Keras's order


def by_role(layer: Layer, stored: StoredLayer) -> StoredLayer:
    """A layer's tensors under the roles that its operator asks for, where the file knows only their order, or has the tensors of
    others with them (``Layer.share``)."""
    if isinstance(layer.operator, Normalization):
        stored = {role: tensor for role, tensor in stored.items() if role not in _COUNT}
    needed = list(layer.operator.tensors())
    first, every = layer.share or (0, len(needed))
    complete = len(stored) == every
    if layer.share is None and "kernel" in stored and "kernel" not in needed:  # a guess from their number alone
        stored = {str(position): tensor for position, tensor in enumerate(stored.values())}
    if layer.share is not None and any(role in stored for role in _SEPARABLE[:2]):
        places = {role: str(position) for position, role in enumerate(_SEPARABLE)}
        stored, complete = {places.get(role, role): tensor for role, tensor in stored.items()}, True
    if complete and all(role.isdecimal() for role in stored):
        own = {role: str(position) for position, role in enumerate(needed, first)}
        return {role: stored[place] for role, place in own.items() if place in stored}
    return stored


def stored_shapes(operator: Operator, stored: StoredLayer) -> dict[str, tuple[int, ...]]:
    """{role: shape} of the tensors that an operator needs, in the form in which this file keeps them."""
    needed = dict(operator.tensors())
    if isinstance(operator, Conv2D) and (operator.groups > 1 or operator.depthwise):
        multiplier = operator.channels // (operator.channels_in if operator.depthwise else operator.groups)
        shape = (*operator.kernel, operator.channels_in, multiplier)
        role = "depthwise_kernel" if "depthwise_kernel" in stored else "kernel"
        if role in stored and (role == "depthwise_kernel" or stored[role].shape == shape):
            return {role: shape} | {other: size for other, size in needed.items() if other != "kernel"}
    if isinstance(operator, Normalization) and stored and all(tensor.shape == () for tensor in stored.values()):
        return dict.fromkeys(needed, ())
    return needed


def as_needed(
    operator: Operator, arrays: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:  # fmt: skip
    """A layer's numbers, read in the shapes of ``stored_shapes``, in those of ``Operator.tensors``; what is not there is
    left out."""
    found = dict(arrays)
    if isinstance(operator, Normalization):  # one number for all channels
        needed = operator.tensors()
        return {role: np.ascontiguousarray(np.broadcast_to(a, needed[role])) for role, a in found.items()}
    role = "depthwise_kernel" if "depthwise_kernel" in found else "kernel"
    if isinstance(operator, Conv2D) and role in found and found[role].shape != operator.tensors()["kernel"]:
        from ..kernels import depthwise_kernel, summed_depthwise_kernel  # here, because the kernels import Numba

        form = depthwise_kernel if operator.depthwise else summed_depthwise_kernel
        found["kernel"] = form(found.pop(role))
    elif role == "depthwise_kernel":  # of one channel, which is the same
        found["kernel"] = found.pop(role)
    return found


def as_stored(
    operator: Operator, arrays: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:  # fmt: skip
    """The tensors of a layer of one of the families' networks, as Keras 2 keeps them: what ``as_needed`` makes the same
    tensors of."""
    found = dict(arrays)
    if isinstance(operator, Conv2D) and operator.groups > 1:  # the inverse of ``summed_depthwise_kernel``
        kh, kw, few, channels = found["kernel"].shape
        split = found.pop("kernel").reshape(kh, kw, few, operator.groups, few)
        found["depthwise_kernel"] = split.swapaxes(2, 3).reshape(kh, kw, channels, few)
    return found
