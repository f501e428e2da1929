"""The command line: demo, info, run, convert, verify, bench, warmup, tune. Each command is a thin layer over the library.

Exit status: 0 done; 1 the check failed; 2 wrong use or unreadable input. Results go to standard output as plain
aligned text, progress and errors to standard error. Where a result cannot be written is said before the work.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .errors import NpResNetError, UsageError
from .files import check_writable
from .version import __version__

if TYPE_CHECKING:
    from .engine import Step
    from .model import ResNet

__all__ = ["app"]

app = typer.Typer(
    help="ResNet backbones straight from Keras weight files, without TensorFlow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    rich_markup_mode=None,
)

_T = TypeVar("_T")

_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}  # file names stay in one piece


class _Precision(StrEnum):
    fp32 = "fp32"
    tf32 = "tf32"
    exact = "3xtf32"


class _Algorithm(StrEnum):
    auto = "auto"
    direct = "direct"
    im2col = "im2col"
    reference = "reference"


def _printable(text: str) -> str:
    """``text`` with control characters written out: names in a file must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _say(text: str = "") -> None:
    print(_printable(text))


def _fact(label: str, text: str) -> None:
    """A labelled fact; what does not fit in a line of 80 characters goes on below itself."""
    first, rest = f"{label:<14}", " " * 14
    print(textwrap.fill(_printable(text), 80, initial_indent=first, subsequent_indent=rest, **_WHOLE_WORDS))


def _fail(message: str, status: int) -> NoReturn:
    text = _printable(f"npresnet: {message}")
    if sys.stderr.isatty():  # in a pipe or a log, one message stays one line
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, **_WHOLE_WORDS)
    print(text, file=sys.stderr)
    raise typer.Exit(status)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the library's errors into one paragraph and exit status 2."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # a reader that has gone (`| head`) is noticed here, where typer expects it
        except NpResNetError as error:
            _fail(str(error), 2)
        except MemoryError as error:
            _fail(f"out of memory ({error}); use smaller or fewer images", 2)

    return guarded


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: str) -> None:
    """Print rows in aligned columns; ``right`` has an "r" for each column that is aligned to the right."""
    cells = [list(headings), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        pieces = (
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, right, strict=True)
        )
        print("  ".join(pieces).rstrip())


@contextmanager
def _progress(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, shown on terminals only; call what it yields once per step."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _counted(items: Iterable[_T], title: str, total: int) -> Iterator[_T]:
    """The items, with a progress bar that moves by one for each."""
    with _progress(title, total) as advance:
        for item in items:
            yield item
            advance()


def _by(shape: Sequence[int]) -> str:
    """A shape as people write it: 1024x1024x3."""
    return "x".join(map(str, shape))


def _shape(shape: Sequence[int]) -> str:
    """The shape of a layer's output; a batch of one is left out."""
    return _by(shape[1:] if shape and shape[0] == 1 else shape)


def _load(
    weights: Path,
    architecture: str | None,
    device: str,
    algorithm: str,
    threads: int | None,
    precision: str = "fp32",
) -> ResNet:
    from .model import load

    return load(weights, architecture, device, str(algorithm), threads, str(precision))  # not the options' enumerations


_Weights = Annotated[
    Path,
    typer.Argument(metavar="WEIGHTS", help="A Keras weight file (.h5, .keras, .weights.json).", show_default=False),
]
_Architecture = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="resnet101 or matterport/resnet101, say; else found in the file."),
]
_Threads = Annotated[int | None, typer.Option(metavar="N", help="Threads to use; else all processors.", min=1)]
_Size = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="square, pad64, none or WIDTHxHEIGHT, such as 640x480; else the family's own."),
]
_Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where to run: cpu, cuda, or cuda:1 for the second card.")]


