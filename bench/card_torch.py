"""PyTorch with cuDNN on a card, given the same network: what ``bench/on_card.py`` measures npresnet beside, and ceilings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npresnet.network.graph import Graph
from npresnet.network.weights import Weights
from npresnet.peers.network import PeerNode, outputs_of, simplify
from npresnet.peers.pytorch import PyTorch

Array = npt.NDArray[Any]

WAYS = {
    kind: [f"{kind}{fused}, {layout}" for layout in ("NHWC", "NCHW") for fused in (", fused", "")]
    for kind in ("graph", "eager")
}
"""How PyTorch can run a network: recorded as CUDA graphs, or operator by operator, which is slower and for where there are no
graphs; with bias, addition and ReLU inside cuDNN's convolutions where it can, or after them; channels last in memory, or first:
cuDNN has kernels for float32 that know only the latter."""


def set_tf32(allowed: bool) -> None:
    """Whether PyTorch's convolutions and matrix products may round their factors to TF32, from now on."""
    import torch

    if hasattr(torch.backends.cudnn, "conv"):  # 2.9 and newer
        kind = "tf32" if allowed else "ieee"
        torch.backends.cudnn.conv.fp32_precision = kind
        torch.backends.cuda.matmul.fp32_precision = kind
    else:
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


def synchronise(device: str) -> None:
    """Wait until all that PyTorch has queued is done."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


class TorchOnCard(PyTorch):
    """A network for some batches of images, which are on the card already: ``run(i)`` computes that of batch ``i``.

    Each of ``WAYS`` of the first kind that works is tried, and the fastest is kept. Images are on the card in its layout.

    outputs    features to hand out, of ``outputs_of(graph)``
    precision  "fp32" or "tf32"
    """

    settings = "cudnn.benchmark, inference_mode, CUDA graphs, the fastest of channels last and first, each with and without cuDNN's fused convolutions"

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        batches: Sequence[Array],
        outputs: Sequence[str],
        precision: str,
        device: str = "cuda",
    ) -> None:
        import torch

        self._torch, self._device, self._tf32 = torch, device, precision == "tf32"
        torch.backends.cudnn.benchmark = True
        every = outputs_of(graph)
        self._names = list(outputs)
        self._wanted = [every[name] for name in outputs]
        self._nodes = _needed(simplify(graph, weights, *batches[0].shape[1:3]), self._wanted)
        self._weights = {
            node.name: tuple(None if t is None else t.to(device) for t in self._tensors(node))  # type: ignore[misc]
            for node in self._nodes
        }
        self._absorbed = _absorbed(self._nodes, self._wanted)
        self._inputs = [torch.from_numpy(images).to(device).permute(0, 3, 1, 2) for images in batches]
        self.version = torch.__version__
        self.seconds: dict[str, float | str] = {}
        for ways in WAYS.values():
            self.seconds |= {way: self._seconds(way) for way in ways}
            self.way = min(self.seconds, key=lambda way: _number(self.seconds[way]))
            if _number(self.seconds[self.way]) < np.inf:
                break
        else:
            raise RuntimeError(f"PyTorch runs this network in none of its ways: {self.seconds}")
        self._prepare(self.way)

    def _arranged(self, tensor: Any) -> Any:
        """Images, or a convolution's weights, in the layout of the way that is prepared; other tensors as they are."""
        form = self._torch.channels_last if self._channels_last else self._torch.contiguous_format
        return tensor.contiguous(memory_format=form) if tensor is not None and tensor.ndim == 4 else tensor

    def _seconds(self, way: str) -> float | str:
        """Seconds of one run in one of the ways, the least of a few; or why it cannot be done."""
        try:
            self._prepare(way)
            times = []
            for _ in range(5):
                start = time.perf_counter()
                self.run(0)
                times.append(time.perf_counter() - start)
            return min(times)
        except Exception as error:  # whatever the reason, it is then no way to run this network
            return f"{type(error).__name__}: {str(error)[:120]}"

    def _prepare(self, way: str) -> None:
        torch = self._torch
        self._runs: list[Callable[[], Any]] = []
        forward = self._fused_forward if ", fused" in way else self._forward
        self._channels_last = way.endswith("NHWC")
        self._inputs = [self._arranged(images) for images in self._inputs]
        self._weights = {name: tuple(map(self._arranged, both)) for name, both in self._weights.items()}  # type: ignore[misc]

        def eager(images: Any) -> Callable[[], Any]:
            return lambda: forward(images)

        self.begin()
        with torch.inference_mode():
            if way.startswith("eager"):
                self._runs = [eager(images) for images in self._inputs]
                self.run(0)
                return
            if self._device == "cpu":
                raise RuntimeError("CUDA graphs need a card")
            pool = None
            for images in self._inputs:
                aside = torch.cuda.Stream()
                aside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(aside):  # cudnn.benchmark searches now, not in the capture
                    for _ in range(3):
                        forward(images)
                torch.cuda.current_stream().wait_stream(aside)
                captured = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured, pool=pool):
                    results = forward(images)
                pool = captured.pool()
                self._runs.append(_replay(captured, results))

    def begin(self) -> None:
        """Bring PyTorch's global precision to this network's, before a turn: others may have changed it."""
        set_tf32(self._tf32)

    def compute(self, images: Any) -> tuple[Any, ...]:
        """Features of other images, NCHW on the card, by PyTorch's operators one by one."""
        return self._forward(self._arranged(images))

    def queue(self, index: int) -> Any:
        """Queue batch ``index``; returns the results that will be there. They are valid until the next call."""
        with self._torch.inference_mode():
            return self._runs[index]()

    def run(self, index: int) -> Any:
        """Compute batch ``index`` and wait for it."""
        results = self.queue(index)
        synchronise(self._device)
        return results

    def poison(self, results: Any) -> None:
        """Fill results with NaN, so that what is not computed again shows."""
        with self._torch.inference_mode():
            for tensor in results:
                tensor.fill_(float("nan"))
        synchronise(self._device)

    def picked(self, results: Any, images: Sequence[int]) -> dict[str, Array]:
        """Some images' results as NumPy arrays, NHWC."""
        found = {}
        for name, tensor in zip(self._names, results, strict=True):
            part = tensor[list(images)]
            part = part.permute(0, 2, 3, 1) if part.ndim == 4 else part
            found[name] = part.contiguous().cpu().numpy()
        return found

    def _fused_forward(self, images: Any) -> tuple[Any, ...]:
        """``_forward`` with cuDNN's convolutions that add a bias, or a bias and another tensor, and apply ReLU."""
        torch = self._torch
        absorbed = {conv.name for conv in self._absorbed.values()}
        values: dict[str, Any] = {}
        for node in self._nodes:
            if node.name in absorbed:
                continue
            conv = self._absorbed.get(node.name)
            if conv is not None:
                (other,) = (name for name in node.inputs if name != conv.name)
                weights, bias = self._weights[conv.name]
                values[node.name] = torch.cudnn_convolution_add_relu(
                    values[conv.inputs[0]], weights, values[other], 1.0, bias,
                    conv.stride, _centred(conv), (1, 1), 1,
                )  # fmt: skip
            elif node.kind == "conv" and node.relu and _centred(node) is not None:
                weights, bias = self._weights[node.name]
                values[node.name] = torch.cudnn_convolution_relu(
                    values[node.inputs[0]], weights, bias, node.stride, _centred(node), (1, 1), 1
                )
            else:
                values[node.name] = self._computed(node, [values[name] for name in node.inputs], images)
        return tuple(values[layer] for layer in self._wanted)


