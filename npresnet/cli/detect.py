"""``npresnet detect``."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ImageError, UsageError, WeightsError
from ..files.safe_write import check_writable, file_hash
from .options import Algorithm, AlgorithmOption, ArchitectureOption, DeviceOption, ThreadsOption, load_network
from .printing import fact, fail, guarded, print_table, progress, say

if TYPE_CHECKING:
    from ..detection.config import DetectorConfig
    from ..detection.result import Detections
    from ..network.detector import Detector

__all__ = ["detect"]

_MANY = 20  # pictures of which each detection is printed; of more, how many there are of each class; likewise those that fail
_EVERY = 60.0  # seconds after which what has been found is saved, for who knows how a long run ends


@guarded
def detect(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures.")],
    weights: Annotated[
        Path, typer.Option(metavar="WEIGHTS", help="Weights of matterport's Mask R-CNN (.h5).", show_default=False)
    ],
    config: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="coco, balloon, nucleus, shapes, decimer, or a .json file of settings; else coco."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the config; may be given again and again."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(metavar="P", help="DETECTION_MIN_CONFIDENCE: the least score.", min=0, max=1)
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes: one per line, or .json.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the detections go, as COCO's JSON.")] = Path(
        "detections.json"
    ),
    picture: Annotated[bool, typer.Option("--picture", help="Draw each picture's detections, beside FILE.")] = False,
    device: DeviceOption = "cpu",
    algorithm: AlgorithmOption = Algorithm.auto,
    threads: ThreadsOption = None,
    architecture: ArchitectureOption = None,
) -> None:
    """Find what is in pictures by a Mask R-CNN. Boxes, classes, scores and masks; a picture that fails is noted, and stops nothing."""
    from ..detection.config import config_for, settings_in
    from ..detection.detecting import detect_one
    from ..images.prepare import read_pictures
    from ..results.coco import CocoFile
    from ..results.detected import save_detected_picture

    check_writable(out)
    if any(out.exists() and image.exists() and out.samefile(image) for image in images):
        raise UsageError(f"--out: {out} is one of the pictures; give another name")
    given = {**settings_in(config), **_settings(settings or [])}
    if confidence is not None:
        given["DETECTION_MIN_CONFIDENCE"] = confidence
    chosen = config_for(given)
    net = load_network(weights, architecture, device, algorithm, threads)
    detector = net.architecture.detector
    if detector is None or not detector.classes:
        net.detect([], chosen)  # which says what is wrong
    assert detector is not None
    chosen.check(detector)
    names = _names(classes, config, detector.classes)
    about = {
        "weights": weights.name, "weights_sha256": file_hash(weights), "architecture": str(net.architecture),
        "config": {name: getattr(chosen, name) for name in chosen.names()},
    }  # fmt: skip
    file = CocoFile(about, names)
    rows: list[tuple[str, ...]] = []
    counts: Counter[str] = Counter()
    failed: list[str] = []
    drawn: list[Path] = []
    paths = list(map(str, images))
    taken = {path.resolve() for path in (*images, out)}
    done = 0
    start = saved = time.perf_counter()
    try:
        with progress("pictures", len(images)) as advance:
            for image in images:
                try:
                    (pixels,) = read_pictures(image, str(image), 3)
                    found = detect_one(net, detector, pixels, chosen, str(image))
                except (ImageError, WeightsError) as error:
                    done += 1
                    failed.append(str(error))
                    file.fail(str(image), str(error))
                else:
                    done += 1
                    file.add(str(image), pixels.shape[:2], found)
                    counts.update(names[class_id] for class_id in found.class_ids)
                    if len(images) <= _MANY:
                        rows += _rows(str(image), found, names)
                    if picture:
                        drawn.append(_picture_path(out.parent, image, taken))
                        save_detected_picture(drawn[-1], pixels, found, names)
                if time.perf_counter() - saved > _EVERY:
                    file.save(out, paths[done:])
                    saved = time.perf_counter()
                advance()
    except BaseException:  # Ctrl-C, say, or a card without memory: what was found until then is good
        if done:
            file.save(out, paths[done:])
        raise
    seconds = time.perf_counter() - start
    file.save(out)
    if rows:
        print_table(("image", "class", "score", "left", "top", "width", "height", "mask"), rows, "llrrrrrr")
        say()
    elif counts:
        print_table(("class", "found"), ((name, str(count)) for name, count in counts.most_common()), "lr")
        say()
    fact("network", str(net.architecture))
    _print_config(detector, chosen, given)
    good = len(images) - len(failed)
    fact("found", f"{sum(counts.values())} in {good} {'picture' if good == 1 else 'pictures'}, {seconds:.2f} s")
    fact("saved", f"{out}{_drawings(drawn)}")
    for why in failed[:_MANY]:
        fact("failed", why)
    if len(failed) > _MANY:
        fact("", f"and {len(failed) - _MANY} more, whose errors are in {out}")
    if failed:
        fail(f"detect: {len(failed)} of {len(images)} pictures failed", 1)


def _drawings(drawn: Sequence[Path]) -> str:
    """How many drawings there are, and one of them."""
    if len(drawn) < 2:
        return "".join(f", and {path}" for path in drawn)
    return f", and {len(drawn)} drawings such as {drawn[0]}"


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` gives: numbers, or several with commas between."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set: got {text!r}; it must be NAME=VALUE, such as DETECTION_NMS_THRESHOLD=0.5")
        try:
            found[name.strip()] = json.loads(f"[{value}]" if "," in value and "[" not in value else value)
        except ValueError:
            found[name.strip()] = value.strip()
    return found


def _names(path: Path | None, config: str | None, classes: int) -> Sequence[str]:
    """The classes' names: in a file, or those of the preset, if it has as many, or numbers."""
    from ..results.classes import read_names
    from ..results.coco import NAMES

    if path is not None:
        return read_names(path, classes, background=True)
    names = NAMES.get(config or "coco", ())
    return names if len(names) == classes else [f"class {number}" for number in range(classes)]