def _version(value: bool) -> None:
    if value:
        _say(f"npresnet {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
@_guarded
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path("npresnet-demo"),
    threads: _Threads = None,
) -> None:
    """Do the whole job with nothing downloaded. Weights, a photograph, its features C1 to C5, a picture of them."""
    from . import results
    from .demo import weight_file

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: this folder cannot be made ({error.strerror}); choose another with --out") from None
    check_writable(out / "features.npz")
    with _progress("writing demo weights", 1) as advance:
        weights, fresh = weight_file()
        advance()
    _fact("weights", f"{weights} ({'written now' if fresh else 'from an earlier run'}; seeded random numbers)")
    net = _load(weights, None, "cpu", "auto", threads)
    _fact("network", f"{net.architecture}, {len(net.layers)} layers, {net._inspection.parameters:,} parameters")
    picture = results.photograph()
    images = net.prepare(str(picture))
    _fact("photograph", f"{picture.name}, prepared to {_shape(images.shape)}")
    _say()

    names = {name: feature for feature, name in net.graph.features.items()}
    shapes = net.graph.shapes(*images.shape[1:3])
    first = time.perf_counter()
    net(images[:, :64, :64])  # compiles what no earlier run has, and packs the weights
    ready = time.perf_counter() - first
    with _progress("runs", None):
        steps = net.profile(images, repeats=3)
        maps = {feature.upper(): array for feature, array in net(images)._asdict().items()}
    rows, since = [], 0.0
    for layer in net.graph.layers[:2]:
        rows.append((layer.name, "", _shape((1, *shapes[layer.name])), ""))
    for step in steps:
        since += step.seconds
        if step is steps[0] or step.name in names:
            rows.append((step.name, names.get(step.name, ""), _shape(step.shape), f"{since:.3f}"))
            since = 0.0
    _table(("up to layer", "map", "shape", "seconds"), rows, "lllr")
    seconds, flop = sum(step.seconds for step in steps), sum(step.flop for step in steps)
    _say()
    _fact("time", f"{seconds:.2f} s on {net.threads} threads, after {ready:.1f} s to get kernels and weights ready")
    _fact("speed", f"{flop / seconds / 1e9:.0f} GFLOP/s, {flop / 1e9:.0f} GFLOP as a direct convolution counts them")
    results.save_arrays(out / "features.npz", maps, net, weights, [picture.name])
    results.save_feature_picture(out / "features.png", picture, maps)
    _fact("saved", f"{out / 'features.npz'} (C1 to C5 as float32 arrays)")
    _fact("", f"{out / 'features.png'} (a picture of them)")


@app.command()
@_guarded
def info(
    weights: Annotated[
        Path | None, typer.Argument(metavar="WEIGHTS", help="A Keras weight file (.h5 or .keras).", show_default=False)
    ] = None,
    architecture: _Architecture = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer and the shapes of its weights.")] = False,
    devices: Annotated[bool, typer.Option("--devices", help="Show which devices networks can run on.")] = False,
) -> None:
    """Show what a weight file holds. Family, depth, layers matched, missing and unused, parameters, checks."""
    from .images import CONVENTIONS
    from .weights import inspect

    if devices:
        _print_devices()
        if weights is None:
            return
        _say()
    if weights is None:
        raise typer.BadParameter("give WEIGHTS, a Keras weight file, or --devices")
    found = inspect(weights, architecture)
    total = sum(1 for layer in found.graph.layers if layer.operator.tensors())
    _fact("file", f"{found.path} ({found.bytes:,} bytes)")
    version = f"Keras {found.keras_version}" if found.keras_version else "no Keras version noted (Keras 1?)"
    noted = f"; {version}, backend {found.backend or 'not noted'}" if found.layout.startswith("legacy") else ""
    _fact("layout", found.layout + noted)
    _fact("architecture", str(found.architecture))
    for reason in found.reasons:
        _fact("", reason)
    _fact("parameters", f"{found.parameters:,} in {sum(map(len, found.weights.values()))} tensors")
    maps = ", ".join(f"{feature} {name}" for feature, name in found.graph.features.items())
    _fact("feature maps", maps)
    for doubt in found.doubts:
        _fact("doubt", doubt)
    convention = found.architecture.preprocessing
    _fact("preprocessing", f"{convention}: pixels go in as {CONVENTIONS[convention].meaning}")
    _fact("matched", f"{len(found.matched)} of {total} layers with weights")
    for title, items in (("missing", found.missing), ("mis-shaped", found.misshaped), ("unusable", found.unsound)):
        _fact(title, f"{len(items)} {'tensor' if len(items) == 1 else 'tensors'}" if items else "none")
        for item in items:
            _fact("", item)
    for item in found.suspicious:
        _fact("suspicious", item)
    _print_unused("unused", found.unused)
    if layers:
        _say()
        _table(
            ("layer", "kind", "weights"),
            (
                (layer.name, layer.operator.kind, " ".join(map(_by, layer.operator.tensors().values())))
                for layer in found.graph.layers
            ),
            "lll",
        )
    if found.problems:
        _fail(f"{weights}: these weights cannot be run; see above", 1)


