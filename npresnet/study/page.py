"""``study page``: all topics on one page, a single HTML file that needs nothing else: no network, no library, not even scripts for
its tables and first pictures.

The page is made of JSON that it also holds. Every number on it says where in the JSON it is from (``data-key``) and in which form it
is shown (``data-form``), so that a test, or a reader, can check one against the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtraError, UsageError
from ..model import ResNet
from ..results.colours import coloured
from ..version import __version__
from .asm import asm
from .charts import Chart, Strip, memory_chart, roofline_chart, strips
from .errors import TABLES as ERRORS_TABLES
from .errors import ErrorsStudy, errors
from .forms import Grid, at, plain, shown
from .ladder import TABLES as LADDER_TABLES
from .ladder import LadderStudy
from .ladder import of_subject as ladder_of
from .layers import TABLES as LAYERS_TABLES
from .layers import LayersStudy, layers
from .listing import TABLES as ASM_TABLES
from .listing import Listing
from .maps import TABLES as MAPS_TABLES
from .maps import MapsStudy, maps
from .memory import TABLES as MEMORY_TABLES
from .memory import MemoryStudy, memory
from .png import data_uri
from .subject import subject_of
from .warps import CARD_TABLES, CardRecording
from .watch import TABLES as WATCH_TABLES
from .watch import LoopRecording, watch
from .window import TABLES as WINDOW_TABLES
from .window import WindowRegion, WindowStudy, region
from .window import of_subject as window_of
from .winograd import TABLES as WINOGRAD_TABLES
from .winograd import WinogradStudy
from .winograd import of_subject as winograd_of

__all__ = ["About", "Book", "check_extra", "gather", "render"]

Array = npt.NDArray[Any]

_POINTS = ("0, 1, -1", "0, sqrt2/2, -sqrt2/2, sqrt2, -sqrt2", "0, 1, -1, 2, -2")
_WATCHED = ("gemm_naive", "gemm_blocked", "gemm_packed", "im2col", "winograd")
_CARDS = ("gemm_cuda_naive", "gemm_cuda_tiled")


@dataclass(frozen=True)
class About:
    """What the page is of; batch: (n, h, w)."""

    weights: str
    image: str
    architecture: str
    npresnet: str
    batch: tuple[int, int, int]
    timed: bool


@dataclass(frozen=True)
class Charts:
    """The pictures' coordinates; range: the errors that the palest and the fullest shade of a strip stand for."""

    roofline: Chart | None
    memory: Chart
    strips: list[Strip]
    range: tuple[float, float]


@dataclass(frozen=True)
class Book:
    """All that the page shows. Topics that cannot be shown of this network or on this machine are None or empty; ``without`` says
    which, and why."""

    about: About
    layers: LayersStudy
    window: WindowStudy
    region: WindowRegion
    ladder: LadderStudy
    errors: ErrorsStudy
    winograd: list[WinogradStudy]
    memory: MemoryStudy
    maps: MapsStudy
    watch: list[LoopRecording]
    cards: list[CardRecording]
    asm: list[Listing]
    charts: Charts
    without: dict[str, str]


