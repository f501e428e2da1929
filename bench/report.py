"""From ``bench/results/*.json`` to the tables and pictures of the documentation: no figure there is typed by hand.

    python -m bench.report            write the tables into the documents of ``DOCUMENTS``, and draw the pictures
    python -m bench.report --check    exit status 1 if a table there is not what the results say

A table stands between two markers, ``<!-- table: engines -->`` and ``<!-- end -->``. Pictures need matplotlib (extra
``bench``), tables need nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import store

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "kernels" / "README.md",
    ROOT / "kernels" / "TUNING.md",
    ROOT / "docs" / "extract.md",
)

_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _label(case: Mapping[str, Any]) -> str:
    n, h, w = case["batch"]
    return f"{case['network']}, {w}x{h}, batch {n}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _number(value: float) -> str:
    """Three digits that count: 0.123, 1.23, 12.3, 123, 1234."""
    return f"{value:.{max(0, 2 - len(str(int(value))) + 1) if value >= 1 else 3}f}"


# Tables ---------------------------------------------------------------------------------------------------------------


def _engine_names(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """All engines that have a time in one of the cases, ours first."""
    names = dict.fromkeys(name for case in cases for name, e in case["engines"].items() if e["status"] == "ok")
    return sorted(names, key=lambda name: name != "npresnet")


def engines(cases: Mapping[str, Any]) -> str:
    """Milliseconds per image and peak memory of every engine; below, how each was set."""
    names = _engine_names(cases.values())
    titles = {name: e["title"] for case in cases.values() for name, e in case["engines"].items()}

    def row(case: Mapping[str, Any], figure: str, unit: float) -> list[str]:
        found = {name: e[figure] * unit for name, e in case["engines"].items() if e["status"] == "ok"}
        least = min(found.values(), default=0.0)
        cells = [_number(found[name]) if name in found else "-" for name in names]
        bold = [f"**{c}**" if found.get(name) == least else c for name, c in zip(names, cells, strict=True)]
        return [f"{_label(case)}, {_threads(case['threads'])}", *bold]

    times, memory = [], []
    for case in cases.values():
        n = case["batch"][0]
        peers = [e["median"] for name, e in case["engines"].items() if e["status"] == "ok" and name != "npresnet"]
        ours = case["engines"]["npresnet"].get("median")
        ratio = f"{min(peers) / ours:.2f}" if peers and ours else "-"
        times.append([*row(case, "median", 1e3 / n), ratio])
        memory.append(row(case, "peak_bytes", 1e-6))
    settings: dict[str, str] = {}
    for case in cases.values():
        for name, e in case["engines"].items():
            if e["status"] == "ok":
                settings.setdefault(name, f"{e['title']} {e['version']}: {e['settings']}")
    engines = [e for case in cases.values() for e in case["engines"].values()]
    error = max((e.get("error", 0.0) for e in engines if e["status"] == "ok"), default=0.0)
    apart = {
        e["title"]: e["error"] for e in sorted(engines, key=lambda e: e.get("error", 0.0)) if e["status"] == "disagrees"
    }
    untimed = "".join(f"{title} differs by {most:.1e}, and was not timed. " for title, most in apart.items())
    return "\n\n".join(
        [
            "Milliseconds per image, median; the last column is the fastest other engine's time over npresnet's.",
            table(["", *(titles[name] for name in names), "ratio"], times),
            "Peak memory of the process while running, MB:",
            table(["", *(titles[name] for name in names)], memory),
            "All in float32, all five feature maps (and the classifier where there is one) as outputs, compared with "
            f"npresnet's before anything was timed: largest relative difference {error:.1e}. {untimed}"
            + "; ".join(settings[name] for name in names)
            + ".",
        ]
    )


def layers(cases: Mapping[str, Any]) -> str:
    """Time and speed of each algorithm within a network."""
    parts = []
    for case in cases.values():
        total = sum(step["seconds"] for step in case["steps"])
        rows = []
        for algorithm in dict.fromkeys(step["algorithm"] for step in case["steps"]):
            steps = [step for step in case["steps"] if step["algorithm"] == algorithm]
            seconds, flop = sum(s["seconds"] for s in steps), sum(s["flop"] for s in steps)
            rows.append(_share(algorithm, len(steps), seconds, total, flop, case["peak"]))
        everything = sum(step["flop"] for step in case["steps"])
        rows.append(_share("all", len(case["steps"]), total, total, everything, case["peak"]))
        parts.append(
            f"{_label(case)}, {_threads(case['threads'])}; FMA peak {case['peak'] / 1e9:.0f} GFLOP/s:\n\n"
            + table(["algorithm", "steps", "ms", "share", "GFLOP/s", "of peak"], rows)
        )
    return "\n\n".join(parts)


def _share(name: str, count: int, seconds: float, total: float, flop: float, peak: float) -> list[str]:
    speed = flop / seconds
    return [
        name, str(count), _number(seconds * 1e3), f"{seconds / total:.0%}", f"{speed / 1e9:.0f}", f"{speed / peak:.0%}"
    ]  # fmt: skip


def ladder(cases: Mapping[str, Any]) -> str:
    """Time and speed of every version of every operator."""
    rows = []
    for case in cases.values():
        before = None
        for name, version in case["versions"].items():
            seconds = version["median"]
            gain = f"{before / seconds:.2g}" if before else ""
            of_peak = f"{case['flop'] / seconds / case['peak']:.0%}" if case["flop"] else ""
            flop = _number(case["flop"] / seconds / 1e9) if case["flop"] else ""
            moved = "" if case["flop"] else _number(case["bytes"] / seconds / 1e9)
            threads = f" ({_threads(case['threads'])})" if case["threads"] > 1 else ""
            rows.append([f"`{name}`{threads}", _number(seconds * 1e3), flop, of_peak, moved, gain])
            before = seconds
    return table(["", "ms", "GFLOP/s", "of peak", "GB/s", "times the one before"], rows)


def scaling(cases: Mapping[str, Any]) -> str:
    """Time and memory by size of image and of batch."""
    parts = []
    for case in cases.values():
        rows = []
        for point in case["points"]:
            n, h, w = point["batch"]
            rows.append(
                [
                    f"{n} x {w}x{h}",
                    _number(point["median"] * 1e3),
                    _number(n * h * w / point["median"] / 1e6),
                    _number(point["peak_bytes"] / 1e6),
                ]
            )
        head = f"{case['network']}, {_threads(case['threads'])}:"
        parts.append(f"{head}\n\n" + table(["images", "ms", "Mpixel/s", "peak MB"], rows))
    return "\n\n".join(parts)


def startup(cases: Mapping[str, Any]) -> str:
    """Seconds from nothing to the first features."""
    parts = []
    for case in cases.values():
        rows = [
            [way, *(f"{part[k]:.2f}" for k in ("import", "load", "first", "whole"))]
            for way, part in case["medians"].items()
        ]
        head = f"{case['network']}, {case['size']}x{case['size']}, {_threads(case['threads'])}; seconds, median:"
        columns = ["", "import", "load", "first features", "whole process"]
        parts.append(f"{head}\n\n{table(columns, rows)}")
    return "\n\n".join(parts)


def extract(cases: Mapping[str, Any]) -> str:
    """Images per second from JPEGs to rows, beside the network alone."""
    parts = []
    for case in cases.values():
        rows = []
        for point in case["points"]:
            alone = point["per_second"]["alone"]
            for way, speed in point["per_second"].items():
                share = "" if way == "alone" else f"{speed / alone:.0%}"
                pictures = f"{point['count']} of {point['size']}, {_number(point['bytes'] / 1000)} kB"
                rows.append(
                    [
                        "" if way != "alone" else pictures,
                        {"alone": "`net(batch)` alone"}.get(way, f"`{way}`"),
                        _number(speed),
                        share,
                    ]
                )
        parts.append(
            f"{case['network']}, 224x224, {_threads(case['threads'])}:\n\n"
            + table(["JPEGs", "", "images/s", "of alone"], rows)
        )
        apart = [f"{p['size']}: {p['fast_difference']:.1%}" for p in case["points"] if "fast_difference" in p]
        if apart:
            parts.append(
                f"Features with `--fast-decode` differ from those without by {', '.join(apart)} (L2, relative)."
            )
        parts.append(_billion(case))
    return "\n\n".join(parts)


def _billion(case: Mapping[str, Any]) -> str:
    """What 10^9 images of the first size would take, if nodes of 64 processors did as much per processor."""
    point = case["points"][0]
    speed = point["per_second"]["extract"]
    processors, nodes = 64, 100
    hours = 1e9 / speed / 3600 * case["threads"] / processors / nodes
    return (
        f"10^9 such images of {point['size']}: {1e9 * point['bytes'] / 1e12:.0f} TB to read, and 8.2 TB of rows of 2048 float32 with 0.15 TB of "
        f"notes to write. This machine does {speed:.1f} images/s, {speed / case['threads']:.1f} for each processor; {nodes} nodes of "
        f"{processors} such processors need {hours:.0f} hours, read {1e9 * point['bytes'] / hours / 3600 / 1e9:.1f} GB/s together, "
        f"and write {8.2e12 / hours / 3600 / 1e9:.2f} GB/s."
    )


def load(cases: Mapping[str, Any]) -> str:
    """Time and memory that a weight file takes."""
    parts = []
    for case in cases.values():
        rows = [
            [
                {"npresnet": "npresnet's reader"}.get(name, name),
                _number(case["import"][name] * 1e3),
                _number(seconds * 1e3),
                _number(case["bytes"] / seconds / 1e9),
            ]
            for name, seconds in case["read"].items()
        ]
        beyond = case["peak"] - case["packed"]
        parts.append(
            f"{case['network']}, a file of {case['bytes'] / 1e6:.0f} MB, medians of {case['rounds']} alternating rounds:"
            f"\n\n{table(['', 'import, ms', 'read, ms', 'GB/s'], rows)}\n\n"
            f"`load` takes {case['load']:.2f} s, packing the weights, which the first call does, {case['pack']:.2f} s with "
            f"{_threads(case['threads'])}. Beyond the packed weights of {case['packed'] / 1e6:.0f} MB that takes at most "
            f"{beyond / 1e6:.0f} MB, {beyond / case['bytes']:.2f} times the file."
        )
    return "\n\n".join(parts)


def _of(cases: Mapping[str, Any], kind: str) -> dict[str, Mapping[str, Any]]:
    """The cases ``kind/...`` of a card that did what they should, by the rest of their names."""
    return {
        key.removeprefix(f"{kind}/"): case
        for key, case in cases.items()
        if key.startswith(f"{kind}/") and case["status"] == "ok"
    }


def _ceilings(cases: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the card can do at best; empty where that was not measured."""
    return cases.get("environment/ceilings", {})


