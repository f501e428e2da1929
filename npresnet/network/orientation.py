"""Which way round a file keeps its convolution kernels.

Theano's convolution flips its kernels, and Keras 1 stored them as (out, in, height, width) where images were (channels,
height, width). The second is seen in the shapes. The first is not: only the file's backend or name tells.
"""

from __future__ import annotations

from pathlib import Path

from ..files.layers import StoredFile, TheanoKernel
from .found import Notes, StoredLayers

__all__ = ["oriented"]


def oriented(file: StoredFile, path: Path, notes: Notes) -> StoredLayers:
    """The layers with kernels as TensorFlow has them: (height, width, in, out), not flipped.

    path  the file's, whose name may tell how kernels are stored
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
