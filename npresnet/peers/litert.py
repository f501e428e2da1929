"""LiteRT, which was TensorFlow Lite, on XNNPACK."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from .conversion import converted
from .peer import Batch, Peer
from .tensorflow import tensorflow_function

__all__ = ["LiteRT"]

Array = npt.NDArray[Any]


class LiteRT(Peer):
    title = "LiteRT"
    modules = ("ai_edge_litert", "tensorflow")
    packages = ("ai-edge-litert", "tensorflow")
    settings = "NHWC, fixed shape, converted from TensorFlow without quantization, XNNPACK, results not copied"

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        model, self.convert_seconds = converted(_tflite_model, graph, weights, batch)
        from ai_edge_litert.interpreter import Interpreter

        # CompiledModel, the newer way to run the same XNNPACK, was as fast (ResNet-50 at 224: 83 ms and 87)
        self._interpreter = Interpreter(model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        signature = self._interpreter.get_signature_runner()
        (self._input,) = (tensor["index"] for tensor in signature.get_input_details().values())
        self._outputs = {name: tensor["index"] for name, tensor in signature.get_output_details().items()}
        self.version = metadata.version("ai-edge-litert")

    def prepare(self, images: Array) -> Any:
        self._interpreter.set_tensor(self._input, images)
        return None

    def run(self, prepared: Any) -> Any:
        self._interpreter.invoke()
        return self._interpreter

    def features(self, results: Any) -> dict[str, Array]:
        return {name: results.get_tensor(index) for name, index in self._outputs.items()}


def _tflite_model(graph: Graph, weights: Weights, batch: Batch) -> bytes:
    import tensorflow as tf

    function = tensorflow_function(graph, weights, batch, lite=True)
    model: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert()
    return model
