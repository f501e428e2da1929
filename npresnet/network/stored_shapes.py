"""In which shapes a file keeps the tensors that an operator needs."""

from __future__ import annotations

from ..files.layers import StoredLayer
from .operators import Conv2D, Operator

__all__ = ["stored_shapes"]


def stored_shapes(operator: Operator, stored: StoredLayer) -> dict[str, tuple[int, ...]]:
    """{role: shape} of the tensors that an operator needs, in the form in which this file keeps them.

    A grouped convolution may be stored as a depthwise one, of which ``kernels/grouped.py`` makes the kernel. Keras 2
    calls that tensor ``depthwise_kernel``, Keras 3 ``kernel``.
    """
    needed = dict(operator.tensors())
    if isinstance(operator, Conv2D) and operator.groups > 1:
        multiplier = operator.channels // (operator.channels_in if operator.depthwise else operator.groups)
        shape = (*operator.kernel, operator.channels_in, multiplier)
        role = "depthwise_kernel" if "depthwise_kernel" in stored else "kernel"
        if role in stored and (role == "depthwise_kernel" or stored[role].shape == shape):
            return {role: shape} | {other: size for other, size in needed.items() if other != "kernel"}
    return needed
