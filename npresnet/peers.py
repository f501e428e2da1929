"""The other engines, each given the same network from the same tensors: what ``npresnet bench`` measures itself beside.

Every engine is a ``Peer``. All are built from one list of ``Node``: batch-norms folded into convolutions in float64,
zero padding made part of the window that reads it, ReLUs marked on what they follow. Each engine would do most of that
itself; given it, none can miss it. Engines that work on NCHW get their input so and may leave their results so: the
change of layout is never timed. All compute in float32, with everything that would round further turned off.

Engines are imported by the constructors, never by this module, and nothing here imports Numba: a process that measures
a peer holds the peer alone.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .errors import NpResNetError
from .graph import Add, BatchNorm, Conv2D, Dense, GlobalAveragePool, Graph, Input, MaxPool, Pad, ReLU
from .weights import Weights

__all__ = ["PEERS", "Batch", "Node", "Peer", "missing", "onnx_model", "outputs_of", "simplify"]

Array = npt.NDArray[Any]
Batch = tuple[int, int, int]
"""(n, h, w) of the images, which have three channels."""

# ---------------------------------------------------------------------------------------------------------------------
# The network, as every engine gets it

_NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class Node:
    """One operation that every engine has.

    name      the layer whose output it computes: the last of those that were drawn together
    kind      input, pad, conv, maxpool, scale, relu, add, mean, dense
    inputs    names of the nodes that feed it
    weights   conv: float32[kh, kw, ci, co]; dense: float32[ci, co]; scale: float32[c]
    bias      conv, dense, scale: float32[co]
    window, stride  (vertical, horizontal) in pixels; conv and maxpool
    pads      (top, bottom, left, right) in pixels, of zeros; in a maxpool padding never wins
    relu      whether max(x, 0) follows
    softmax   whether softmax follows; dense only
    """

    name: str
    kind: Literal["input", "pad", "conv", "maxpool", "scale", "relu", "add", "mean", "dense"]
    inputs: tuple[str, ...] = ()
    weights: Array | None = None
    bias: Array | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = _NO_PADS
    relu: bool = False
    softmax: bool = False


def outputs_of(graph: Graph) -> dict[str, str]:
    """{"C1": layer, ..., "probabilities": layer}: what every engine has to hand out; the last only with a classifier."""
    classifier = {"probabilities": graph.classifier} if graph.classifier else {}
    return {**graph.features, **classifier}


def simplify(graph: Graph, weights: Weights, height: int, width: int) -> list[Node]:
    """The nodes that compute all features (and the classifier) of images of ``height`` x ``width`` pixels, in order."""
    wanted = set(outputs_of(graph).values())
    layers = graph.needed_for(wanted)
    readers = Counter(name for layer in layers for name in layer.inputs)
    nodes: dict[str, Node] = {}
    sizes: dict[str, tuple[int, int]] = {}

    def absorbed(source: str, kinds: Iterable[str]) -> Node | None:
        """The node ``source``, taken out, if it is of one of ``kinds`` and nobody else wants what it computes."""
        node = nodes[source]
        if node.kind in kinds and not node.relu and readers[source] == 1 and source not in wanted:
            return nodes.pop(source)
        return None

    for layer in layers:
        name, inputs, operator = layer.name, layer.inputs, layer.operator
        w = weights.get(name, {})
        source = inputs[0] if inputs else ""
        h, w_ = sizes.get(source, (height, width))
        match operator:
            case Input():
                nodes[name] = Node(name, "input")
            case Pad(pads):
                nodes[name] = Node(name, "pad", inputs, pads=pads)
                h, w_ = h + pads[0] + pads[1], w_ + pads[2] + pads[3]
            case Conv2D() | MaxPool():
                window = operator.kernel if isinstance(operator, Conv2D) else operator.window
                pads = _NO_PADS
                if operator.padding == "same":
                    pads = (*_same(h, window[0], operator.stride[0]), *_same(w_, window[1], operator.stride[1]))
                h, w_ = h + pads[0] + pads[1], w_ + pads[2] + pads[3]
                h, w_ = (h - window[0]) // operator.stride[0] + 1, (w_ - window[1]) // operator.stride[1] + 1
                border = nodes[source]
                # zeros change no maximum of values that are not negative
                harmless = isinstance(operator, Conv2D) or (border.kind == "pad" and nodes[border.inputs[0]].relu)
                if harmless and absorbed(source, ["pad"]):
                    pads = _sum(pads, border.pads)
                    inputs = border.inputs
                kind: Literal["conv", "maxpool"] = "conv" if isinstance(operator, Conv2D) else "maxpool"
                bias = w.get("bias", np.zeros(operator.channels, np.float32)) if isinstance(operator, Conv2D) else None
                nodes[name] = Node(name, kind, inputs, w.get("kernel"), bias, window, operator.stride, pads)
            case BatchNorm(epsilon=epsilon):
                scale = w["gamma"] / np.sqrt(w["variance"].astype(np.float64) + epsilon)
                shift = w["beta"] - w["mean"] * scale
                conv = absorbed(source, ["conv"])
                if conv is None:
                    conv = Node(name, "scale", inputs, np.ones_like(scale), np.zeros_like(scale))
                assert conv.weights is not None
                assert conv.bias is not None
                kernel, shift = conv.weights * scale, conv.bias * scale + shift
                nodes[name] = replace(
                    conv, name=name, weights=kernel.astype(np.float32), bias=shift.astype(np.float32)
                )  # fmt: skip
            case ReLU():
                before = absorbed(source, ["conv", "scale", "add"])
                nodes[name] = (
                    Node(name, "relu", inputs, relu=True) if before is None else replace(before, name=name, relu=True)
                )
            case Add():
                nodes[name] = Node(name, "add", inputs)
            case GlobalAveragePool():
                nodes[name] = Node(name, "mean", inputs)
            case Dense(softmax=softmax):
                nodes[name] = Node(name, "dense", inputs, w["kernel"], w["bias"], softmax=softmax)
        sizes[name] = (h, w_)
    return list(nodes.values())


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, as TensorFlow's "same" adds them: the odd one after."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _sum(a: Sequence[int], b: Sequence[int]) -> tuple[int, int, int, int]:
    top, bottom, left, right = (x + y for x, y in zip(a, b, strict=True))
    return top, bottom, left, right


def _nchw(images: Array) -> Array:
    """float32[n, h, w, c] as float32[n, c, h, w], C-contiguous."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _nhwc(array: Array) -> Array:
    """What an NCHW engine made, as float32[n, h, w, c]; probabilities, float32[n, c], as they are."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _oihw(kernel: Array | None) -> Array:
    """float32[kh, kw, ci, co] as float32[co, ci, kh, kw], C-contiguous."""
    assert kernel is not None
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def _chw(values: Array | None) -> Array:
    """One value per channel, float32[c] as float32[c, 1, 1]: to be spread over NCHW."""
    assert values is not None
    return values.reshape(-1, 1, 1)


# ---------------------------------------------------------------------------------------------------------------------
# The engines


class Peer(ABC):
    """One engine with one network in it, for images of one shape.

    ``run(prepare(images))`` computes all outputs, and of it only ``run`` is timed; ``features`` turns the engine's own
    results into {"C1": float32[n, h', w', c], ..., "probabilities": float32[n, classes]}. Calling a peer does all three.
    """

    title: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    """What must be importable."""
    packages: ClassVar[tuple[str, ...]]
    """What to install for that."""

    settings: ClassVar[str]
    """Layout, precision, what is done to the graph: in words, the same for every network."""

    version: str
    chosen: str = ""
    """What was found to be best for this network, where an engine has to be asked for it."""

    @abstractmethod
    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        """Build the network for ``batch`` = (n, h, w) on ``threads`` threads."""

    @abstractmethod
    def prepare(self, images: Array) -> Any:
        """The engine's own form of images float32[n, h, w, 3]."""

    @abstractmethod
    def run(self, prepared: Any) -> Any:
        """Compute all outputs, and leave them as the engine makes them. They are valid until the next call."""

    @abstractmethod
    def features(self, results: Any) -> dict[str, Array]:
        """What ``run`` returned, by name and as NHWC."""

    def __call__(self, images: Array) -> dict[str, Array]:
        return self.features(self.run(self.prepare(images)))


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
                kernel, bias = constant(f"{name}/kernel", _oihw(node.weights)), constant(f"{name}/bias", node.bias)
                add("Conv", [*inputs, kernel, bias], value, **window)
            case "maxpool":
                add("MaxPool", inputs, value, **window)
            case "pad":
                pads = np.array([0, 0, top, left, 0, 0, bottom, right])
                add("Pad", [*inputs, constant(f"{name}/pads", pads)], value)
            case "scale":
                scale, shift = constant(f"{name}/scale", _chw(node.weights)), constant(f"{name}/shift", _chw(node.bias))
                add("Mul", [*inputs, scale], f"{name}/scaled")
                add("Add", [f"{name}/scaled", shift], value)
            case "add":
                add("Add", inputs, value)
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
    source = helper.make_tensor_value_info(graph.layers[0].name, TensorProto.FLOAT, [n, 3, h, w])
    results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
    body = helper.make_graph(nodes, "resnet", [source], results, constants)
    # an old enough version of the format for every runtime of the last years
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    contents: bytes = model.SerializeToString()
    return contents


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
        return {self._input: self._from_numpy(_nchw(images))}

    def run(self, prepared: Any) -> Any:
        return self._session.run_with_ort_values(self._names, prepared)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: _nhwc(value.numpy()) for name, value in zip(self._names, results, strict=True)}


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
        self._request.set_input_tensor(self._tensor(_nchw(images)))
        return None

    def run(self, prepared: Any) -> Any:
        return self._request.infer(share_outputs=True)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: _nhwc(results[name]).copy() for name in self._names}


