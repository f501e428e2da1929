"""PyTorch, channels last."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from .case import noise_images
from .network import PeerNode, outputs_of, simplify
from .peer import Batch, Peer, chw, nhwc, oihw

__all__ = ["PyTorch"]

Array = npt.NDArray[Any]


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
        self._example = self.prepare(noise_images(batch))
        seconds = {way: self._try(way) for way in ("eager", "frozen", "oneDNN Graph")}
        self._use(min(seconds, key=lambda way: seconds[way]))
        times = ", ".join(f"{way} {t * 1e3:.3g} ms" if t < np.inf else f"{way} fails" for way, t in seconds.items())
        self.chosen = f"{self._way} ({times})"

    def _tensors(self, node: PeerNode) -> tuple[Any, Any]:
        """Weights and bias as PyTorch wants them: OIHW in the memory order of channels-last."""
        if node.weights is None:
            return None, None
        weights = node.weights
        if node.kind == "conv":
            weights = oihw(weights)
        elif node.kind == "scale":
            weights = chw(weights)
        elif node.kind == "dense":
            weights = weights.T
        tensor = self._torch.from_numpy(np.ascontiguousarray(weights))
        if node.kind == "conv":
            tensor = tensor.contiguous(memory_format=self._torch.channels_last)
        assert node.bias is not None
        return tensor, self._torch.from_numpy(chw(node.bias) if node.kind == "scale" else node.bias)

    def _forward(self, images: Any) -> tuple[Any, ...]:
        values: dict[str, Any] = {}
        for node in self._nodes:
            values[node.name] = self._computed(node, [values[name] for name in node.inputs], images)
        return tuple(values[layer] for layer in self._wanted)

    def _computed(self, node: PeerNode, x: Sequence[Any], images: Any) -> Any:
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
                padding = (top, left) if centred else 0
                y = functional.conv2d(inside, weights, bias, node.stride, padding, groups=node.groups)
            case "maxpool":
                # PyTorch pads pools on all sides alike; minus infinity, for padding never wins
                y = x[0] if centred else functional.pad(x[0], border, value=-np.inf)
                y = functional.max_pool2d(y, node.window, node.stride, (top, left) if centred else 0)
            case "pad":
                y = functional.pad(x[0], border)
            case "scale":
                y = x[0] * weights + bias
            case "sigmoid":
                y = torch.sigmoid(x[0])
            case "add":
                y = x[0] + x[1]
            case "multiply":
                y = x[0] * x[1]
            case "mean":
                y = functional.adaptive_avg_pool2d(x[0], 1)
                y = y if node.keep_dims else torch.flatten(y, 1)
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
        return {name: nhwc(value.numpy()) for name, value in zip(self._names, results, strict=True)}


def _module(torch: Any, forward: Callable[[Any], tuple[Any, ...]]) -> Any:
    """``forward`` as a module in evaluation mode, for only modules can be frozen."""

    class Network(torch.nn.Module):  # type: ignore[misc]
        def forward(self, images: Any) -> tuple[Any, ...]:
            return forward(images)

    return Network().eval()