def _print_devices() -> None:
    """The processor, the cards, and what keeps a card from being used."""
    from importlib import metadata

    from .cuda.card import find_cards, why_no_cuda
    from .kernels.threads import available_threads
    from .machine import processor

    _fact("cpu", f"{processor()}, {available_threads()} threads")
    for card in find_cards():
        memory = f", {card.free / 1e9:.1f} of {card.total / 1e9:.1f} GB free" if card.total else ""
        capability = f"compute capability {card.capability[0]}.{card.capability[1]}"
        _fact(f"cuda:{card.index}", f"{card.name}, {capability}{memory}")
        _fact("", f"not usable: {card.problem}" if card.problem else "usable")
    reason = why_no_cuda()
    if reason is not None:
        _fact("cuda", f"not usable: {reason}")
    versions = []
    for package in ("numba-cuda", "cuda-core", "cuda-toolkit"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    _fact("packages", ", ".join(versions) or "none for CUDA")


@app.command()
@_guarded
def run(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Pictures, or .npy files of prepared float32[n, h, w, 3]."),
    ],
    weights: Annotated[
        Path,
        typer.Option(metavar="WEIGHTS", help="A Keras weight file (.h5, .keras, .weights.json).", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the results go.")] = Path("features.npz"),
    layers: Annotated[str | None, typer.Option(metavar="A,B", help="Save these layers' outputs, not C1 to C5.")] = None,
    size: _Size = None,
    device: _Device = "cpu",
    algorithm: Annotated[_Algorithm, typer.Option(help="How to compute.")] = _Algorithm.auto,
    precision: Annotated[_Precision, typer.Option(help="Of convolutions on a card.")] = _Precision.fp32,
    threads: _Threads = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print each layer's shape, time and speed.")] = False,
    top: Annotated[
        int | None, typer.Option(metavar="K", help="Classify, and print the K most probable classes.", min=1)
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the classes: one per line, or .json. Implies --top 5."),
    ] = None,
    architecture: _Architecture = None,
) -> None:
    """Run pictures through a network and save its feature maps C1 to C5."""
    import numpy as np

    from .classes import most_probable, read_names
    from .results import save_arrays

    check_writable(out)
    net = _load(weights, architecture, device, algorithm, threads, precision)
    if layers is None:
        names = dict(net.graph.features)
    else:
        names = {name.strip(): name.strip() for name in layers.split(",") if name.strip()}
        if not names:
            raise UsageError(
                f"--layers: got {layers!r}, which names no layer; give names from `npresnet info --layers`"
            )
    net.graph.needed_for(names.values())  # an unknown layer is an error before the pictures are read
    classify = top is not None or classes is not None
    if classify:
        if net.graph.classifier is None:
            raise UsageError(
                f"--top: the weights of {net.architecture} hold no classifier; leave it out, or give a file that was "
                "saved with its top"
            )
        names["probabilities"] = net.graph.classifier
    batch = net.prepare([str(image) for image in images], size)
    count, labels = 0, None
    if classify:
        classifier = names["probabilities"]
        (total,) = net.graph.shapes(batch.shape[1], batch.shape[2], [classifier])[classifier]
        count = min(5, total) if top is None else top
        if count > total:
            raise UsageError(f"--top: got {top}, but the classifier has {total} classes; give 1 to {total}")
        labels = read_names(classes, total) if classes else None
    wanted = list(names.values())
    collected: dict[str, list[Any]] = {name: [] for name in wanted}
    steps: list[Step] = []
    if trace:
        list(net.trace(batch[:1, :32, :32], wanted))  # kernels get ready here, not in the first layers' time
    start = time.perf_counter()
    with _progress("images", len(batch)) as advance:
        for index in range(len(batch)):  # one image at a time: memory does not grow with their number
            image = batch[index : index + 1]
            if trace and index == 0:
                found = {}
                for step in net.trace(image, wanted):
                    if step.name in collected:
                        found[step.name] = step.array
                    steps.append(step_without_array(step))
            else:
                found = net(image, wanted)
            for name, array in found.items():
                collected[name].append(array)
            advance()
    seconds = time.perf_counter() - start
    arrays = {key: np.concatenate(collected[name]) for key, name in names.items()}
    save_arrays(out, arrays, net, weights, [str(image) for image in images])
    if trace:
        _print_trace(steps)
        _say()
    _table(("output", "layer", "shape"), ((k, n, _shape(arrays[k].shape)) for k, n in names.items()), "lll")
    _say()
    if classify:
        # where a .npy brought several images, files and images do not match one to one
        sources = list(map(str, images)) if len(images) == len(batch) else [f"image {i}" for i in range(len(batch))]
        operator = net.graph.by_name[names["probabilities"]].operator
        softmax = operator.kind in ("softmax", "sigmoid") or getattr(operator, "softmax", False)
        heading = "probability" if softmax else "score"  # a network of its own may end without softmax
        _print_classes(sources, most_probable(arrays["probabilities"], count), labels, heading)
        _say()
    _fact("network", str(net.architecture))
    _fact("images", f"{len(batch)} of {batch.shape[2]}x{batch.shape[1]} pixels in {seconds:.2f} s")
    _fact("saved", str(out))


def step_without_array(step: Step) -> Step:
    """The step's figures alone, so that a list of them does not keep every activation in memory."""
    from dataclasses import replace

    import numpy as np

    return replace(step, array=np.empty(0, np.float32))


def _print_classes(
    sources: Sequence[str], best: Sequence[Sequence[tuple[int, float]]], names: Sequence[str] | None, heading: str
) -> None:
    """The most probable classes of each image, with their names if those are known."""
    rows = [
        (source, str(number), *([names[number]] if names else []), f"{probability:.4f}")
        for source, classes in zip(sources, best, strict=True)
        for number, probability in classes
    ]
    if names:
        _table(("image", "class", "name", heading), rows, "lrlr")
    else:
        _table(("image", "class", heading), rows, "lrr")


def _print_trace(steps: Sequence[Step]) -> None:
    """Shape, time and speed of each layer, and the whole."""
    _table(
        ("layer", "kind", "shape", "ms", "GFLOP/s", "without --trace"),
        (
            (s.name, s.kind, _shape(s.shape), f"{s.seconds * 1e3:.2f}", f"{s.gflop_per_second:.1f}", s.planned)
            for s in steps
        ),
        "lllrrl",
    )
    seconds, flop = sum(s.seconds for s in steps), sum(s.flop for s in steps)
    _say(
        f"{len(steps)} layers in {seconds:.3f} s, {flop / 1e9:.2f} GFLOP, {flop / max(seconds, 1e-9) / 1e9:.1f} GFLOP/s"
    )


@app.command()
@_guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A Keras weight file (.h5, .keras, .weights.json).")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5 file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over OUT where it exists.")] = False,
    architecture: _Architecture = None,
) -> None:
    """Write the network in a file as plain Keras weights, checked. What is not part of it is dropped and listed."""
    from .convert import convert as converted

    with _progress("converting", None):
        done = converted(source, target, architecture, force)
    _fact("architecture", str(done.architecture))
    _fact("written", f"{target} ({done.bytes:,} bytes), {done.layers} layers with {done.tensors} tensors")
    _print_unused("dropped", done.dropped)


