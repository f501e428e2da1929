"""``npresnet study TOPIC``: convolution on one's own network. A thin layer over ``npresnet.study``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..data.photograph import photograph
from ..errors import UsageError
from ..files.safe_write import check_writable, replaced
from ..peers.engines import PEERS
from ..study.forms import plain
from .demo import demo_weights
from .options import ThreadsOption, parse_counts, parse_words
from .printing import counted, fact, fail, progress, shape_text
from .topics import (
    ImageArgument,
    JsonOption,
    LayerOption,
    SizeOption,
    TimingOption,
    WeightsArgument,
    keep,
    opened,
    printable_lines,
    show,
    studied,
)

if TYPE_CHECKING:
    from ..verify.recording import Recording

__all__ = ["study"]

study = typer.Typer(
    help="Study convolution on your own network, idea by idea.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


@study.command()
@studied
def layers(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    size: SizeOption = None,
    threads: ThreadsOption = None,
    timing: TimingOption = True,
    json_file: JsonOption = None,
) -> None:
    """The network as a table: cost, algorithm, time, receptive field."""
    from ..study import layers as topic
    from ..study.layers import TABLES

    net, images = opened(weights, image, size, threads, json_file)
    with progress("runs", None):
        found = topic(net, images, timing)
    data = plain(found)
    show(TABLES, data)
    fact("all", f"{found.total_mac / 1e9:.3f} GMAC for one image, {found.weights:,} weights")
    if found.run and found.ceilings:
        fact(
            "a run",
            f"{found.run.seconds * 1e3:.2f} ms, the middle of {found.run.repeats}, on {found.ceilings.threads} threads",
        )
        roof = found.ceilings
        fact("ceilings", f"{roof.peak / 1e9:.0f} GFLOP/s, {roof.bandwidth / 1e9:.1f} GB/s ({roof.how})")
        fact("machine", roof.machine)
    keep(json_file, "layers", data)


@study.command()
@studied
def window(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    layer: LayerOption = None,
    at: Annotated[str | None, typer.Option(metavar="OH,OW,CO", help="Which output; else one in the middle.")] = None,
    size: SizeOption = None,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """One output of a convolution, number by number."""
    from ..study import window as topic
    from ..study.window import TABLES

    place = None if at is None else _place(at)
    net, images = opened(weights, image, size, threads, json_file)
    found = topic(net, images, layer, place)
    data = plain(found)
    oh, ow, co = found.at
    fact("layer", f"{found.layer}, {shape_text(found.shape_in)} to {shape_text(found.shape_out)}")
    fact("output", f"row {oh}, column {ow}, channel {co}")
    show(TABLES, data)
    fact("sum", f"{found.total - found.bias:.7g} of all products, and a bias of {found.bias:.7g}: {found.total:.7g}")
    fact("the engine", f"{found.engine:.7g}")
    matrix = f"{found.matrix[0]:,} x {found.matrix[1]:,} numbers, {found.matrix_bytes / 1e6:.2f} MB"
    copied = "no copy is needed: the map is that matrix" if found.no_copy else f"{found.blow_up:.2f} times the map"
    fact("im2col", f"{matrix}, {copied}; this output is made of row {found.row}")
    keep(json_file, "window", data)


def _place(text: str) -> tuple[int, int, int]:
    words = text.split(",")
    if len(words) != 3 or not all(word.strip().isdecimal() for word in words):
        raise UsageError(f"--at: got {text!r}; it must be row, column and channel of an output, such as 0,0,5")
    row, column, channel = map(int, words)
    return row, column, channel


@study.command()
@studied
def winograd(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    layer: LayerOption = None,
    tile: Annotated[int, typer.Option(metavar="M", help="Outputs per tile in each direction: 2 or 4.")] = 4,
    points: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Other points: 0,1,-1,2,-2 or sqrt2, 1/2.")
    ] = None,
    size: SizeOption = None,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Winograd's matrices, exact, the proof, a tile, the error."""
    from ..study import winograd as topic
    from ..study.winograd import TABLES

    net, images = opened(weights, image, size, threads, json_file)
    found = topic(net, images, layer, tile, points)
    data = plain(found)
    few, many = found.multiplications
    fact("layer", f"{found.layer}, F({found.m}x{found.m},3x3), points {found.points} and infinity")
    for name, matrix in (("A^T", found.at), ("G", found.g), ("B^T", found.bt)):
        for number, row in enumerate(matrix):
            fact("" if number else name, "  ".join(f"{value:>6}" for value in row))
    fact(
        "proof",
        f"{'all' if found.identity else 'NOT all'} {found.identities} numbers of the identity are what they must be",
    )
    fact(
        "saves",
        f"{few} multiplications in place of {many} per tile; transformed kernels are {found.kernels_growth:.2f} times as large",
    )
    steps = found.tile
    fact("a tile", f"rows from {steps.row}, columns from {steps.column}, channel {steps.channel} to {steps.co}")
    numbers = {
        "d": steps.d,
        "B^T d B": steps.v,
        "G g G^T": steps.u,
        "product": steps.products,
        "Y": steps.y,
        "direct": steps.direct,
    }
    for name, array in numbers.items():
        for number, values in enumerate(array):
            fact("" if number else name, " ".join(f"{value:>9.4g}" for value in values))
    show(TABLES, data)
    keep(json_file, "winograd", data)


