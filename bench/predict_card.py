"""What a model expects of a card, layer by layer, and what the compiler made of the kernels: no card is needed.

    python -m bench.predict_card      writes the tables into kernels/TUNING.md

The model is the one that chooses tiles (``npresnet/cuda/choice.py``); its card is an H100 SXM by its data sheet. Its
figures are expectations, to be held against measurements, and stand in the documentation as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import table
from npresnet.cuda import choice as model
from npresnet.cuda.by_plan import convolution_of, fused_nodes, pooled_stems, stem_of
from npresnet.cuda.choice import Apart, Choice, StemChoice
from npresnet.files.safe_write import replaced
from npresnet.peers.case import standard_graph
from npresnet.plan.fusion import FusedConv, FusedDense

if TYPE_CHECKING:
    from npresnet.kernels.cuda.assembly import Assembly

DOCUMENT = Path(__file__).parents[1] / "kernels" / "TUNING.md"

SMS, HERTZ = 132, 1.755e9
PEAK = {"fp32": 2 * 128 * SMS * HERTZ, "tf32": 2 * 1024 * SMS * HERTZ}
"""FLOP per second: of multiply-adds, and of tensor cores by the data sheet, which only newer instructions reach."""

WAYS = ("fp32", "3xtf32", "tf32", "tf32, wgmma")
"""Precisions; and tf32 where ``wgmma`` may be used beside ``mma``."""

NETWORKS = (
    ("keras.applications/resnet50", (224, 224), 1),
    ("keras.applications/resnet50", (224, 224), 8),
    ("keras.applications/resnet50", (224, 224), 64),
    ("keras.applications/resnet50", (224, 224), 256),
    ("matterport/resnet101", (1024, 1024), 1),
    ("matterport/resnet101", (1024, 1024), 8),
)


def convolutions(
    network: str, size: tuple[int, int], n: int, way: str
) -> Iterator[tuple[str, Any, Choice | StemChoice | Apart]]:
    """(layer, sizes, choice) of each convolution of a network; that of a stem has its pool within. ``way``: one of ``WAYS``."""
    precision, _, by = way.partition(", ")
    graph = standard_graph(network)
    outputs = [*graph.features.values(), *([graph.classifier] if graph.classifier else [])]
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(*size, outputs)
    nodes = fused_nodes(layers, outputs, shapes)
    pools = pooled_stems(nodes, outputs)
    for node in nodes:
        if isinstance(node, FusedConv | FusedDense):
            sizes = convolution_of(node, n, shapes)
            choice = model.convolutions(SMS, sizes, precision, True, by == "wgmma")[0]
            stem = None
            if isinstance(node, FusedConv) and node.output in pools:
                stem = model.stems(SMS, stem_of(node, pools[node.output], n, shapes), sizes, choice)[0]
            yield node.leader, sizes._replace(ci=3) if isinstance(stem, StemChoice) else sizes, stem or choice


def layers(network: str, size: tuple[int, int], n: int, way: str) -> str:
    """One row for each shape of convolution in a network."""
    rows: dict[Any, list[Any]] = {}
    for name, sizes, choice in convolutions(network, size, n, way):
        key = sizes._replace(top=0, left=0)
        rows.setdefault(key, [name, sizes, choice, 0])[3] += 1
    lines = []
    for name, sizes, choice, count in rows.values():
        seconds = choice.prediction.cycles / HERTZ
        flop = 2 * sizes.rows * sizes.co * sizes.depth
        lines.append([
            f"`{name}`", str(count), f"{sizes.rows}x{sizes.co}x{sizes.depth}", str(choice), f"{seconds * 1e6:.1f}",
            choice.prediction.limit, f"{flop / seconds / PEAK['fp32' if way == 'fp32' else 'tf32']:.0%}",
        ])  # fmt: skip
    return table(["first layer", "layers", "M x N x K", "tile / parts", "us each", "limit", "of the ceiling"], lines)


def networks() -> str:
    """The sum over the convolutions of whole networks, in every precision."""
    lines = []
    for network, size, n in NETWORKS:
        cells = []
        for way in WAYS:
            found = list(convolutions(network, size, n, way))
            seconds = sum(choice.prediction.cycles for _, _, choice in found) / HERTZ
            flop = sum(2 * sizes.rows * sizes.co * sizes.depth for _, sizes, _ in found)
            cells += [f"{seconds * 1e3:.2f}", f"{flop / seconds / 1e12:.0f}"]
        lines.append([f"{network}, {size[1]}x{size[0]}, batch {n}", *cells])
    heads = [f"{way} {unit}" for way in WAYS for unit in ("ms", "TFLOP/s")]
    return table(["", *heads], lines)


def counted(tile: Any, made: Assembly) -> tuple[int, str, float]:
    """Products in one turn of a kernel's main loop, the instruction that does them, and all that is issued in it."""
    from npresnet.kernels.cuda.implicit import Tile
    from npresnet.kernels.cuda.tensor import TensorTile
    from npresnet.kernels.cuda.wgmma import WarpgroupTile

    if isinstance(tile, WarpgroupTile):
        return tile.bk // 8, "HGMMA", made.issued(tile.bk // 8, "HGMMA")
    if isinstance(tile, Tile):
        products = tile.tm * tile.tn * tile.bk
        return products, "FFMA", made.issued(products)
    if isinstance(tile, TensorTile):
        products = tile.wm // 16 * (tile.wn // 8) * (tile.bk // 8) * (3 if tile.exact else 1)
        return products, "HMMA", made.issued(products, "HMMA")
    step, row = made.loops()[-2:]  # a stem: 21 rows and channels of the image for a row of the convolution
    return 21 * step.count("FFMA"), "FFMA", 21 * step.total() + row.total() - step.total()