def _print_unused(label: str, layers: Mapping[str, int]) -> None:
    """The layers of a file that are not part of its network, with their number of tensors."""
    _fact(
        label,
        f"{len(layers)} layers with {sum(layers.values())} tensors, not part of the backbone" if layers else "none",
    )
    for name, count in layers.items():
        _fact("", f"{name} ({count})")


@app.command()
@_guarded
def verify(
    weights: _Weights,
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A picture or .npy; else the bundled photograph.")
    ] = None,
    against: Annotated[
        str,
        typer.Option(metavar="ORACLE", help="tensorflow, recording.npz, or reference: our own NumPy in float64."),
    ] = "tensorflow",
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what the oracle computed, to check without it.")
    ] = None,
    size: _Size = None,
    device: _Device = "cpu",
    threads: _Threads = None,
    architecture: _Architecture = None,
) -> None:
    """Compare every layer with TensorFlow, or with a recording of it. Exit status 1 if any layer disagrees."""
    from . import verify as checks
    from .compare import RELATIVE, WORST
    from .results import photograph

    if record is not None:
        check_writable(record)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's remarks about itself
    net = _load(weights, architecture, device, "im2col", threads)
    recording: checks.Recording | None = None
    if against in ("tensorflow", "reference"):
        images = net.prepare(str(image or photograph()), size)
        if record:
            recording = checks.Recording(weights, images, against)
        if against == "tensorflow":
            rows = checks.against_tensorflow(net, weights, images, recording)
        else:
            rows = checks.against_reference(net, images, recording)
    else:
        if image is not None or record is not None:
            _fail(
                "verify: a recording brings its own images and is not recorded again; leave out IMAGE and --record", 2
            )
        kept = checks.Recording.open(against)
        images, rows = kept.images, checks.against_recording(net, weights, kept)

    verdicts = list(_counted(rows, "layers", len(net.layers) - 1))
    _table(
        ("layer", "kind", "shape", "relative", "worst", ""),
        (
            (row.name, row.kind, _shape(row.shape), f"{row.difference.relative:.1e}", f"{row.difference.worst:.1e}",
             "ok" if row.agrees else f"FAILS {row.difference.problem or ''}".rstrip())
            for row in verdicts
        ),
        "lllrrl",
    )  # fmt: skip
    failed = [row for row in verdicts if not row.agrees]
    worst = max(verdicts, key=lambda row: row.difference.relative)
    _say()
    _fact("network", f"{net.architecture}, on an input of {_shape(images.shape)}")
    _fact("result", f"{len(verdicts) - len(failed)} of {len(verdicts)} layers agree with {against}")
    _fact("largest", f"relative error {worst.difference.relative:.1e} at {worst.name}")
    _fact(
        "allowed",
        f"relative error {RELATIVE:g} of a layer's norm; worst single value {WORST:g} of its root mean square",
    )
    if recording is not None and record is not None:
        recording.save(record)
        _fact("recorded", f"{record} ({record.stat().st_size:,} bytes)")
    if failed:
        _fail(f"verify: {len(failed)} of {len(verdicts)} layers disagree, first {failed[0].name!r}", 1)