def _timed(cases: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cases of a benchmark in which at least one engine did what it should."""
    return [case for key, case in cases.items() if key.startswith("benchmark/") and _card_times(case)]


def _peer(precision: str) -> str:
    """The precision of PyTorch's that one of npresnet's is to be compared with."""
    return "tf32" if precision == "tf32" else "fp32"


def _card_times(case: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: engine["median"]
        for name, engine in case.get("engines", {}).items()
        if "median" in engine and engine.get("status", "ok") == "ok"
    }


def floor(case: Mapping[str, Any], ceilings: Mapping[str, float], precision: str) -> float:
    """Seconds that a card needs for a network at least, if each step reads, writes and multiplies at the card's own best.

    3xtf32 multiplies three times in tf32 for each product.
    """
    speed = ceilings["tf32"] / 3 if precision == "3xtf32" else ceilings[precision]
    return sum(max(flop / speed, moved / ceilings["bandwidth"]) for flop, moved in case["work"])


def card(cases: Mapping[str, Any]) -> str:
    """A card's times beside PyTorch's, how near they are to what it can do, and what was checked there."""
    timed = _timed(cases)
    engines = dict.fromkeys(name for case in timed for name in _card_times(case))
    titles = [name.replace(" ", ", ") for name in engines]
    rows, near = [], []
    for case in timed:
        times = _card_times(case)
        label = _label(case)
        ratios = []
        for precision in ("fp32", "3xtf32", "tf32"):
            ours, theirs = (
                times.get(f"{who} {p}") for who, p in (("npresnet", precision), ("PyTorch", _peer(precision)))
            )
            ratios.append(f"{theirs / ours:.2f}" if ours and theirs else "-")
        rows.append([label, *(_number(times[name] * 1e3) if name in times else "-" for name in engines), *ratios])
        if "bandwidth" in _ceilings(cases):
            flop = sum(step[0] for step in case["work"])
            cells = []
            for name in engines:
                precision = case["engines"].get(name, {}).get("precision")
                share = f"{floor(case, _ceilings(cases), precision) / times[name]:.0%}" if name in times else "-"
                cells.append(f"{flop / times[name] / 1e12:.1f} ({share})" if name in times else "-")
            near.append([label, *cells])
    parts = []
    if rows:
        parts += [
            "Milliseconds for a batch, median, images and features on the card; the last columns are PyTorch's time over "
            "npresnet's, for 3xtf32 PyTorch's in fp32.",
            table(["", *titles, "fp32", "3xtf32", "tf32"], rows),
        ]
        parts.append(_how(timed))
    if near:
        at_best = _ceilings(cases)
        parts += [
            "TFLOP/s, and in brackets the share of the least time that the card needs: each step at the speed of a large "
            f"copy ({at_best['bandwidth'] / 1e9:.0f} GB/s) or of PyTorch's product of large matrices (fp32 "
            f"{at_best['fp32'] / 1e12:.1f}, tf32 {at_best['tf32'] / 1e12:.1f} TFLOP/s), whichever takes longer. Winograd "
            "multiplies less than is counted, and may be above.",
            table(["", *titles], near),
        ]
    host = _of(cases, "host")
    if host:
        names = dict.fromkeys(name for case in host.values() for name in _card_times(case))
        speeds = [
            [_label(case), *(f"{case['batch'][0] / _card_times(case)[name]:.0f}" for name in names)]
            for case in host.values()
        ]
        parts += [
            "Images per second from NumPy arrays and back into them, copies included:",
            table(["", *names], speeds),
        ]
    parts.append(_checked(cases))
    return "\n\n".join(parts)


def _how(timed: Sequence[Mapping[str, Any]]) -> str:
    """How far each engine's features were from the processor's, and how PyTorch was run."""
    every = [(name, engine) for case in timed for name, engine in case["engines"].items() if "median" in engine]
    errors = {name: max(engine["error"] for other, engine in every if other == name) for name, _ in every}
    sentences = [
        "Features of every engine were compared with npresnet's on the processor first; largest relative error: "
        + ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
        + "."
    ]
    peers = [engine for _, engine in every if "queued" in engine]
    if peers:
        ways = " and ".join(f"'{way}'" for way in dict.fromkeys(engine["chosen"] for engine in peers))
        shares = [engine["queued"] / engine["median"] for engine in peers]
        sentences.append(
            f"PyTorch ran in the fastest of its ways, {ways}; a caller who queues batches without waiting for each gets them "
            f"in {min(shares):.0%} to {max(shares):.0%} of these times."
        )
    return " ".join(sentences)


def _checked(cases: Mapping[str, Any]) -> str:
    """What was checked on a card, what failed, and what was left out."""
    sentences = []
    agreement = _of(cases, "agreement")
    for precision in dict.fromkeys(case["precision"] for case in agreement.values()):
        of_it = [case for case in agreement.values() if case["precision"] == precision]
        sentences.append(
            f"{precision}: {sum(case['layers'] for case in of_it):,} layers' outputs beside TensorFlow's, largest relative "
            f"error {max(case['worst'] for case in of_it):.1e}"
        )
    for kind in ("repeatability", "tests", "memory", "tuning"):
        sentences += [f"{kind}, {key}: {case['text']}" for key, case in _of(cases, kind).items()]
    for status, words in (("failed", "**Failed**"), ("left out", "Left out")):
        sentences += [f"{words}: {key}" for key, case in cases.items() if case["status"] == status]
    return "\n".join(f"- {sentence}" for sentence in sentences)


def card_steps(cases: Mapping[str, Any]) -> str:
    """Time and speed of each kernel within a network on a card."""
    parts = []
    for case in _of(cases, "profile").values():
        total = sum(step["seconds"] for step in case["steps"])
        rows = []
        for algorithm in dict.fromkeys(step["algorithm"] for step in case["steps"]):
            steps = [step for step in case["steps"] if step["algorithm"] == algorithm]
            seconds, flop = sum(step["seconds"] for step in steps), sum(step["flop"] for step in steps)
            speed = f"{flop / seconds / 1e12:.1f}" if flop and seconds else ""
            rows.append(
                [algorithm, str(len(steps)), _number(seconds * 1e3), f"{seconds / total:.0%}" if total else "", speed]
            )
        rows.append(["all", str(len(case["steps"])), _number(total * 1e3), "", ""])
        parts.append(
            f"{_label(case)}, {case['precision']}:\n\n" + table(["kernel", "steps", "ms", "share", "TFLOP/s"], rows)
        )
    return "\n\n".join(parts)


def detect(cases: Mapping[str, Any]) -> str:
    """Seconds, GFLOP and speed of each engine on whole Mask R-CNNs."""
    rows = []
    for case in cases.values():
        ours = case["engines"]["npresnet"]
        for engine in case["engines"].values():
            speed = engine["flop"] / engine["seconds"] / 1e9
            beside = f"{engine['beside'] / engine['seconds']:.1%}" if "beside" in engine else "-"
            ratio = _number(speed and ours["flop"] / ours["seconds"] / 1e9 / speed)
            rows.append(
                [f"{_label(case)}, {_threads(case['threads'])}: {engine['title']} {engine['version']}",
                 _number(engine["seconds"]), f"{engine['flop'] / 1e9:.0f}", f"{speed:.0f}", ratio, beside,
                 f"{engine['peak'] / 1e6:.0f}"]
            )  # fmt: skip
    return (
        table(
            [
                "a picture with 100 detections",
                "s",
                "GFLOP",
                "GFLOP/s",
                "npresnet's speed over it",
                "outside of networks",
                "peak MB",
            ],
            rows,
        )
        + "\n\nMedians; each engine in a process of its own, in turns. matterport's is the same network, torchvision's another."
    )


TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "engines": ("engines", engines),
    "detect": ("detect", detect),
    "layers": ("layers", layers),
    "ladder": ("ops", ladder),
    "load": ("load", load),
    "scaling": ("scaling", scaling),
    "startup": ("startup", startup),
    "extract": ("extract", extract),
    "card": ("card", card),
    "card_steps": ("card", card_steps),
}
"""{name of the table: (script whose results it shows, function of its cases)}."""


NOTHING_YET = {
    "card": "**No kernel has run on a card yet.** Here will stand what `python -m bench.on_card` finds on one."
}
"""{script: what stands in the place of its tables before there are results}, where it is not the usual."""


def results(script: str, folder: Path) -> dict[Path, dict[str, Any]]:
    """The results of one script, of every machine."""
    return {path: store.load(path) for path in sorted(folder.glob(f"{script}-*.json"))}


def block(name: str, folder: Path, document: Path) -> str:
    """What stands between the markers of table ``name`` in ``document``. Raises KeyError for an unknown table."""
    script, function = TABLES[name]
    parts = []
    for path, contents in results(script, folder).items():
        picture = path.with_suffix(".png")
        if name in PICTURES:
            parts.append(f"![{name}]({Path(os.path.relpath(picture, document.parent)).as_posix()})")
        dates = sorted({case["measured"] for case in contents["cases"].values()})
        when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        parts += [function(contents["cases"]), f"Measured {when} on {contents['machine']}."]
    return "\n\n".join(parts) or NOTHING_YET.get(script, f"Not measured yet: `python -m bench.bench_{script}`.")


def rendered(document: Path, folder: Path) -> str:
    """The document with every table as the results have it."""
    return _MARKED.sub(
        lambda found: found[1] + block(found[2], folder, document) + "\n" + found[3], document.read_text()
    )


# Pictures -------------------------------------------------------------------------------------------------------------

OURS, OTHERS, LIGHT, CEILING = "#1f5fa8", "#9aa3ad", 0.45, "#b3261e"
ALGORITHMS = ("#1f5fa8", "#e08a1e", "#3a9d6e", "#8a5fb0", "#c2544d", "#7a7f87", "#b7a43c", "#4aa3b8")


def draw_engines(cases: Mapping[str, Any], plt: Any) -> Any:
    """One panel per network and shape: bars of every engine, a pair where there are two numbers of threads."""
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for case in cases.values():
        panels.setdefault(_label(case), []).append(case)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    names = _engine_names(cases.values())[::-1]
    height = 0.5 + 0.38 * len(names)
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, rows * height + 0.4), squeeze=False)
    for axis, (label, group) in zip(axes.flat, panels.items(), strict=False):
        group = sorted(group, key=lambda case: case["threads"])
        thick = 0.8 / len(group)
        longest = max(e["median"] for case in group for e in case["engines"].values() if e["status"] == "ok")
        for index, case in enumerate(group):
            for position, name in enumerate(names):
                found = case["engines"].get(name, {})
                if found.get("status") != "ok":
                    continue
                n = case["batch"][0]
                at = position + 0.4 - thick * (index + 0.5)
                value, (low, high) = found["median"] / n * 1e3, (q / n * 1e3 for q in found["quartiles"])
                colour = OURS if name == "npresnet" else OTHERS
                axis.barh(at, value, thick * 0.92, color=colour, alpha=1.0 if index == 0 else 1 - LIGHT)
                axis.plot([low, high], [at, at], color="black", linewidth=0.8, alpha=0.6)
                text = f"{_number(value)} ms" + (f", {_threads(case['threads'])}" if name == names[-1] else "")
                axis.text(max(value, high) + longest / n * 12, at, text, va="center", fontsize=7.5)
        titles = [next(c["engines"][name]["title"] for c in cases.values() if name in c["engines"]) for name in names]
        axis.set_yticks(range(len(names)), titles, fontsize=8.5)
        axis.get_yticklabels()[-1].set_fontweight("bold")
        axis.set_title(label, fontsize=9.5, loc="left", fontweight="bold")
        axis.set_xlim(0, longest / group[0]["batch"][0] * 1e3 * 1.3)
        _bare(axis)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("milliseconds per image, median and quartiles; shorter is better", fontsize=8.5)
    return figure


def draw_layers(cases: Mapping[str, Any], plt: Any) -> Any:
    """One panel per case: each step a bar as wide as its time and as high as its speed, under the FMA peak."""
    algorithms = list(dict.fromkeys(step["algorithm"] for case in cases.values() for step in case["steps"]))
    colours = {name: ALGORITHMS[index % len(ALGORITHMS)] for index, name in enumerate(algorithms)}
    figure, axes = plt.subplots(len(cases), 1, figsize=(10.8, 2.6 * len(cases) + 0.5), squeeze=False)
    for axis, case in zip(axes.flat, cases.values(), strict=True):
        steps, peak = case["steps"], case["peak"] / 1e9
        at, top = 0.0, peak
        for step in steps:
            width, speed = step["seconds"] * 1e3, step["flop"] / step["seconds"] / 1e9
            axis.bar(at, speed, width, align="edge", color=colours[step["algorithm"]], edgecolor="white", linewidth=0.4)
            at, top = at + width, max(top, speed)
        axis.axhline(peak, color=CEILING, linewidth=1)
        axis.text(at, peak, f" FMA peak\n {peak:.0f}", color=CEILING, fontsize=8, va="center")
        axis.set_title(f"{_label(case)}, {_threads(case['threads'])}", fontsize=9.5, loc="left", fontweight="bold")
        axis.set_xlim(0, at)
        axis.set_ylim(0, top * 1.06)
        axis.set_xlabel("milliseconds from the start", fontsize=8.5)
        axis.set_ylabel("GFLOP/s, as if direct", fontsize=8.5)
        _bare(axis)
    keys = [plt.Rectangle((0, 0), 1, 1, color=colours[name]) for name in algorithms]
    figure.legend(keys, algorithms, loc="outside upper center", ncols=min(8, len(keys)), fontsize=8, frameon=False)
    return figure


def draw_ladder(cases: Mapping[str, Any], plt: Any) -> Any:
    """The versions of the operators that compute beside the FMA peak, and of those that move data, in GB/s."""
    computing = {key: case for key, case in cases.items() if case["flop"]}
    moving = {key: case for key, case in cases.items() if not case["flop"]}
    sides = [(group, title, unit) for group, title, unit in (
        (computing, "Bound by arithmetic", "flop"), (moving, "Bound by memory", "bytes")
    ) if group]  # fmt: skip
    longest = max(sum(len(case["versions"]) + 0.6 for case in group.values()) for group, _, _ in sides)
    figure, axes = plt.subplots(1, len(sides), figsize=(5.4 * len(sides), 0.6 + 0.27 * longest), squeeze=False)
    for axis, (group, title, unit) in zip(axes.flat, sides, strict=True):
        names, places, at = [], [], 0.0
        most = max(case[unit] / v["median"] for case in group.values() for v in case["versions"].values()) / 1e9
        if unit == "flop":
            peak = max(case["peak"] for case in group.values()) / 1e9
            axis.axvline(peak, color=CEILING, linewidth=1)
            axis.text(peak, -0.75, f"FMA peak {peak:.0f} ", color=CEILING, fontsize=8, ha="right", va="center")
            most = max(most, peak)
        for case in group.values():
            for index, (name, version) in enumerate(case["versions"].items()):
                speed = case[unit] / version["median"] / 1e9
                axis.barh(at, speed, 0.82, color=OTHERS if index == 0 else OURS)
                axis.text(speed + most / 80, at, _number(speed), va="center", fontsize=7.5, bbox=_PAPER)
                names.append(name)
                places.append(at)
                at += 1
            at += 0.6
        axis.set_yticks(places, names, fontsize=8)
        axis.set_ylim(longest - 0.9, -1.2)
        axis.set_xlim(0, most * 1.12)
        axis.set_title(title, fontsize=9.5, loc="left", fontweight="bold")
        axis.set_xlabel("GFLOP/s" if unit == "flop" else "GB/s", fontsize=8.5)
        _bare(axis)
    return figure


def draw_scaling(cases: Mapping[str, Any], plt: Any) -> Any:
    """Speed and memory over the size of the image (left) and over the batch (right)."""
    figure, axes = plt.subplots(2, 2, figsize=(10.8, 5.4))
    for column, kind in enumerate(("size", "batch")):
        for key, case in cases.items():
            if not key.startswith(f"{kind}-"):
                continue
            points = case["points"]
            x = [point["batch"][1 if kind == "size" else 0] for point in points]
            speed = [n * h * w / point["median"] / 1e6 for point in points for n, h, w in [point["batch"]]]
            label = f"{case['network']}, {_threads(case['threads'])}"
            axes[0, column].plot(x, speed, marker="o", markersize=4, label=label)
            axes[1, column].plot(x, [point["peak_bytes"] / 1e6 for point in points], marker="o", markersize=4)
            for axis in axes[:, column]:
                axis.set_xscale("log", base=2)
                axis.set_xticks(x, map(str, x), fontsize=8)
                axis.minorticks_off()
                axis.set_xlabel("pixels, square, one image" if kind == "size" else "images of 224x224", fontsize=8.5)
        axes[0, column].legend(fontsize=8, frameon=False, loc="lower right")
    for axis, title in zip(axes[:, 0], ("megapixels per second", "peak memory, MB"), strict=True):
        axis.set_ylabel(title, fontsize=8.5)
    for axis in axes.flat:
        axis.set_ylim(0, axis.get_ylim()[1] * 1.05)
        _bare(axis)
        axis.grid(alpha=0.25)
    return figure


def draw_card(cases: Mapping[str, Any], plt: Any) -> Any:
    """One panel per network and batch: bars of every engine and precision, and the least time that the card needs."""
    timed = _timed(cases)
    columns = max(1, min(2, len(timed)))
    rows = max(1, -(-len(timed) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, 2.4 * rows + 0.4), squeeze=False)
    for axis, case in zip(axes.flat, timed, strict=False):
        times = _card_times(case)
        names = list(times)[::-1]
        longest = max(times.values()) * 1e3
        for at, name in enumerate(names):
            value, (low, high) = times[name] * 1e3, (q * 1e3 for q in case["engines"][name]["quartiles"])
            axis.barh(at, value, 0.8, color=OURS if name.startswith("npresnet") else OTHERS)
            axis.plot([low, high], [at, at], color="black", linewidth=0.8, alpha=0.6)
            axis.text(max(value, high) + longest / 60, at, f"{_number(value)} ms", va="center", fontsize=7.5)
            if "bandwidth" in _ceilings(cases):
                least = floor(case, _ceilings(cases), case["engines"][name]["precision"]) * 1e3
                axis.plot([least, least], [at - 0.4, at + 0.4], color=CEILING, linewidth=1.2)
        axis.set_yticks(range(len(names)), [name.replace(" ", ", ") for name in names], fontsize=8.5)
        axis.set_xlim(0, longest * 1.25)
        axis.set_title(_label(case), fontsize=9.5, loc="left", fontweight="bold")
        _bare(axis)
    for axis in list(axes.flat)[len(timed) :]:
        axis.set_visible(False)
    figure.supxlabel(
        "milliseconds for a batch, median and quartiles; shorter is better; red: the least that the card needs",
        fontsize=8.5,
    )
    return figure


_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


def _bare(axis: Any) -> None:
    """No frame where nothing is to be read off it."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="both", labelsize=8)


PICTURES: dict[str, Callable[[Mapping[str, Any], Any], Any]] = {
    "engines": draw_engines,
    "layers": draw_layers,
    "ladder": draw_ladder,
    "scaling": draw_scaling,
    "card": draw_card,
}


def draw_one(name: str, path: Path) -> Path:
    """Draw the picture ``name`` of one file of results, as PNG beside it. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = PICTURES[name](store.load(path)["cases"], plt)
    figure.set_layout_engine("constrained")
    figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    plt.close(figure)
    return path.with_suffix(".png")


def draw(folder: Path) -> list[Path]:
    """Draw every picture there are results for, as PNG beside its JSON."""
    return [draw_one(name, path) for name in PICTURES for path in results(TABLES[name][0], folder)]


def main(
    arguments: Sequence[str] | None = None, documents: Sequence[Path] = DOCUMENTS, folder: Path = store.RESULTS
) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a table is stale")
    check = parser.parse_args(arguments).check
    stale = [document for document in documents if rendered(document, folder) != document.read_text()]
    if check:
        for document in stale:
            print(
                f"{document}: its tables are not what bench/results says; run `python -m bench.report`", file=sys.stderr
            )
        return 1 if stale else 0
    for document in stale:
        document.write_text(rendered(document, folder))
        print(f"written: {document}")
    for picture in draw(folder):
        print(f"drawn: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
