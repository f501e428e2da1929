"""A picture with what was found in it: masks, boxes, names and scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detection.result import Detections
from ..errors import MissingExtraError
from ..files.safe_write import replaced

__all__ = ["save_detected_picture"]

# Ten colours that are told apart on light and on dark, in the order in which detections get them.
_COLOURS = np.array(
    [
        (255, 99, 72), (46, 204, 113), (52, 152, 255), (255, 206, 50), (190, 100, 255),
        (0, 210, 211), (255, 118, 186), (163, 203, 56), (255, 159, 67), (120, 130, 255),
    ],
    np.float64,
)  # fmt: skip
_VEIL = 0.45  # share of the colour within a mask
_LEAST = 720  # pixels of the longer side: smaller pictures are enlarged, so that names can be read


def save_detected_picture(
    path: str | os.PathLike[str], picture: npt.NDArray[np.uint8], found: Detections, names: Sequence[str]
) -> None:
    """Draw detections over their picture uint8[h, w, 3] and save that as PNG; the best on top. ``names`` of all classes.

    Raises MissingExtraError without Pillow, UsageError where the file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingExtraError(
            'drawing a picture needs Pillow, which is not installed: pip install "npresnet[cli]"'
        ) from None
    scale = max(1, -(-_LEAST // max(picture.shape[:2])))
    canvas = np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1).astype(np.float64)
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(len(found.scores))]
    line = max(2, round(max(canvas.shape[:2]) / 400))
    for number in reversed(range(len(colours))):
        if found.masks is not None:
            _tint(canvas, found.masks[:, :, number], found.boxes[number], colours[number], scale, line)
    image = Image.fromarray(canvas.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(13, round(max(canvas.shape[:2]) / 55)))
    taken: list[tuple[float, float, float, float]] = []
    labels = []
    for number in reversed(range(len(colours))):
        y1, x1, y2, x2 = (int(edge) * scale for edge in found.boxes[number])
        colour = tuple(int(part) for part in colours[number])
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour, width=line)
        labels.append((x1, y1, colour, f"{names[found.class_ids[number]]} {found.scores[number]:.2f}"))
    for x1, y1, colour, text in reversed(labels):  # the best first, so that it gets the place it wants
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        width, height = right - left + 2 * line + 4, bottom - top + 2 * line + 2
        place = _free(x1, y1, width, height, image.size, taken)
        taken.append((*place, place[0] + width, place[1] + height))
        draw.rectangle((*place, place[0] + width, place[1] + height), fill=colour)
        dark = sum(part * weight for part, weight in zip(colour, (0.3, 0.59, 0.11), strict=True)) > 130
        at = (place[0] - left + line + 2, place[1] - top + line + 1)
        draw.text(at, text, "black" if dark else "white", font)
    with replaced(path) as temporary:
        image.save(temporary, "PNG")


def _tint(
    canvas: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_], box: Any, colour: Any, scale: int, line: int
) -> None:
    """A veil over the pixels of a mask, and a line around them."""
    y1, x1, y2, x2 = map(int, box)
    part = np.repeat(np.repeat(mask[y1:y2, x1:x2], scale, axis=0), scale, axis=1)
    seen = canvas[y1 * scale : y2 * scale, x1 * scale : x2 * scale]
    seen[part] = (1 - _VEIL) * seen[part] + _VEIL * colour
    inner = part.copy()
    for _ in range(max(1, line // 2)):
        padded = np.pad(inner, 1)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    seen[part & ~inner] = colour


def _free(
    x: int,
    y: int,
    width: float,
    height: float,
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """Where a label may stand: above its box or, where there is no room, in it, and below others that are there."""
    left = max(0.0, min(float(x), size[0] - width - 1))
    top = float(y) - height if y >= height else float(y)
    for _ in taken:
        over = [t for t in taken if left < t[2] and t[0] < left + width and top < t[3] and t[1] < top + height]
        if not over:
            break
        top = max(t[3] for t in over) + 1
    return left, max(0.0, min(top, size[1] - height - 1))
