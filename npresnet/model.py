"""``load`` and what it returns: a network that is ready to run."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from .cpu import by_layer
from .cpu.custom import compiled
from .errors import UsageError, WeightsError, WeightsWarning
from .files.safe_write import file_hash
from .images.conventions import convention_for, default_size
from .images.prepare import prepare
from .network.architecture import Architecture, parse_architecture
from .network.detector import PYRAMID
from .network.graph import Graph
from .network.inputs import network_inputs
from .network.maps import Features, Pyramid, apart
from .network.stored_weights import Weights, in_memory
from .network.structure import leaves, mapped
from .network.weights import Inspection, load_weights

if TYPE_CHECKING:
    from .cpu.runner import Planner
    from .cuda.card import Card
    from .cuda.measured import Measured
    from .cuda.runner import Runner
    from .detection.config import DetectorConfig
    from .detection.result import Detections
    from .plan.times import LayerStep, StepTime

    Config = DetectorConfig | Mapping[str, Any] | str | os.PathLike[str] | None

__all__ = ["Features", "Pyramid", "ResNet", "assemble", "load", "resnet_graph"]

Array = npt.NDArray[Any]
Images = Array | Sequence[Array] | Mapping[str, Array]
"""What a network is called with: images, or something for each input of a network of several, in its order or by name."""

_T = TypeVar("_T")

_ALGORITHMS = ("auto", "direct", "im2col", "reference")
_PRECISIONS = ("fp32", "tf32", "3xtf32")


class ResNet:
    """A ResNet backbone with its weights: call it with images, get C1 to C5. Made by ``npresnet.load``.

    One network may be called from many threads at once. Plans, one per shape of images, are made as they are needed.
    """

    def __init__(self, inspection: Inspection, algorithm: str, threads: int, runner: Runner | None = None) -> None:
        self._inspection = inspection
        self._runner = runner  # on a card; None: on the CPU
        self.algorithm = algorithm
        self.threads = threads
        self._asked_for: tuple[Any, ...] | None = None  # what ``load`` was called with, but for the path
        self._planner: Planner | None = None
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The weight file that it was loaded from."""
        return self._inspection.path

    @property
    def architecture(self) -> Architecture:
        """Family, depth, widths and classifier, as found in the file."""
        return self._inspection.architecture

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda:0"."""
        return "cpu" if self._runner is None else f"cuda:{self._runner.card.index}"

    @property
    def precision(self) -> str:
        """Of the convolutions on a card, as ``load`` has it; "fp32" on the CPU."""
        return "fp32" if self._runner is None else self._runner.precision

    @property
    def graph(self) -> Graph:
        """The network's layers as data."""
        return self._inspection.graph

    @property
    def weights(self) -> Weights:
        """{layer name: {role: float32 array}}; not to be written to.

        Those of a file are read from it when a layer is asked for, as new arrays, and not kept: the network itself keeps what it
        has made of them. Asking for one raises WeightsError where the file was written to since it was loaded; moved,
        deleted, or replaced by another of its name it may be.
        """
        return self._inspection.weights

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all layers, in the order in which they run."""
        return tuple(layer.name for layer in self.graph.layers)

    @property
    def why_no_classes(self) -> str:
        """Why the network does not return what the model in the file does, in words."""
        return self._inspection.no_prediction

    def prepare(self, source: Any, size: str | tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
        """Pictures as this network wants them: decoded, resized, channels ordered, means subtracted.

        source  a picture file, a `.npy` file that is already prepared, a uint8 or float RGB array [h, w, 3] or
                [n, h, w, 3] of values 0 to 255, or a list of such; for a network of one channel picture files are read as
                grey, and arrays are [h, w], [h, w, 1] or [n, h, w, 1]; one of any other number takes arrays of just so many
        size    "square", "pad64", "none", "640x480" (width x height), (width, height); None for the one that the file fixes, or
                else what is usual in the network's family

        Which arithmetic it is ``architecture.preprocessing`` says, and ``load(preprocessing=)`` changes. Returns float32[n, h, w,
        channels]. Raises ImageError, UsageError, MissingExtraError (pictures need Pillow); warns by WeightsWarning where nobody can
        know what is right.
        """
        if self._inspection.unprepared:
            warnings.warn(f"{self._inspection.path}: {self._inspection.unprepared}", WeightsWarning, stacklevel=2)
        size = default_size(self.architecture, self.graph) if size is None else size
        return prepare(source, self.architecture.preprocessing, size, self.graph.channels)

    @overload
    def __call__(self, images: Images, outputs: None = None) -> Features: ...

    @overload
    def __call__(self, images: Images, outputs: Literal["pyramid"]) -> Pyramid: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, images: Images, outputs: Sequence[str]) -> dict[str, Array]: ...

    def __call__(self, images: Images, outputs: Sequence[str] | None = None) -> Features | Pyramid | dict[str, Array]:
        """Run the network.

        images   float32[n, h, w, 3], already prepared, or one image [h, w, 3]; other real dtypes are converted. For a
                 network on a card, arrays on that card are taken, too, of any library that speaks DLPack or
                 ``__cuda_array_interface__``. A network of several inputs takes a list of arrays or a dict of them by the inputs'
                 names (``net.graph.inputs``)
        outputs  names of layers, in any number; None: the feature maps; "pyramid": those of a detector, P2 to P6

        Returns ``Features``, ``Pyramid``, or {layer name: array} for ``outputs``: NumPy arrays, or, for images that were on the
        card, ``npresnet.cuda.arrays.DeviceArray``. Raises ImageError for anything that is no batch of images, UsageError for an
        unknown layer, images of a size that the network does not take, or without ``outputs`` where there are no feature
        maps, DeviceError where the card's memory is short; WeightsError where weights are needed in a form that is not at hand, and
        the file was written to since it was loaded.
        """
        asked = self._asked("C" if outputs is None else outputs)
        names = tuple(dict.fromkeys(asked.values()))
        found = self._planned(images, names) if self._runner is None else self._runner.run(images, names)
        if found is None:
            steps = self._run(images, names)
            kept = ((step.name, step.array.copy() if step.kind == "input" else step.array) for step in steps)
            found = {name: array for name, array in kept if name in names}
        if outputs is not None and not isinstance(outputs, str):
            return apart(asked, found)
        made: Any = Features if outputs is None else Pyramid
        return made(**{field: found.get(asked.get(field.upper(), "")) for field in made._fields})  # type: ignore[no-any-return]

    def predict(self, images: Any) -> Any:
        """What the model in the file returns: class probabilities, float32[n, classes], of a classifier.

        A file that describes a whole model may have any other head: then it is what Keras's ``predict`` returns, an array, or a
        list or a dict of arrays. Raises UsageError where the file holds feature maps alone, or a head that is not run.
        """
        result = self.graph.classifier if self.graph.result is None else self.graph.result
        if result is None or self._inspection.lacking:
            give = "" if self._inspection.lacking else ", or give a file that was saved with its top"
            raise UsageError(
                f"predict: {self.why_no_classes}; call the network itself for feature maps, or for any layer that is run{give}"
            )
        return mapped(result, self(images, outputs=list(dict.fromkeys(leaves(result)))))

    @cached_property
    def heads(self) -> dict[str, ResNet]:
        """A detector's networks behind this one, "class" and "mask", whose images are regions of its maps, float32[n, h, w, c]."""
        return {name: self._head(graph) for name, graph in self.graph.heads.items()}

    def _head(self, graph: Graph) -> ResNet:
        runner = None if self._runner is None else self._runner.of(graph)
        return ResNet(replace(self._inspection, graph=graph), self.algorithm, self.threads, runner)

    def detect(self, pictures: Any, config: Config = None) -> list[Detections]:
        """What a Mask R-CNN finds in pictures: what matterport's ``detect`` returns.

        pictures  a picture file, an array [h, w, 3] or [n, h, w, 3] of RGB values 0 to 255, uint8 as a rule, or a list of such,
                  of any sizes
        config    what no weight file says, see ``npresnet.DetectorConfig``: one of these, the name of a preset ("coco",
                  "balloon", "nucleus", "shapes", "decimer"), a ``.json`` file, or {setting: value}; None for "coco"

        Returns a ``Detections`` (boxes, class_ids, scores, masks) for each. Raises UsageError where the file holds no detector, or
        the config is not for it; ImageError, MissingExtraError as ``prepare``, and ImageError for a picture of a size that the config
        does not allow; WeightsError where the network's numbers are beyond float32.
        """
        from .detection.config import config_for
        from .detection.detecting import detect

        return list(detect(self, self.architecture.detector, pictures, config_for(config)))

    def trace(self, images: Images, outputs: Sequence[str] | None = None) -> Iterator[LayerStep]:
        """Run layer by layer, whatever the algorithm, and yield each layer as it is done: name, kind, shape, array,
        seconds, FLOP, and how calling the network would compute it. Arguments and errors as for calling the network;
        without ``outputs``, all layers run that take images of this size."""
        height, width = self._size_of(images)
        names = self.graph.ends_for(height, width) if outputs is None else self._names(outputs)
        steps = self._run(images, names) if self._runner is None else self._runner.trace(images, names)
        planned = self._algorithms((height, width), self._usual() if outputs is None else tuple(names))
        return (replace(step, planned=planned.get(step.name, "")) for step in steps)

    def profile(self, images: Images, outputs: Sequence[str] | None = None, repeats: int = 5) -> list[StepTime]:
        """How long each step of ``net(images)`` takes: its last layer, algorithm, shape, median seconds, FLOP.

        Arguments as for calling the network, and without feature maps up to its last layer; ``repeats`` runs are timed after
        one that is not. Raises as calling the network; UsageError for an algorithm that runs layer by layer, which ``trace`` times.
        """
        names = (tuple(self.graph.features.values()) or self._usual()) if outputs is None else self._names(outputs)
        if self._runner is not None:
            found = self._runner.profile(images, names, repeats)
        else:
            batch = network_inputs(images, self.graph)
            found = self._by_plan(lambda plans: plans.profile(batch, names, self.algorithm == "auto", repeats))
        if found is not None:
            return found
        raise UsageError(
            f"profile: algorithm {self.algorithm!r} runs layer by layer; trace(images) times that, or load with "
            "algorithm='auto'"
        )

    def tune(
        self,
        batch: tuple[int, int, int],
        outputs: Sequence[str] | None = None,
        seen: Callable[[Measured], None] = lambda row: None,
    ) -> list[Measured]:
        """On a card: measure which kernel each convolution is the fastest with, for batches of (n, height, width) images.

        Otherwise a model of the card chooses. What is found is kept on disk, and all networks go by it that are loaded on
        a card of that kind from now on, and this one; what is known already is not measured again. Nothing else should
        run on the card meanwhile. Afterwards results may differ in their last bits from those before.

        outputs  names of layers; None: the feature maps and class probabilities
        seen     is called with each row as it comes

        Returns a row (convolution, expected, expected_seconds, best, best_seconds) for each convolution that was measured.
        Raises UsageError on the CPU, where nothing is to be measured, and for algorithm "im2col", which runs layer by layer;
        otherwise as calling the network.
        """
        if self._runner is None or self.algorithm == "im2col":
            raise UsageError(
                f"tune: there is nothing to be measured for device {self.device!r} with algorithm {self.algorithm!r}; load "
                "the network with device='cuda' and algorithm='auto' or 'direct'"
            )
        if len(batch) != 3 or not all(isinstance(size, int) and size > 0 for size in batch):
            raise UsageError(f"tune: batch: got {batch!r}; it must be (n, height, width), whole numbers of at least 1")
        rows: list[Measured] = []

        def note(row: Measured) -> None:
            rows.append(row)
            seen(row)

        self._runner.tune(batch, self._usual() if outputs is None else self._names(outputs), note)
        return rows

    def summary(self, size: tuple[int, int] | None = None) -> str:
        """The network in words, one line per layer: name, kind, weights' shapes, what feeds it, and how it is computed
        for images of ``size`` (height, width); None for the size that the file fixes, or 224x224."""
        size = size or self.graph.size or (224, 224)
        planned = self._algorithms(size, self._usual())
        rows = [("layer", "kind", "weights", "inputs", f"at {size[0]}x{size[1]}")]
        for layer in self.graph.layers:
            shapes = " ".join("x".join(map(str, shape)) for shape in layer.operator.tensors().values())
            rows.append((layer.name, layer.operator.kind, shapes, ", ".join(layer.inputs), planned.get(layer.name, "")))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([str(self.architecture), *lines])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its file's path and hash, not as its weights: whoever unpickles it must see the same file."""
        if self._asked_for is None or not self.path.is_file():
            raise UsageError(f"{self.path}: a network is pickled as the path of its one weight file, and this has none")
        return _loaded_again, (self.path.absolute(), file_hash(self.path), self._asked_for)

    def __repr__(self) -> str:
        where = f"threads={self.threads}" if self._runner is None else f"device={self.device!r}"
        return f"<npresnet {self.architecture}, algorithm={self.algorithm!r}, {where}>"

    @property
    def _several(self) -> bool:
        """Whether the network has several inputs."""
        return len(self.graph.inputs) > 1

    def _size_of(self, images: Any) -> tuple[int, int]:
        """(height, width) of the images that the network is called with."""
        if self._several or len(getattr(images, "shape", ())) not in (3, 4):
            images = network_inputs(images, self.graph)[self.graph.layers[0].name]
        height, width = images.shape[-3:-1]
        return height, width

    def _asked(self, outputs: Sequence[str]) -> dict[str, str]:
        """{name that is asked for: the layer whose output has it}, of layers or a set of maps. Raises UsageError for one that is
        not here."""
        if outputs in ("C", PYRAMID):
            if not self.graph.outputs.get(outputs):
                raise UsageError(self._no_maps(outputs))
            return dict(self.graph.outputs[outputs])
        if isinstance(outputs, str):
            raise UsageError(
                f"outputs: got the text {outputs!r}; it must be a list of layer names, such as [{outputs!r}], or {PYRAMID!r}"
            )
        return {name: self.graph.resolved(name) for name in outputs}

    def _names(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """The layers whose outputs are asked for, each once."""
        return tuple(dict.fromkeys(self._asked(outputs).values()))

    def _by_plan(self, ask: Callable[[Planner], _T]) -> _T | None:
        """What ``ask`` gets from the network's plans; None where it runs layer by layer: for another algorithm."""
        if self.algorithm not in ("auto", "direct") or self._runner is not None:
            return None
        from .cpu.runner import Planner  # here, because the kernels import Numba

        with self._lock:
            if self._planner is None:
                self._planner = Planner(self.graph, self.weights, self.threads)
        return ask(self._planner)

    def _planned(self, images: Images, names: tuple[str, ...]) -> dict[str, Array] | None:
        """The outputs by plan, or None."""
        batch = network_inputs(images, self.graph)
        wanted = tuple(name for name in names if name not in batch)
        if not wanted:
            return None
        found = self._by_plan(lambda plans: plans.run(batch, wanted, self.algorithm == "auto"))
        return None if found is None else {**found, **{name: batch[name].copy() for name in names if name in batch}}

    def _no_maps(self, which: str) -> str:
        """That the network has no maps of this set, and what to do."""
        if which == PYRAMID:
            return f"{self.architecture} has no feature pyramid: the file holds none; give the weights of a whole Mask R-CNN"
        return (
            f"{self.architecture} has no feature maps C1 to C5: no map that is 4, 8, 16 or 32 times smaller than its images; "
            f"name layers, outputs=[{self.graph.layers[-1].name!r}] for instance"
            + ("" if self.graph.classifier is None else ", or call predict")
        )

    def _usual(self) -> tuple[str, ...]:
        """The layers that users ask for: feature maps and class probabilities; the last layer where there are none."""
        usual = (*self.graph.features.values(), *([self.graph.classifier] if self.graph.classifier else []))
        return usual or (self.graph.layers[-1].name,)

    def _algorithms(self, size: tuple[int, int], outputs: tuple[str, ...]) -> dict[str, str]:
        """{layer: how calling the network for ``outputs`` computes it}."""
        if self._runner is not None:
            return self._runner.algorithms(size, outputs)
        found = self._by_plan(lambda plans: plans.algorithms(size, outputs, self.algorithm == "auto"))
        if found is not None:
            return found
        by_layer = "reference" if self.algorithm == "reference" else "im2col"
        return {layer.name: by_layer for layer in self.graph.layers if layer.operator.kind != "input"}

    def _run(self, images: Images, names: Sequence[str]) -> Iterator[LayerStep]:
        first = next(iter(images.values() if isinstance(images, dict) else images), None) if self._several else images
        wide = self.algorithm == "reference" and getattr(first, "dtype", None) == np.float64
        batch = network_inputs(images, self.graph, np.float64 if wide else np.float32)
        algorithm = "reference" if self.algorithm == "reference" else "im2col"
        weights = self.weights if self.algorithm in ("auto", "direct") else self._weights_in_memory
        return by_layer.run(self.graph, weights, batch, names, algorithm=algorithm, threads=self.threads)

    @cached_property
    def _weights_in_memory(self) -> Weights:
        """For a network that runs layer by layer, and needs them for each batch."""
        return in_memory(self.weights)


def load(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    device: str = "cpu",
    algorithm: str = "auto",
    threads: int | None = None,
    precision: str = "fp32",
    preprocessing: str | None = None,
    custom: Mapping[str, Callable[[float], float]] | None = None,
) -> ResNet:
    """Read a Keras weight file and return the network in it, ready to run.

    path          a Keras weight file: ``.h5``, ``.weights.h5``, ``.keras``, or ``.weights.json`` with its parts beside it;
                  the folder of an unpacked ``.keras``; a model's JSON text, ``x.json``, with ``x.h5`` or ``x.weights.h5`` beside it
    architecture  None: found in the file; a depth such as "resnet101", or family and depth such as
                  "matterport/resnet101", where a file does not say or to insist on one
    device        "cpu"; "cuda" for the first NVIDIA card, "cuda:1" for the second
    algorithm     "auto" (the fastest), "direct" (as fast as can be without Winograd), "im2col" (the textbook path),
                  "reference" (plain NumPy; float64 images are run in float64; on the CPU only)
    threads       how many share the work; None: one per available processor. The results do not depend on it.
    precision     of the convolutions on a card with "auto" and "direct": "fp32"; "tf32", tensor cores, with errors near 3e-4
                  in each layer; "3xtf32", tensor cores at nearly float32's accuracy
    preprocessing how ``prepare`` is to change pixels: "caffe", "torch", "tf", "unit" (0 to 1), "none" (0 to 255, as they
                  are), "matterport", "nsfw", "frcnn"; None: none where the network scales them itself, else as is usual in its family
    custom        activations that the file knows as code alone, {class, layer or name in ``activation=``: function of one
                  number}, ``{"Cube": lambda x: x * x * x}``: each is compiled, so it may use arithmetic and ``math``; on the CPU

    The file stays open as long as the network lives, which reads its weights when they are needed and keeps them packed alone, see
    ``ResNet.weights``.

    Raises WeightsError for a file that is no complete ResNet, UsageError for a wrong argument; for a card that cannot be
    used DeviceError, and MissingExtraError where numba-cuda is not installed. Warns by WeightsWarning of what the file leaves
    open, and of what of its model is not run.
    """
    if preprocessing is not None:
        convention_for(preprocessing)  # before the file is read
    own = compiled(custom, device)
    net = _ready(
        lambda: load_weights(Path(path), architecture, preprocessing, own), device, algorithm, threads, precision
    )
    if preprocessing is not None:
        convention_for(preprocessing, net.graph.channels)
    net._asked_for = architecture, device, algorithm, threads, precision, preprocessing, custom
    found = net._inspection
    for doubt in found.doubts:
        if doubt != found.unprepared:  # which ``prepare`` says
            warnings.warn(f"{path}: {doubt}", WeightsWarning, stacklevel=2)
    return net


def _loaded_again(path: Path, sha256: str, asked_for: tuple[Any, ...]) -> ResNet:
    """What was pickled. Raises WeightsError where the file is another one here."""
    if file_hash(path) != sha256:
        raise WeightsError(f"{path}: not the file that the network was loaded from; copy that one to this place")
    return load(path, *asked_for)


def assemble(
    found: Inspection, device: str = "cpu", algorithm: str = "auto", threads: int | None = None, precision: str = "fp32"
) -> ResNet:
    """A network of weights that are at hand; arguments and errors as for ``load``, which reads them from a file."""
    return _ready(lambda: found, device, algorithm, threads, precision)


def _ready(read: Callable[[], Inspection], device: str, algorithm: str, threads: int | None, precision: str) -> ResNet:
    from .kernels.threads import resolve_threads

    if algorithm not in _ALGORITHMS:
        raise UsageError(f"algorithm: got {algorithm!r}; it must be one of {', '.join(map(repr, _ALGORITHMS))}")
    if precision not in _PRECISIONS:
        raise UsageError(f"precision: got {precision!r}; it must be one of {', '.join(map(repr, _PRECISIONS))}")
    if precision != "fp32" and (device == "cpu" or algorithm not in ("auto", "direct")):
        raise UsageError(
            f"precision: got {precision!r} with device={device!r} and algorithm={algorithm!r}; only the fast paths on a card "
            "have another one than 'fp32': device='cuda' and algorithm='auto' or 'direct'"
        )
    try:
        threads = resolve_threads(threads)
    except ValueError as error:
        raise UsageError(str(error)) from None
    card = _card(device, algorithm)  # before the file is read
    if card is not None:
        card.check_precision(precision)
    found = read()
    runner = None
    if card is not None:
        if len(found.graph.inputs) > 1:
            raise UsageError(
                f"device: got {device!r} for a network of {len(found.graph.inputs)} inputs, {', '.join(map(repr, found.graph.inputs))}; "
                "a card runs networks of one; load it with device='cpu'"
            )
        from .cuda.runner import Runner

        runner = Runner(card, found.graph, found.weights, algorithm, precision, threads)
    return ResNet(found, algorithm, threads, runner)


def _card(device: str, algorithm: str) -> Card | None:
    """The card that ``device`` names, or None for the CPU. Raises UsageError, DeviceError, MissingExtraError."""
    if device == "cpu":  # before anything of CUDA is imported
        return None
    from .cuda.card import open_card, parse_device

    index = parse_device(device)
    if algorithm == "reference":
        raise UsageError(
            "algorithm: 'reference' is plain NumPy, which runs on the CPU; give device='cpu', or another one"
        )
    return open_card(index)


def resnet_graph(
    images: Array,
    architecture: str,
    stage5: bool = False,
    *,
    weights: str | os.PathLike[str] | ResNet,
) -> list[Array | None]:
    """[C1, C2, C3, C4, C5] of prepared images, called as matterport's function of that name is.

    images        float32[n, h, w, 3], as ``ResNet.prepare`` makes them
    architecture  "resnet50", "resnet101", "resnet152", or with a family in front; it must be what the file holds
    stage5        whether to run stage 5; C5 is None if not
    weights       a weight file, or what ``load`` made of one, which saves reading it again

    Raises as ``load`` and calling the network do; UsageError if stage 5 is asked for and the file has none.
    """
    net = weights if isinstance(weights, ResNet) else load(weights, architecture)
    if not parse_architecture(architecture).allows(net.architecture):
        raise UsageError(f"architecture: got {architecture!r}, but the network is {net.architecture}; they must agree")
    features = net.graph.features
    if stage5 and "C5" not in features:
        raise UsageError(f"stage5: the weights of {net.architecture} end at C4; call with stage5=False")
    names = [features[f"C{stage}"] for stage in range(1, 6 if stage5 else 5)]
    found = net(images, outputs=names)
    return [*(found[name] for name in names), *([] if stage5 else [None])]