@app.command()
@_guarded
def warmup() -> None:
    """Compile all kernels ahead, so that no later run waits for them."""
    from .warmup import warmup as compile_all

    done = compile_all()
    kept = f"kept in {done.directory}" if done.directory else "not kept: no cache directory is writable"
    if done.compiled:
        _say(f"{done.compiled} kernels compiled in {done.seconds:.1f} s, {kept}")
    else:
        _say(f"all kernels were compiled already, loaded in {done.seconds:.1f} s, {kept}")


@app.command()
@_guarded
def tune(
    weights: _Weights,
    sizes: Annotated[
        str, typer.Option(metavar="A,B", help="Sizes of image: 224, or 640x480 (width x height).")
    ] = "224",
    batches: Annotated[str, typer.Option(metavar="A,B", help="Images at a time.")] = "1",
    device: _Device = "cuda",
    algorithm: Annotated[_Algorithm, typer.Option(help="How to compute.")] = _Algorithm.auto,
    precision: Annotated[_Precision, typer.Option(help="Of convolutions on a card.")] = _Precision.fp32,
    architecture: _Architecture = None,
) -> None:
    """Measure which kernels are the fastest on a card.

    What is found is kept on disk; networks on a card of that kind go by it from then on.
    """
    from itertools import product

    shapes = [_size("--sizes", size) for size in _words("--sizes", sizes)]
    counts = _numbers("--batches", batches)
    net = _load(weights, architecture, device, algorithm, None, precision)
    rows = []
    with _progress("convolutions measured", None) as advance:
        for (height, width), count in product(shapes, counts):
            rows += net.tune((count, height, width), seen=lambda row: advance())
    if not rows:
        _say("all of it was measured already")
        return
    _table(
        ("convolution", "us as expected", "us", "kernel"),
        (
            (row.convolution, f"{row.expected_seconds * 1e6:.1f}", f"{row.best_seconds * 1e6:.1f}", row.best)
            for row in rows
        ),
        "lrrl",
    )
    _say()
    expected, best = (sum(getattr(row, f"{name}_seconds") for row in rows) for name in ("expected", "best"))
    _fact("measured", f"{len(rows)} convolutions: {best * 1e3:.3f} ms; as expected to be best {expected * 1e3:.3f} ms")


