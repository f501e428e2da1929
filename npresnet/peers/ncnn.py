"""ncnn, from its text and binary files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NpResNetError
from ..network.graph import Graph
from ..network.weights import Weights
from .network import PeerNode, outputs_of, simplify
from .peer import Batch, Peer, nchw, nhwc, oihw

__all__ = ["Ncnn"]

Array = npt.NDArray[Any]


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
        return [self._ncnn.Mat(image).clone() for image in nchw(images)]

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
            name: nhwc(np.stack([np.array(mat) for mat in mats]))
            for name, mats in zip(self._names, columns, strict=True)
        }


def _ncnn_model(nodes: Sequence[PeerNode], outputs: Mapping[str, str]) -> tuple[str, bytes]:
    """The network as ncnn's two files, `.param` and `.bin`. A blob has one reader in ncnn: ``Split`` makes copies."""
    lines: list[str] = []
    blobs = 0
    parts: list[bytes] = []
    raw = bytes(4)  # a tag before some weights: 0 is float32
    flat: set[str] = set()  # what has a channel axis alone: means over all pixels, and what is made of them

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
            case "dense" | "conv" if flat.issuperset(node.inputs):
                assert node.weights is not None
                kernel: Array = node.weights.reshape(node.weights.shape[-2:])  # of a window of one pixel
                layer("InnerProduct", name, sources, value, _0=kernel.shape[1], _1=1, _2=kernel.size, _9=int(node.relu))
                store(kernel.T, node.bias)
            case "conv":
                assert node.weights is not None
                kind, groups = ("ConvolutionDepthWise", {"_7": node.groups}) if node.groups > 1 else ("Convolution", {})
                layer(kind, name, sources, value, _0=node.weights.shape[3], _1=kw, _11=kh, _3=sw, _13=sh, _4=left,
                      _15=right, _14=top, _16=bottom, _5=1, _6=node.weights.size, **groups, _9=int(node.relu))  # fmt: skip
                store(oihw(node.weights), node.bias)
            case "maxpool":
                layer("Pooling", name, sources, value, _0=0, _1=kw, _11=kh, _2=sw, _12=sh, _3=left, _14=right, _13=top,
                      _15=bottom, _5=1)  # fmt: skip
            case "pad":
                layer("Padding", name, sources, value, _0=top, _1=bottom, _2=left, _3=right)
            case "scale":
                assert node.weights is not None
                layer("Scale", name, sources, value, _0=node.weights.size, _1=1)
                store(node.weights, node.bias, tagged=False)
            case "sigmoid":
                layer("Sigmoid", name, sources, value)
            case "add":
                layer("BinaryOp", name, sources, value, _0=0)
            case "multiply":
                layer("BinaryOp", name, sources, value, _0=2)
            case "mean":
                layer("Pooling", name, sources, value, _0=1, _4=1)
            case "relu":
                layer("ReLU", name, sources, value)
        if node.kind == "mean" or (node.inputs and flat.issuperset(node.inputs)):
            flat.add(name)
        if separate:
            layer("Softmax" if node.softmax else "ReLU", f"{name}/end", value, [name])
        layer("Split", f"{name}/copies", [name], readers[name])
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""]), b"".join(parts)