@study.command()
@studied
def errors(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    layer: LayerOption = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ORACLE", help="tensorflow, or a recording of it (.npz) with its own image: shown beside."
        ),
    ] = None,
    size: SizeOption = None,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """What each algorithm costs in accuracy, beside float64."""
    from ..study import errors as topic
    from ..study.errors import TABLES
    from ..verify.recording import Recording

    path = weights or demo_weights()[0]
    recording: Recording | None = None
    if against not in (None, "tensorflow"):
        if image is not None or size is not None:
            raise UsageError(
                "--against: a recording has an image of its own; leave out IMAGE and --size, or record that one"
            )
        recording = Recording.open(against)
        recording.check(path)
        if len(recording.images) != 1:
            raise UsageError(f"--against: {against} is of {len(recording.images)} images; errors are measured on one")
    net, images = opened(weights, image, size, threads, json_file, recording)
    if against == "tensorflow":
        from ..verify.rows import against_tensorflow

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's remarks about itself
        recording = Recording(path, images, against)
        list(counted(against_tensorflow(net, path, images, recording), "layers by TensorFlow", len(net.layers) - 1))
    with progress("layers in float64", None):
        found = topic(net, images, layer, recording)
    data = plain(found)
    show(TABLES, data)
    fact("NaN", f"put into {found.spread_layer}")
    if found.problem:
        fact("note", found.problem)
    keep(json_file, "errors", data)


@study.command()
@studied
def ladder(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    layer: LayerOption = None,
    rungs: Annotated[str | None, typer.Option(metavar="A,B", help="Some versions only.")] = None,
    mine: Annotated[
        str | None, typer.Option(metavar="FILE.py:FUNCTION", help="Your own convolution beside them.")
    ] = None,
    tile: Annotated[
        str | None, typer.Option(metavar="6x64,...", help="Other tiles of sums for the micro-kernel.")
    ] = None,
    engines: Annotated[
        str | None, typer.Option(metavar="A,B", help="Other engines beside them: onnxruntime, ...")
    ] = None,
    threads: Annotated[str, typer.Option(metavar="A,B", help="Threads; one turn for each number.")] = "1",
    size: SizeOption = None,
    timing: TimingOption = True,
    sources: Annotated[bool, typer.Option("--sources", help="Print the loops, too.")] = False,
    json_file: JsonOption = None,
) -> None:
    """One convolution by every version, and what each idea bought.

    Your own is called as conv(x, w, bias, stride=1, padding="same"), arrays of float32, NHWC and HWIO, bias perhaps None, padding "same"
    or "valid", and must return float32[n, h, w, c]. It is checked before it is timed; exit status 1 if it, or any version, disagrees.
    """
    from ..study import ladder as topic
    from ..study.ladder import TABLES

    counts = parse_counts("--threads", threads)
    names = None if rungs is None else parse_words("--rungs", rungs)
    tiles = [] if tile is None else parse_words("--tile", tile)
    others = [] if engines is None else parse_words("--engines", engines, list(PEERS))
    net, images = opened(weights, image, size, max(counts), json_file)
    with progress("versions", None):
        found = topic(net, images, layer, names, mine, counts, timing, tiles=tiles, engines=others)
    data = plain(found)
    fact(
        "layer",
        f"{found.layer}: x {shape_text(found.shape)}, kernels {shape_text(found.kernels)}, stride {found.stride[0]}",
    )
    show(TABLES, data)
    for row in found.rows:
        fact(row.name, row.problem or row.idea)
        if sources and row.source:
            print(printable_lines(row.source))
    if found.ceilings:
        fact("machine", found.ceilings.machine)
    keep(json_file, "ladder", data)
    if found.problems:
        fail(f"ladder: {found.problems[0]}", 1)