class TensorFlow(Peer):
    title = "TensorFlow"
    modules = ("tensorflow",)
    packages = ("tensorflow-cpu",)
    settings = "NHWC, fixed shape, one tf.function with the weights captured as constants, Grappler and oneDNN on"

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads both while it is being imported
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
        import tensorflow as tf

        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        nodes, outputs = simplify(graph, weights, *batch[1:]), outputs_of(graph)
        # Constants written into the graph itself were as fast (ResNet-50 at 224, Zen 4: 70 ms both) but took 2090 MB
        # instead of 860, for TensorFlow keeps several copies of a graph.
        tensors = {
            node.name: (tf.constant(node.weights), tf.constant(node.bias)) for node in nodes if node.bias is not None
        }

        def network(images: Any) -> list[Any]:
            values: dict[str, Any] = {}
            for node in nodes:
                x = [values[name] for name in node.inputs]
                kernel, bias = tensors.get(node.name, (None, None))
                top, bottom, left, right = node.pads
                border = [[0, 0], [top, bottom], [left, right], [0, 0]]
                match node.kind:
                    case "input":
                        y = images
                    case "conv":
                        y = tf.nn.conv2d(x[0], kernel, node.stride, border)
                        y = tf.nn.bias_add(y, bias)
                    case "maxpool":
                        y = tf.nn.max_pool2d(x[0], node.window, node.stride, border)
                    case "pad":
                        y = tf.pad(x[0], border)
                    case "scale":
                        y = x[0] * kernel + bias
                    case "add":
                        y = x[0] + x[1]
                    case "mean":
                        y = tf.reduce_mean(x[0], [1, 2])
                    case "dense":
                        y = tf.matmul(x[0], kernel) + bias
                    case "relu":
                        y = x[0]
                if node.relu:
                    y = tf.nn.relu(y)
                values[node.name] = tf.nn.softmax(y) if node.softmax else y
            # a function must not hand out one of its own inner tensors twice over
            return [tf.identity(values[layer]) for layer in outputs.values()]

        signature = tf.TensorSpec((*batch, 3), tf.float32)
        self._function = tf.function(network, [signature], autograph=False).get_concrete_function()
        self._constant, self._names = tf.constant, list(outputs)
        self.version = tf.__version__

    def prepare(self, images: Array) -> Any:
        return self._constant(images)

    def run(self, prepared: Any) -> Any:
        return self._function(prepared)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: value.numpy() for name, value in zip(self._names, results, strict=True)}


