"""A network as an ONNX model, which several engines read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from .network import outputs_of, simplify
from .peer import Batch, chw, oihw

__all__ = ["onnx_model"]

Array = npt.NDArray[Any]


def onnx_model(graph: Graph, weights: Weights, batch: Batch) -> bytes:
    """The network in the ONNX format, NCHW and of fixed shape; its outputs are named as in ``outputs_of``."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, array: Array | None) -> str:
        assert array is not None
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(kind: str, sources: Sequence[str], to: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, list(sources), [to], **attributes))

    for node in simplify(graph, weights, *batch[1:]):
        name, inputs = node.name, node.inputs
        value = f"{name}/linear" if node.relu or node.softmax else name
        top, bottom, left, right = node.pads
        window = {"kernel_shape": node.window, "strides": node.stride, "pads": (top, left, bottom, right)}
        match node.kind:
            case "conv":
                kernel, bias = constant(f"{name}/kernel", oihw(node.weights)), constant(f"{name}/bias", node.bias)
                add("Conv", [*inputs, kernel, bias], value, group=node.groups, **window)
            case "maxpool":
                add("MaxPool", inputs, value, **window)
            case "pad":
                pads = np.array([0, 0, top, left, 0, 0, bottom, right])
                add("Pad", [*inputs, constant(f"{name}/pads", pads)], value)
            case "scale":
                scale, shift = constant(f"{name}/scale", chw(node.weights)), constant(f"{name}/shift", chw(node.bias))
                add("Mul", [*inputs, scale], f"{name}/scaled")
                add("Add", [f"{name}/scaled", shift], value)
            case "sigmoid":
                add("Sigmoid", inputs, value)
            case "add":
                add("Add", inputs, value)
            case "multiply":
                add("Mul", inputs, value)
            case "mean" if node.keep_dims:
                add("GlobalAveragePool", inputs, value)
            case "mean":
                add("ReduceMean", [*inputs, constant(f"{name}/axes", np.array([2, 3]))], value, keepdims=0)
            case "dense":
                kernel, bias = constant(f"{name}/kernel", node.weights), constant(f"{name}/bias", node.bias)
                add("Gemm", [*inputs, kernel, bias], value)
            case "relu":
                value = inputs[0]
        if node.relu:
            add("Relu", [value], name)
        elif node.softmax:
            add("Softmax", [value], name, axis=1)

    outputs = outputs_of(graph)
    for output, layer in outputs.items():
        add("Identity", [layer], output)
    n, h, w = batch
    source = helper.make_tensor_value_info(graph.layers[0].name, TensorProto.FLOAT, [n, graph.channels, h, w])
    results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
    body = helper.make_graph(nodes, "resnet", [source], results, constants)
    # an old enough version of the format for every runtime of the last years
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    contents: bytes = model.SerializeToString()
    return contents
