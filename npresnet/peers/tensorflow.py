"""TensorFlow, as a frozen function."""

from __future__ import annotations

import os
from typing import Any

import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from .network import PeerNode, outputs_of, same_pads, simplify
from .peer import Batch, Peer

__all__ = ["TensorFlow", "tensorflow_function"]

Array = npt.NDArray[Any]


class TensorFlow(Peer):
    title = "TensorFlow"
    modules = ("tensorflow",)
    packages = ("tensorflow",)
    settings = "NHWC, fixed shape, one tf.function with the weights captured as constants, Grappler and oneDNN on"

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads both while it is being imported
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
        import tensorflow as tf

        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self._function = tensorflow_function(graph, weights, batch)
        self._constant = tf.constant
        self.version = tf.__version__

    def prepare(self, images: Array) -> Any:
        return self._constant(images)

    def run(self, prepared: Any) -> Any:
        return self._function(prepared)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: value.numpy() for name, value in results.items()}


def tensorflow_function(graph: Graph, weights: Weights, batch: Batch, *, lite: bool = False) -> Any:
    """The network as a concrete function of images, NHWC and of fixed shape, that returns all of ``outputs_of`` by name.

    lite    of what TensorFlow Lite has: its max-pools know no border but that of "same"
    """
    import tensorflow as tf

    nodes, outputs = simplify(graph, weights, *batch[1:]), outputs_of(graph)
    # Constants written into the graph itself were as fast (ResNet-50 at 224, Zen 4: 70 ms both) but took 2090 MB
    # instead of 860, for TensorFlow keeps several copies of a graph.
    tensors = {
        node.name: (tf.constant(node.weights), tf.constant(node.bias)) for node in nodes if node.bias is not None
    }

    def same(node: PeerNode, x: Any) -> bool:
        """Whether the border of ``node`` is the one that TensorFlow calls "same"."""
        _, h, w, _ = x.shape
        return node.pads == same_pads((h, w), node.window, node.stride)

    def network(images: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for node in nodes:
            x = [values[name] for name in node.inputs]
            kernel, bias = tensors.get(node.name, (None, None))
            top, bottom, left, right = node.pads
            border = [[0, 0], [top, bottom], [left, right], [0, 0]]
            match node.kind:
                case "input":
                    y = images
                case "conv":  # groups show in the kernel's shape
                    y = tf.nn.conv2d(x[0], kernel, node.stride, "SAME" if same(node, x[0]) else border)
                    y = tf.nn.bias_add(y, bias)
                case "maxpool" if lite and not same(node, x[0]):
                    # a border that a pool took over is of zeros around values that are not negative
                    y = tf.nn.max_pool2d(tf.pad(x[0], border), node.window, node.stride, "VALID")
                case "maxpool":
                    y = tf.nn.max_pool2d(x[0], node.window, node.stride, "SAME" if same(node, x[0]) else border)
                case "pad":
                    y = tf.pad(x[0], border)
                case "scale":
                    y = x[0] * kernel + bias
                case "sigmoid":
                    y = tf.sigmoid(x[0])
                case "add":
                    y = x[0] + x[1]
                case "multiply":
                    y = x[0] * x[1]
                case "mean":
                    y = tf.reduce_mean(x[0], [1, 2], keepdims=node.keep_dims)
                case "dense":
                    y = tf.matmul(x[0], kernel) + bias
                case "relu":
                    y = x[0]
            if node.relu:
                y = tf.nn.relu(y)
            values[node.name] = tf.nn.softmax(y) if node.softmax else y
        # a function must not hand out one of its own inner tensors twice over
        return {output: tf.identity(values[layer]) for output, layer in outputs.items()}

    signature = tf.TensorSpec((*batch, graph.channels), tf.float32)
    return tf.function(network, [signature], autograph=False).get_concrete_function()