class PyTorch(Peer):
    """PyTorch offers several ways to run a network and none is always the fastest: each is tried, the best is kept."""

    title = "PyTorch"
    modules = ("torch",)
    packages = ("torch",)
    settings = "channels-last, inference_mode, the fastest of eager, TorchScript frozen for MKL-DNN, and oneDNN Graph"

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        self._names = list(outputs_of(graph))
        self._nodes = simplify(graph, weights, *batch[1:])
        self._wanted = list(outputs_of(graph).values())
        self._weights = {node.name: self._tensors(node) for node in self._nodes}
        self.version = torch.__version__
        images = np.random.default_rng(0).uniform(-120, 130, (*batch, 3)).astype(np.float32)
        self._example = self.prepare(images)
        seconds = {way: self._try(way) for way in ("eager", "frozen", "oneDNN Graph")}
        self._use(min(seconds, key=lambda way: seconds[way]))
        times = ", ".join(f"{way} {t * 1e3:.3g} ms" if t < np.inf else f"{way} fails" for way, t in seconds.items())
        self.chosen = f"{self._way} ({times})"

    def _tensors(self, node: Node) -> tuple[Any, Any]:
        """Weights and bias as PyTorch wants them: OIHW in the memory order of channels-last."""
        if node.weights is None:
            return None, None
        weights = node.weights
        if node.kind == "conv":
            weights = _oihw(weights)
        elif node.kind == "scale":
            weights = _chw(weights)
        elif node.kind == "dense":
            weights = weights.T
        tensor = self._torch.from_numpy(np.ascontiguousarray(weights))
        if node.kind == "conv":
            tensor = tensor.contiguous(memory_format=self._torch.channels_last)
        assert node.bias is not None
        return tensor, self._torch.from_numpy(_chw(node.bias) if node.kind == "scale" else node.bias)

    def _forward(self, images: Any) -> tuple[Any, ...]:
        values: dict[str, Any] = {}
        for node in self._nodes:
            values[node.name] = self._computed(node, [values[name] for name in node.inputs], images)
        return tuple(values[layer] for layer in self._wanted)

    def _computed(self, node: Node, x: Sequence[Any], images: Any) -> Any:
        """What one node makes of its inputs ``x``."""
        torch, functional = self._torch, self._torch.nn.functional
        weights, bias = self._weights[node.name]
        top, bottom, left, right = node.pads
        border, centred = (left, right, top, bottom), (top, left) == (bottom, right)
        match node.kind:
            case "input":
                y = images
            case "conv":
                inside = x[0] if centred else functional.pad(x[0], border)
                y = functional.conv2d(inside, weights, bias, node.stride, (top, left) if centred else 0)
            case "maxpool":
                # PyTorch pads pools on all sides alike; minus infinity, for padding never wins
                y = x[0] if centred else functional.pad(x[0], border, value=-np.inf)
                y = functional.max_pool2d(y, node.window, node.stride, (top, left) if centred else 0)
            case "pad":
                y = functional.pad(x[0], border)
            case "scale":
                y = x[0] * weights + bias
            case "add":
                y = x[0] + x[1]
            case "mean":
                y = torch.flatten(functional.adaptive_avg_pool2d(x[0], 1), 1)
            case "dense":
                y = functional.linear(x[0], weights, bias)
            case "relu":
                y = x[0]
        if node.relu:
            y = functional.relu(y)
        return functional.softmax(y, 1) if node.softmax else y

    def _use(self, way: str) -> None:
        """Get ready to run in one of the ways. Raises whatever PyTorch raises where it cannot."""
        torch = self._torch
        self._way, self._run = way, self._forward
        if way == "eager":
            return
        torch.jit.enable_onednn_fusion(way == "oneDNN Graph")
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and still the faster
            traced = torch.jit.trace(_module(torch, self._forward), self._example, check_trace=False)
            frozen = torch.jit.freeze(traced)
            self._run = torch.jit.optimize_for_inference(frozen) if way == "frozen" else frozen

    def _try(self, way: str) -> float:
        """Seconds for one run in one of the ways, the least of a few; infinity where it fails."""
        try:
            self._use(way)
            times = []
            for _ in range(4):  # fused graphs are compiled in the first two
                start = time.perf_counter()
                self.run(self._example)
                times.append(time.perf_counter() - start)
        except Exception:  # whatever the reason, it is then no way to run this network
            return float("inf")
        return min(times[2:])

    def prepare(self, images: Array) -> Any:
        return self._torch.from_numpy(images).permute(0, 3, 1, 2)  # NHWC in memory is channels-last

    def run(self, prepared: Any) -> Any:
        with self._torch.inference_mode():
            return self._run(prepared)

    def features(self, results: Any) -> dict[str, Array]:
        return {name: _nhwc(value.numpy()) for name, value in zip(self._names, results, strict=True)}