def _replay(captured: Any, results: Any) -> Callable[[], Any]:
    def run() -> Any:
        captured.replay()
        return results

    return run


def _number(seconds: float | str) -> float:
    return np.inf if isinstance(seconds, str) else seconds


def _centred(node: PeerNode) -> tuple[int, int] | None:
    """(vertical, horizontal) padding, where it is the same on both sides."""
    top, bottom, left, right = node.pads
    return (top, left) if (top, left) == (bottom, right) else None


def _needed(nodes: Sequence[PeerNode], wanted: Sequence[str]) -> list[PeerNode]:
    """The nodes that ``wanted`` are computed from, in order."""
    keep = set(wanted)
    for node in reversed(nodes):
        if node.name in keep:
            keep.update(node.inputs)
    return [node for node in nodes if node.name in keep]


def _absorbed(nodes: Sequence[PeerNode], wanted: Sequence[str]) -> dict[str, PeerNode]:
    """{addition: the convolution that can do it as well}: one that nobody else reads, the later where both could."""
    by_name = {node.name: node for node in nodes}
    order = {node.name: index for index, node in enumerate(nodes)}
    readers = Counter(name for node in nodes for name in node.inputs)
    found = {}
    for node in nodes:
        if node.kind != "add" or not node.relu or len(set(node.inputs)) < 2:
            continue
        for name in sorted(node.inputs, key=lambda name: -order[name]):
            conv = by_name[name]
            alone = readers[name] == 1 and name not in wanted
            if conv.kind == "conv" and not conv.relu and alone and _centred(conv) is not None:
                found[node.name] = conv
                break
    return found


def ceilings(device: str, size: int, floats: int) -> dict[str, float]:
    """What the card can do at best, as far as PyTorch's own kernels get there.

    size    of the square matrices that are multiplied
    floats  how many are copied

    Returns {"bandwidth": bytes per second, read and written, "fp32", "tf32": FLOP per second}.
    """
    import torch

    def best(run: Callable[..., Any], *tensors: Any) -> float:
        run(*tensors)
        times = []
        for _ in range(7):
            synchronise(device)
            start = time.perf_counter()
            run(*tensors)
            synchronise(device)
            times.append(time.perf_counter() - start)
        return min(times)

    source, target = (torch.rand(floats, device=device) for _ in range(2))
    found = {"bandwidth": 8 * floats / best(torch.Tensor.copy_, target, source)}
    a, b = (torch.rand(size, size, device=device) for _ in range(2))
    for precision in ("fp32", "tf32"):
        set_tf32(precision == "tf32")
        found[precision] = 2.0 * size**3 / best(torch.mm, a, b)
    return found
