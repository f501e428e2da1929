"""MNN, from the ONNX model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NpResNetError
from ..network.graph import Graph
from ..network.weights import Weights
from .conversion import converted
from .network import outputs_of
from .onnx import onnx_model
from .peer import Batch, Peer, nchw, nhwc

__all__ = ["Mnn"]

Array = npt.NDArray[Any]

_WINOGRAD_MEMORY_LEVEL = 3
"""Its number among MNN's hints, which Python has no names for."""


class Mnn(Peer):
    title = "MNN"
    modules = ("MNN", "onnx")
    packages = ("MNN", "onnx")
    settings = (
        "NCHW in and out, fixed shape, converted from ONNX, a Module, precision high, Winograd's memory level 2, results as "
        "Vars, not copied"
    )

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        model, self.convert_seconds = converted(_mnn_model, graph, weights, batch)
        import MNN

        self._expr, self._names = MNN.expr, list(outputs_of(graph))
        # load_module_from_file has a thread_num of its own, and does not hand it on
        runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": threads},))
        # Its larger Winograd tiles, level 3, are its default and faster (SE-ResNet-34 at 224, AVX-512: 72 ms, not 83), but with
        # them its features are some 1e-4 from everybody else's instead of 1e-6: too far to be timed.
        runtime.set_hint(_WINOGRAD_MEMORY_LEVEL, 2)
        with tempfile.TemporaryDirectory(prefix="npresnet-mnn-") as folder:
            path = Path(folder, "net.mnn")
            path.write_bytes(model)
            # With the weights rearranged while they are loaded (``rearrange``) it needs 214 MB instead of 417 for ResNet-50
            # at 224, but runs some 4% longer; Interpreter and Session, the older way, were as fast.
            self._module = MNN.nn.load_module_from_file(
                str(path), [graph.layers[0].name], self._names,
                runtime_manager=runtime, shape_mutable=False,
            )  # fmt: skip
        self.version = MNN.version()

    def prepare(self, images: Array) -> Any:
        return [self._expr.const(nchw(images), [len(images), 3, *images.shape[1:3]], self._expr.NCHW)]

    def run(self, prepared: Any) -> Any:
        return self._module.forward(prepared)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: nhwc(np.array(value.read())) for name, value in zip(self._names, results, strict=True)}


def _mnn_model(graph: Graph, weights: Weights, batch: Batch) -> bytes:
    # the module behind MNN.tools.mnnconvert, which itself would install a package and report to its makers
    from _tools import mnnconvert

    with tempfile.TemporaryDirectory(prefix="npresnet-mnn-") as folder:
        source, target = Path(folder, "net.onnx"), Path(folder, "net.mnn")
        source.write_bytes(onnx_model(graph, weights, batch))
        mnnconvert(["", "--framework", "ONNX", "--modelFile", str(source), "--MNNModel", str(target)])
        if not target.exists():
            raise NpResNetError("MNN's converter refuses the ONNX model that was written for it")
        return target.read_bytes()