def _module(torch: Any, forward: Callable[[Any], tuple[Any, ...]]) -> Any:
    """``forward`` as a module in evaluation mode, for only modules can be frozen."""

    class Network(torch.nn.Module):  # type: ignore[misc]
        def forward(self, images: Any) -> tuple[Any, ...]:
            return forward(images)

    return Network().eval()


class Ncnn(Peer):
    title = "ncnn"
    modules = ("ncnn",)
    packages = ("ncnn",)
    settings = "NCHW in and out, fp16 and bf16 off, Winograd and packing on as by default, a batch image by image"

    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        import ncnn

        self._ncnn, self._net = ncnn, ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
            if hasattr(options, f"use_{option}"):
                setattr(options, f"use_{option}", False)
        param, contents = _ncnn_model(simplify(graph, weights, *batch[1:]), outputs_of(graph))
        with tempfile.TemporaryDirectory(prefix="npresnet-ncnn-") as folder:
            for name, data in (("net.param", param.encode()), ("net.bin", contents)):
                Path(folder, name).write_bytes(data)
            failed = self._net.load_param(f"{folder}/net.param") or self._net.load_model(f"{folder}/net.bin")
        if failed:
            raise NpResNetError("ncnn: it refuses the network that was written for it")
        self._names, self._input = list(outputs_of(graph)), graph.layers[0].name
        self.version = ncnn.__version__

    def prepare(self, images: Array) -> Any:
        return [self._ncnn.Mat(image).clone() for image in _nchw(images)]

    def run(self, prepared: Any) -> Any:
        results = []
        for image in prepared:
            with self._net.create_extractor() as extractor:
                extractor.input(self._input, image)
                results.append([extractor.extract(name)[1] for name in self._names])
        return results

    def features(self, results: Any) -> dict[str, Array]:
        columns = zip(*results, strict=True)
        return {
            name: _nhwc(np.stack([np.array(mat) for mat in mats]))
            for name, mats in zip(self._names, columns, strict=True)
        }