def check_extra() -> None:
    """Raise MissingExtraError without jinja2: to be known before everything is studied, not after it."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            'the page needs jinja2, which is not installed: pip install "npresnet[study]"'
        ) from None


def gather(
    net: ResNet,
    images: Array,
    weights: str,
    image: str,
    layer: str | None = None,
    mine: str | None = None,
    timing: bool = True,
    seen: Callable[[str], None] = lambda topic: None,
) -> Book:
    """Study ``net`` for the first of ``images``: everything that is on the page.

    weights, image  their names, to be shown
    layer           the convolution for what is of one; None: the 3x3 that costs the most
    mine            the learner's own, as for ``ladder``
    timing          without, the same file and picture give the same page
    seen            is called with the name of each topic before it begins

    Raises UsageError as the topics do.
    """
    image_array = images[:1]
    batch = (1, image_array.shape[1], image_array.shape[2])
    without: dict[str, str] = {}
    seen("layers")
    table = layers(net, image_array, timing)
    seen("window")
    subject = subject_of(net, image_array, layer)
    output = net(image_array, outputs=[subject.layer])[subject.layer][0]
    one = window_of(subject, output, None)
    part = region(subject, output, one.at[2])
    seen("ladder")
    ladder = ladder_of(subject, mine=mine, timing=timing)
    seen("errors")
    precision = errors(net, image_array, layer)
    seen("winograd")
    studies = []
    if subject.winograd:
        short = subject.shortened(4e8)
        studies = [winograd_of(short, points=points) for points in _POINTS]
    else:
        without["winograd"] = f"{subject.layer} is no 3x3 convolution with stride 1 and a border of one pixel"
    seen("memory")
    room = memory(net, batch)
    seen("maps")
    sheets = maps(net, image_array)
    seen("watch")
    recordings = [found for found in map(watch, _WATCHED) if isinstance(found, LoopRecording)]
    cards = []
    try:
        cards = [found for found in map(watch, _CARDS) if isinstance(found, CardRecording)]
    except MissingExtraError as error:
        without["cards"] = str(error)
    seen("asm")
    listings = []
    try:
        listings = [asm(kernel) for kernel in ("tile", "gemm_blocked")]
    except UsageError as error:
        without["asm"] = str(error)
    about = About(weights, image, str(net.architecture), __version__, batch, timing)
    charts = Charts(roofline_chart(table), memory_chart(room), *strips(precision))
    return Book(
        about, table, one, part, ladder, precision, studies, room, sheets, recordings, cards, listings, charts, without
    )  # fmt: skip


def _photo(image: Array) -> str:
    """The prepared image, each channel stretched to all brightnesses: what the network is fed."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    scaled = (image - low) / np.where(high > low, high - low, 1) * 255
    pixels = np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)
    if pixels.shape[2] != 3:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    return data_uri(pixels)


def _sheet_pictures(study: MapsStudy) -> list[list[str]]:
    """Each channel of each sheet as a picture."""
    return [
        [data_uri(coloured(np.asarray(channel.thumbnail), sheet.low, sheet.high)) for channel in sheet.channels]
        for sheet in study.sheets
    ]


def render(book: Book, image: Array) -> str:
    """The page as HTML. image: float32[h, w, c], prepared. Raises MissingExtraError without jinja2."""
    check_extra()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    data = plain(book)

    def show(key: str, form: str = "text") -> Any:
        """A value of the JSON, with its place in it."""
        text = shown(form, at(data, key))
        return Markup('<span data-key="{}" data-form="{}">{}</span>').format(key, form, text)

    def table(grid: Grid, prefix: str) -> dict[str, Any]:
        part = at(data, prefix)
        grid = grid.filled(part)
        rows = [[replace(cell, key=f"{prefix}.{cell.key}") for cell in row] for row in grid.cells(part)]
        return {"columns": grid.headings(), "rows": rows, "caption": grid.caption}

    environment = Environment(
        loader=PackageLoader("npresnet.study", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals.update(show=show, table=table, code=lambda text: Markup(_highlighted(text, escape)))
    folder = Path(__file__).parent / "templates"
    return environment.get_template("page.html").render(
        data=data,
        grids={
            "layers": LAYERS_TABLES, "window": WINDOW_TABLES, "ladder": LADDER_TABLES, "errors": ERRORS_TABLES,
            "winograd": WINOGRAD_TABLES, "memory": MEMORY_TABLES, "maps": MAPS_TABLES, "watch": WATCH_TABLES,
            "cards": CARD_TABLES, "asm": ASM_TABLES,
        },
        style=Markup((folder / "style.css").read_text()),
        script=Markup((folder / "script.js").read_text()),
        embedded=Markup(_embedded(data)),
        photo=_photo(image),
        pictures=_sheet_pictures(book.maps),
    )  # fmt: skip


def _embedded(data: Any) -> str:
    """JSON that may stand within a script element: no name in it can end that."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _highlighted(text: str, escape: Callable[[str], Any]) -> str:
    """Python, with a class for each kind of word."""
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:
        return str(escape(text))
    return str(highlight(text, PythonLexer(), HtmlFormatter(nowrap=True, classprefix="p-")))
