"""ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from .network import outputs_of
from .onnx import onnx_model
from .peer import Batch, Peer, nchw, nhwc

__all__ = ["OnnxRuntime"]

Array = npt.NDArray[Any]


class OnnxRuntime(Peer):
    title = "ONNX Runtime"
    modules = ("onnxruntime", "onnx")
    packages = ("onnxruntime", "onnx")
    settings = "NCHW in and out, fixed shape, ORT_ENABLE_ALL (NCHWc inside), results as OrtValues, not copied"

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        import onnxruntime as ort

        self._from_numpy = ort.OrtValue.ortvalue_from_numpy
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        model = onnx_model(graph, weights, batch)
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names, self._input = list(outputs_of(graph)), graph.layers[0].name
        self.version = ort.__version__

    def prepare(self, images: Array) -> Any:
        return {self._input: self._from_numpy(nchw(images))}

    def run(self, prepared: Any) -> Any:
        return self._session.run_with_ort_values(self._names, prepared)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: nhwc(value.numpy()) for name, value in zip(self._names, results, strict=True)}
