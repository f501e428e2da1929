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
_COLOURS = (
    (255, 99, 72), (46, 204, 113), (52, 152, 255), (255, 206, 50), (190, 100, 255),
    (0, 210, 211), (255, 118, 186), (163, 203, 56), (255, 159, 67), (120, 130, 255),
)  # fmt: skip
_VEIL = 0.45  # share of the colour within a mask, at most
_LEAST = 720  # pixels of the longer side: smaller pictures are enlarged, so that names can be read
_ROOM = (
    80,
    240,
)  # rows and columns at least: behind slivers of pictures there is a margin, in which their names have room
_MARGIN = 40  # its grey
_USUAL = 20  # detections; of more, names are smaller and veils thinner

Box = tuple[float, float, float, float]  # left, top, right, bottom


def save_detected_picture(
    path: str | os.PathLike[str], picture: npt.NDArray[np.uint8], found: Detections, names: Sequence[str]
) -> None:
    """Draw detections over their picture uint8[h, w, 3] and save that as PNG; the best on top. ``names`` of all classes.

    A name stands at its box; where there is no room for it, because those of better detections are there, it is left out. Raises
    MissingExtraError without Pillow, UsageError where the file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingExtraError(
            'drawing a picture needs Pillow, which is not installed: pip install "npresnet[cli]"'
        ) from None
    scale = max(1, -(-_LEAST // max(picture.shape[:2])))
    margins = [max(0, room - side * scale) for room, side in zip(_ROOM, picture.shape, strict=False)]
    canvas = np.pad(_enlarged(picture, scale), [*((0, margin) for margin in margins), (0, 0)], constant_values=_MARGIN)
    longer = max(canvas.shape[:2])
    line = max(2, round(longer / 400))
    share = min(1.0, _USUAL / max(1, len(found))) ** 0.25
    if found.masks is not None:
        for number in reversed(range(len(found))):
            _tint(canvas, found.masks[:, :, number], found.boxes[number], _colour(number), scale, line, _VEIL * share)
    image = Image.fromarray(canvas)
    font = ImageFont.load_default(max(13, round(longer / 55 * share)))
    draw = ImageDraw.Draw(image)
    edges = [(x1 * scale, y1 * scale, x2 * scale, y2 * scale) for y1, x1, y2, x2 in found.boxes.tolist()]
    for number in reversed(range(len(found))):
        x1, y1, x2, y2 = edges[number]
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=_colour(number), width=line)
    taken: list[Box] = []
    for number, edge in enumerate(edges):  # the best first, so that its name gets the place it wants
        text = f"{names[found.class_ids[number]]} {found.scores[number]:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        place = _place(edge, right - left + 2 * line + 4, bottom - top + 2 * line + 2, image.size, taken)
        if place is None:
            continue
        taken.append(place)
        colour = _colour(number)
        draw.rectangle(place, fill=colour)
        dark = sum(part * weight for part, weight in zip(colour, (0.3, 0.59, 0.11), strict=True)) > 130
        draw.text((place[0] - left + line + 2, place[1] - top + line + 1), text, "black" if dark else "white", font)
    with replaced(path) as temporary:
        image.save(temporary, "PNG", compress_level=4)  # half the time of the usual 6, and about the size


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]


def _enlarged(pixels: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """Each pixel as a square of ``scale`` x ``scale``."""
    return np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1) if scale > 1 else pixels


def _tint(
    canvas: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_],
    box: Any,
    colour: Any,
    scale: int,
    line: int,
    veil: float,
) -> None:
    """A veil over the pixels of a mask, of which ``veil`` is the colour's share, and a line around them."""
    y1, x1, y2, x2 = map(int, box)
    part = _enlarged(mask[y1:y2, x1:x2], scale)
    seen = canvas[y1 * scale : y2 * scale, x1 * scale : x2 * scale]
    seen[part] = np.rint((1 - veil) * seen[part] + veil * np.array(colour)).astype(np.uint8)
    inner = part
    for _ in range(max(1, line // 2)):
        padded = np.pad(inner, 1)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    seen[part & ~inner] = colour


def _place(edges: Box, width: float, height: float, size: tuple[int, int], taken: Sequence[Box]) -> Box | None:
    """Where a name may stand that takes so much room: above its box, below it, or in a corner of it; None for nowhere."""
    x1, y1, x2, y2 = edges
    places = [(x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2)]
    places += [(x1, y1), (x2 - width, y1), (x1, y2 - height), (x2 - width, y2 - height)]
    for wanted, top in places:
        left = max(0.0, min(wanted, size[0] - width - 1))
        right, bottom = left + width, top + height
        free = not any(left < t[2] and t[0] < right and top < t[3] and t[1] < bottom for t in taken)
        if free and top >= 0 and bottom < size[1]:
            return left, top, right, bottom
    return None