@app.command()
@_guarded
def bench(
    networks: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Networks, with seeded random weights; else matterport/resnet50."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="Measure this Keras file (.h5) instead.")
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="A,B", help="Sizes of image: 224, or 640x480 (width x height).")
    ] = "224",
    batches: Annotated[str, typer.Option(metavar="A,B", help="Images at a time.")] = "1",
    threads: Annotated[str | None, typer.Option(metavar="A,B", help="Threads; else 1 and all processors.")] = None,
    engines: Annotated[
        str | None, typer.Option(metavar="A,B", help="onnxruntime, openvino, tensorflow, pytorch, ncnn; else all.")
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="How often each engine has its turn.", min=1)] = 5,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep every sample as JSON.")] = None,
) -> None:
    """Time this engine beside every engine that is installed. Results are compared first, engines take turns.

    Exit status 1 if an engine fails or disagrees, or one that --engines names is not installed.
    """
    import json
    import tempfile
    from itertools import product

    from . import benchmark
    from .files import replaced
    from .kernels.threads import available_threads
    from .machine import describe
    from .weights import load_weights

    if out is not None:
        check_writable(out)
    chosen = benchmark.ENGINES if engines is None else _words("--engines", engines, benchmark.ENGINES)
    counts = sorted({1, available_threads()}) if threads is None else _numbers("--threads", threads)
    shapes = [_size("--sizes", size) for size in _words("--sizes", sizes)]
    if weights is None:
        names = [benchmark.full_name(name) for name in _words("--networks", networks or "matterport/resnet50")]
    elif networks is None:
        names = [load_weights(weights).architecture.name]
    else:
        raise UsageError(
            f"--networks: got {networks!r} beside --weights, whose network is in the file; give one of them"
        )
    batch_sizes = _numbers("--batches", batches)
    cases = [
        benchmark.Case(name, (n, *shape), count)
        for name, shape, n, count in product(names, shapes, batch_sizes, counts)
    ]
    _fact("machine", describe())
    results = []
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder, _Watched() as watcher:
        for case in cases:
            watcher.note(str(case))
            watcher.doing("writing weights")
            file = weights or benchmark.weight_file(case.network, Path(folder))
            results.append(benchmark.measure(case, file, chosen, rounds=rounds, watcher=watcher))
    for case, result in zip(cases, results, strict=True):
        _say()
        _print_engines(str(case), result["engines"])
    _say()
    _print_settings(results)
    if out is not None:
        with replaced(out) as temporary:
            temporary.write_text(json.dumps({"machine": describe(), "cases": results}, indent=1) + "\n")
        _fact("saved", str(out))
    accepted = ("ok",) if engines is not None else ("ok", "missing")
    failed = [found for result in results for found in result["engines"].values() if found["status"] not in accepted]
    if failed:
        names = sorted({found["title"] for found in failed})
        _fail(f"bench: {len(failed)} of the measurements failed ({', '.join(names)}); see above", 1)