def kernels() -> str:
    """Registers, shared memory, and what is issued in the main loop of every kernel that a plan may choose."""
    from npresnet.kernels.cuda.assembly import assemble
    from npresnet.kernels.cuda.implicit import TILES
    from npresnet.kernels.cuda.occupancy import multiprocessor, resident_warps
    from npresnet.kernels.cuda.stem import STEMS
    from npresnet.kernels.cuda.tensor import TENSOR_TILES
    from npresnet.kernels.cuda.wgmma import WARPGROUP_TILES

    lines = []
    every: list[tuple[Any, Any]] = [
        *STEMS.items(), *TILES.items(), *TENSOR_TILES.items(), *WARPGROUP_TILES.items()
    ]  # fmt: skip
    for tile, kernel in every:
        threads, _ = kernel.bounds
        cells = []
        for capability in ((8, 0), (9, 0)):
            if kernel.only not in (None, capability):
                cells += 4 * ["-"]
                continue
            made, sm = assemble(kernel, capability), multiprocessor(capability)
            assert sm is not None
            products, name, issued = counted(tile, made)
            shared = made.shared + kernel.shared
            needed = products * (tile.bn / 2 if name == "HGMMA" else 8 if name == "HMMA" else 1)
            cells += [
                str(made.registers),
                str(resident_warps(sm, made.registers, threads, shared)),
                f"{products} {name} of {issued:.0f}",
                f"{needed / max(needed, issued):.0%}",
            ]
        lines.append([f"`{kernel.name}`", str(threads), f"{shared / 1024:.0f}", *cells])
    heads = [
        f"{what}, sm_{arch}" for arch in (80, 90) for what in ("registers", "warps per SM", "issued per turn", "share")
    ]
    return table(["kernel", "threads", "shared KB", *heads], lines)


def tables() -> dict[str, str]:
    """{name of a place in the documentation: what belongs there} that needs no compiler."""
    return {
        "predicted layers": "\n\n".join(
            f"keras.applications/resnet50, 224x224, batch {n}, {way}:\n\n"
            + layers("keras.applications/resnet50", (224, 224), n, way)
            for n, way in ((1, "fp32"), (64, "fp32"), (64, "tf32, wgmma"))
        ),
        "predicted networks": networks(),
    }


def main() -> None:
    text = DOCUMENT.read_text()
    for name, made in {**tables(), "compiled kernels": kernels()}.items():
        pattern = re.compile(rf"(<!-- card: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{DOCUMENT}: has no place for the table {name!r}")
        text = pattern.sub(rf"\g<1>{made}\n\g<2>", text)
    with replaced(DOCUMENT) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