@study.command()
@studied
def maps(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    layers: Annotated[str | None, typer.Option(metavar="A,B", help="C1 to C5, or names of layers.")] = None,
    size: SizeOption = None,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Feature maps: what is alive, and how many pixels a cell sees."""
    from ..study import maps as topic
    from ..study.maps import TABLES

    names = None if layers is None else parse_words("--layers", layers)
    net, images = opened(weights, image, size, threads, json_file)
    found = topic(net, images, names)
    data = plain(found)
    show(TABLES, data)
    for sheet in found.sheets:
        best = ", ".join(str(channel.channel) for channel in sheet.channels[:8])
        fact(sheet.feature or sheet.layer, f"most energy in channels {best}")
    keep(json_file, "maps", data)


@study.command()
@studied
def memory(
    weights: WeightsArgument = None,
    size: SizeOption = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one run as a timeline for Perfetto.")
    ] = None,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Who lies where in memory, and how long."""
    from ..study import memory as topic
    from ..study import write_trace
    from ..study.memory import TABLES

    if trace is not None:
        check_writable(trace)
    net, images = opened(weights, None, size, threads, json_file)
    found = topic(net, (1, *images.shape[1:3]))
    data = plain(found)
    show(TABLES, data)
    fact(
        "reuse",
        f"{found.sum_bytes / 1e6:.2f} MB of activations in an arena of {found.arena_bytes / 1e6:.2f} MB, and in outputs that are not "
        f"written yet; at no step are more than {found.peak_bytes / 1e6:.2f} MB needed at once",
    )
    fact("all", f"{found.total_bytes / 1e6:.1f} MB, and what Python and the libraries take")
    if trace is not None:
        write_trace(trace, net, images)
        fact("saved", f"{trace} (open it at https://ui.perfetto.dev or chrome://tracing)")
    keep(json_file, "memory", data)


@study.command()
@studied
def watch(
    kernel: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="gemm_naive, gemm_blocked, gemm_packed, im2col, winograd, gemm_cuda_tiled, ..."
        ),
    ] = "gemm_blocked",
    l1: Annotated[int, typer.Option(metavar="BYTES", help="Of the simulated L1, 4 ways.")] = 1024,
    l2: Annotated[int, typer.Option(metavar="BYTES", help="Of the simulated L2.")] = 4096,
    json_file: JsonOption = None,
) -> None:
    """A kernel's loop, access by access; a card's, lane by lane."""
    from ..study import watch as topic
    from ..study.watch import LoopRecording, tables_of

    if json_file is not None:
        check_writable(json_file)
    found = topic(kernel, l1, l2)
    data = plain(found)
    fact("kernel", f"{found.kernel}: {found.idea}")
    print(printable_lines(found.source))
    show(tables_of(found), data)
    if isinstance(found, LoopRecording):
        constants = ", ".join(f"{name} = {value}" for name, value in found.constants.items())
        fact("recorded", f"{found.total:,} accesses" + (f"; smaller here: {constants}" if constants else ""))
        fact("in pieces", f"{found.piece_count:,}, each {found.piece}")
    else:
        m, k, n = found.shape
        fact(
            "recorded",
            f"M x K x N = {m}x{k}x{n}; {found.loads_per_product:.3f} numbers from device memory per multiply-add",
        )
    fact("result", "the same bits as the kernel's" if found.exact else "NOT the kernel's")
    keep(json_file, "watch", data)
    if not found.exact:
        fail("watch: what was recorded does not compute what the kernel does", 1)


@study.command()
@studied
def asm(
    kernel: Annotated[
        str, typer.Option(metavar="NAME", help="tile, gemm_naive, gemm_blocked, conv2d_direct; gemm_cuda_tiled, ...")
    ] = "tile",
    width: Annotated[
        str | None, typer.Option(metavar="NAME", help="sse, avx2 or avx512; else this processor's.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    arch: Annotated[str, typer.Option(metavar="NAME", help="Of a card: sm_80, sm_90.")] = "sm_90",
    ptx: Annotated[bool, typer.Option("--ptx", help="Of a card: PTX; else its machine code.")] = False,
    json_file: JsonOption = None,
) -> None:
    """The innermost loop as the machine runs it, beside its Python."""
    from ..study import asm as topic
    from ..study.listing import TABLES

    if json_file is not None:
        check_writable(json_file)
    found = topic(kernel, width, device, arch, ptx)
    data = plain(found)
    fact("kernel", f"{found.kernel} for {found.target}: {found.idea}")
    show(TABLES, data)
    each = "" if found.fma_per_load is None else f", {found.fma_per_load:.2f} FMA per read of memory"
    fact("a turn", f"{found.fma} FMA, {found.flop} FLOP{each}")
    fact(
        "registers",
        f"{found.registers} of {found.available}"
        + (f"; room for {found.warps} warps of {found.most_warps}" if found.warps else ""),
    )
    fact("verdict", found.verdict)
    if not found.mapped:
        fact("lines", "not shown: asked for line numbers, the compiler makes another loop")
    keep(json_file, "asm", data)


@study.command()
@studied
def page(
    weights: WeightsArgument = None,
    image: ImageArgument = None,
    layer: LayerOption = None,
    mine: Annotated[
        str | None, typer.Option(metavar="FILE.py:FUNCTION", help="Your own convolution on the ladder.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("study.html"),
    size: SizeOption = None,
    threads: ThreadsOption = None,
    timing: TimingOption = True,
    json_file: JsonOption = None,
) -> None:
    """All topics on one page, a single HTML file."""
    from ..study.page import check_extra, gather, render

    check_extra()
    check_writable(out)
    net, images = opened(weights, image, size, threads, json_file)
    with progress("topics", 9) as advance:
        book = gather(
            net,
            images,
            (weights or demo_weights()[0]).name,
            (image or photograph()).name,
            layer,
            mine,
            timing,
            lambda topic: advance(),
        )
    text = render(book, images[0])
    with replaced(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    fact("saved", f"{out} ({len(text.encode()) / 1e6:.2f} MB, one file; open it in a browser)")
    keep(json_file, "page", plain(book))
    if book.ladder.problems:
        fail(f"ladder: {book.ladder.problems[0]}", 1)