class _Watched:
    """What a benchmark does, on standard error: lines that stay, and on a terminal one that changes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("starting")

    def __enter__(self) -> _Watched:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def note(self, text: str) -> None:
        self._console.print(_printable(text), markup=False, soft_wrap=True)

    def doing(self, text: str) -> None:
        self._status.update(escape(_printable(text)))


def _words(option: str, text: str, allowed: Sequence[str] | None = None) -> list[str]:
    """The parts of "a,b". Raises UsageError for none, and for one that is not allowed."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if allowed is not None and word not in allowed:
            raise UsageError(f"{option}: got {word!r}; it must be one of {', '.join(allowed)}")
    if not words:
        raise UsageError(f"{option}: got {text!r}, which names nothing; give one or more, separated by commas")
    return list(dict.fromkeys(words))


def _numbers(option: str, text: str) -> list[int]:
    """The whole numbers of "1,2". Raises UsageError for anything else."""
    words = _words(option, text)
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 10000 for word in words):
        raise UsageError(f"{option}: got {text!r}; it must be whole numbers of at least 1, separated by commas")
    return [int(word) for word in words]


def _size(option: str, text: str) -> tuple[int, int]:
    """(height, width) of "224" or "640x480", which is width x height. Raises UsageError for anything else."""
    try:
        width, height = _numbers(option, text.replace("x", ",")) * (1 if "x" in text else 2)
    except (UsageError, ValueError):
        raise UsageError(
            f"{option}: got {text!r}; it must be pixels, such as 224, or 640x480 (width x height)"
        ) from None
    return height, width


def _print_engines(title: str, engines: Mapping[str, Mapping[str, Any]]) -> None:
    """One case's table, fastest engine first, and below it what was chosen for it, or why it has no time."""
    ours = engines["npresnet"].get("median")
    ranked = sorted(engines.values(), key=lambda found: found.get("median", float("inf")))
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("engine", "median ms", "min", "quartiles", "ratio", "error", "peak MB"):
        table.add_column(heading, justify="left" if heading == "engine" else "right", no_wrap=True)
    for found in ranked:
        if found["status"] == "ok":
            low, high = found["quartiles"]
            table.add_row(
                found["title"],
                f"{found['median'] * 1e3:.1f}",
                f"{found['min'] * 1e3:.1f}",
                f"{low * 1e3:.1f}-{high * 1e3:.1f}",
                f"{found['median'] / ours:.2f}" if ours else "",
                f"{found['error']:.1e}" if found["error"] else "",
                f"{found['peak_bytes'] / 1e6:.0f}",
            )
        else:
            table.add_row(found["title"], found["status"])
    Console(highlight=False).print(table)
    for found in ranked:
        remark = found.get("chosen") if found["status"] == "ok" else found["reason"]
        if remark:
            _fact(found["title"], remark)


def _print_settings(results: Sequence[Mapping[str, Any]]) -> None:
    """How each engine was set, the same in all cases, and what the tables' columns mean."""
    engines = (found for result in results for found in result["engines"].values() if found["status"] == "ok")
    settings = {found["title"]: f"{found['version']}; {found['settings']}" for found in engines}
    for title, text in settings.items():
        _fact(title, text)
    _fact("precision", "float32; all make C1 to C5, and class probabilities where there is a classifier")
    _fact("ratio", "median time over npresnet's")
    _fact("error", "largest relative difference from npresnet's outputs")