def _ncnn_model(nodes: Sequence[Node], outputs: Mapping[str, str]) -> tuple[str, bytes]:
    """The network as ncnn's two files, `.param` and `.bin`. A blob has one reader in ncnn: ``Split`` makes copies."""
    lines: list[str] = []
    blobs = 0
    parts: list[bytes] = []
    raw = bytes(4)  # a tag before some weights: 0 is float32

    readers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for node in nodes:
        for position, source in enumerate(node.inputs):
            readers[source].append(f"{source}->{node.name}.{position}")
    for output, made_by in outputs.items():
        readers[made_by].append(output)

    def layer(kind: str, name: str, sources: Sequence[str], results: Sequence[str], **settings: int) -> None:
        nonlocal blobs
        blobs += len(results)
        values = " ".join(f"{key[1:]}={value}" for key, value in settings.items())
        head = f"{kind} {name} {len(sources)} {len(results)}"
        lines.append(" ".join([head, *sources, *results, values]).rstrip())

    def store(*arrays: Array | None, tagged: bool = True) -> None:
        for position, array in enumerate(arrays):
            assert array is not None
            parts.append((raw if tagged and position == 0 else b"") + np.ascontiguousarray(array, np.float32).tobytes())

    for node in nodes:
        name = node.name
        sources = [f"{source}->{name}.{position}" for position, source in enumerate(node.inputs)]
        top, bottom, left, right = node.pads
        (kh, kw), (sh, sw) = node.window, node.stride
        value = [name]  # what this node makes; with a ReLU or a softmax of its own layer, first its linear part
        separate = (node.relu and node.kind not in ("conv", "dense", "relu")) or node.softmax
        if separate:
            value = [f"{name}/linear"]
        match node.kind:
            case "input":
                layer("Input", name, [], value)
            case "conv":
                assert node.weights is not None
                layer("Convolution", name, sources, value, _0=node.weights.shape[3], _1=kw, _11=kh, _3=sw, _13=sh,
                      _4=left, _15=right, _14=top, _16=bottom, _5=1, _6=node.weights.size, _9=int(node.relu))  # fmt: skip
                store(_oihw(node.weights), node.bias)
            case "maxpool":
                layer("Pooling", name, sources, value, _0=0, _1=kw, _11=kh, _2=sw, _12=sh, _3=left, _14=right, _13=top,
                      _15=bottom, _5=1)  # fmt: skip
            case "pad":
                layer("Padding", name, sources, value, _0=top, _1=bottom, _2=left, _3=right)
            case "scale":
                assert node.weights is not None
                layer("Scale", name, sources, value, _0=node.weights.size, _1=1)
                store(node.weights, node.bias, tagged=False)
            case "add":
                layer("BinaryOp", name, sources, value, _0=0)
            case "mean":
                layer("Pooling", name, sources, value, _0=1, _4=1)
            case "dense":
                assert node.weights is not None
                layer("InnerProduct", name, sources, value, _0=node.weights.shape[1], _1=1, _2=node.weights.size)
                store(node.weights.T, node.bias)
            case "relu":
                layer("ReLU", name, sources, value)
        if separate:
            layer("Softmax" if node.softmax else "ReLU", f"{name}/end", value, [name])
        layer("Split", f"{name}/copies", [name], readers[name])
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""]), b"".join(parts)


PEERS: Mapping[str, type[Peer]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "tensorflow": TensorFlow,
    "pytorch": PyTorch,
    "ncnn": Ncnn,
}
"""The engines by the names that ``npresnet bench --engines`` takes."""


def missing(name: str) -> str | None:
    """What to do to get the engine ``name``, or None where it is installed."""
    peer = PEERS[name]
    lacking = [module for module in peer.modules if importlib.util.find_spec(module) is None]
    return f"not installed: pip install {' '.join(peer.packages)}" if lacking else None
