"""OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from .network import outputs_of
from .onnx import onnx_model
from .peer import Batch, Peer, nchw, nhwc

__all__ = ["OpenVino"]

Array = npt.NDArray[Any]


class OpenVino(Peer):
    title = "OpenVINO"
    modules = ("openvino", "onnx")
    packages = ("openvino", "onnx")
    settings = (
        "NCHW in and out, fixed shape, PERFORMANCE_HINT LATENCY, INFERENCE_PRECISION_HINT f32, results not copied"
    )

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        import openvino as ov

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        core = ov.Core()
        compiled = core.compile_model(core.read_model(onnx_model(graph, weights, batch)), "CPU", settings)
        self._request = compiled.create_infer_request()
        self._tensor = ov.Tensor
        self._names = list(outputs_of(graph))
        self.version = ov.__version__.split("-")[0]

    def prepare(self, images: Array) -> Any:
        self._request.set_input_tensor(self._tensor(nchw(images)))
        return None

    def run(self, prepared: Any) -> Any:
        return self._request.infer(share_outputs=True)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: nhwc(results[name]).copy() for name in self._names}
