"""In which form a file keeps the tensors that an operator needs: under which roles, in which shapes.

Two operators have a form of their own. A grouped convolution may be stored as a depthwise one (keras-applications' ResNeXt),
of which ``kernels/grouped.py`` makes the kernel; Keras 2 calls that tensor ``depthwise_kernel``, Keras 3 ``kernel``. And a
Normalization comes with the number of pixels that its statistics are of.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..files.layers import StoredLayer
from .operators import Conv2D, Normalization, Operator

__all__ = ["as_needed", "by_role", "stored_shapes"]

_COUNT = ("count", "2")  # of a Normalization's pixels, by its name or by its place


def by_role(operator: Operator, stored: StoredLayer) -> StoredLayer:
    """A layer's tensors under the roles that ``operator`` asks for, where the file knows only their order."""
    if isinstance(operator, Normalization):
        stored = {role: tensor for role, tensor in stored.items() if role not in _COUNT}
    needed = list(operator.tensors())
    if "kernel" in stored and "kernel" not in needed:  # a guess from their number alone
        stored = {str(position): tensor for position, tensor in enumerate(stored.values())}
    if len(stored) == len(needed) and all(role.isdecimal() for role in stored):
        return {role: stored[str(position)] for position, role in enumerate(needed)}
    return stored


def stored_shapes(operator: Operator, stored: StoredLayer) -> dict[str, tuple[int, ...]]:
    """{role: shape} of the tensors that an operator needs, in the form in which this file keeps them."""
    needed = dict(operator.tensors())
    if isinstance(operator, Conv2D) and operator.groups > 1:
        multiplier = operator.channels // (operator.channels_in if operator.depthwise else operator.groups)
        shape = (*operator.kernel, operator.channels_in, multiplier)
        role = "depthwise_kernel" if "depthwise_kernel" in stored else "kernel"
        if role in stored and (role == "depthwise_kernel" or stored[role].shape == shape):
            return {role: shape} | {other: size for other, size in needed.items() if other != "kernel"}
    return needed


def as_needed(
    operator: Operator, arrays: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:  # fmt: skip
    """A layer's numbers, read in the shapes of ``stored_shapes``, in those of ``Operator.tensors``; what is not there is
    left out."""
    found = dict(arrays)
    role = "depthwise_kernel" if "depthwise_kernel" in found else "kernel"
    if isinstance(operator, Conv2D) and role in found and found[role].shape != operator.tensors()["kernel"]:
        from ..kernels import depthwise_kernel, summed_depthwise_kernel  # here, because the kernels import Numba

        form = depthwise_kernel if operator.depthwise else summed_depthwise_kernel
        found["kernel"] = form(found.pop(role))
    return found