def _rows(image: str, found: Detections, names: Sequence[str]) -> list[tuple[str, ...]]:
    if not len(found):
        return [(image, "-", *([""] * 6))]
    rows = []
    for number, (box, class_id, score) in enumerate(zip(found.boxes, found.class_ids, found.scores, strict=True)):
        y1, x1, y2, x2 = map(int, box)
        pixels = "-" if found.masks is None else f"{int(found.masks[:, :, number].sum()):,}"
        numbers = (x1, y1, x2 - x1, y2 - y1)
        rows.append((image, names[class_id], f"{score:.3f}", *map(str, numbers), pixels))
    return rows


def _picture_path(folder: Path, image: Path, taken: set[Path]) -> Path:
    """A name for a picture's drawing that neither another nor a picture itself has; from now on it is among those ``taken``."""
    path, number = folder / f"{image.stem}-detections.png", 1
    while path.resolve() in taken:
        number += 1
        path = folder / f"{image.stem}-detections-{number}.png"
    taken.add(path.resolve())
    return path


def _print_config(detector: Detector, config: DetectorConfig, given: Mapping[str, Any]) -> None:
    """Which numbers are the file's, which the user's, and which are assumed."""
    masks = "masks" if detector.masks else "no masks"
    fact(
        "in the file",
        f"{detector.classes} classes with the background, {detector.anchors} anchors for each pixel, regions of "
        f"{detector.pool}x{detector.pool} pixels, {masks}",
    )
    texts = {name: f"{name}={_text(getattr(config, name))}" for name in config.names()}
    fact("given", "; ".join(text for name, text in texts.items() if name in given) or "nothing")
    fact("assumed", "as for COCO: " + "; ".join(text for name, text in texts.items() if name not in given))


def _text(value: Any) -> str:
    return ",".join(f"{number:g}" for number in value) if isinstance(value, tuple) else str(value)
