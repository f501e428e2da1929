"""A picture of feature maps beside the photograph that they were made from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtraError
from ..files.safe_write import replaced
from .colours import coloured

__all__ = ["save_feature_picture"]

Array = npt.NDArray[Any]


def save_feature_picture(path: str | os.PathLike[str], picture: Path, maps: Mapping[str, Array]) -> None:
    """Draw the photograph and, for each feature map, its mean over channels and its four liveliest channels, as PNG.

    Raises MissingExtraError without Pillow.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingExtraError(
            'drawing a picture needs Pillow, which is not installed: pip install "npresnet[cli]"'
        ) from None

    side, gap, head, left = 160, 8, 26, 120
    columns = ("mean", "four channels that vary most")
    canvas = Image.new("RGB", (left + 5 * (side + gap) + gap, head + len(maps) * (side + gap) + gap), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    draw.text((left, 6), columns[0], "black", font)
    draw.text((left + side + gap, 6), columns[1], "black", font)
    with Image.open(picture) as source:
        thumbnail = source.convert("RGB")
    thumbnail.thumbnail((left - 2 * gap, left))
    canvas.paste(thumbnail, (gap, head + 44))
    for row, (name, array) in enumerate(maps.items()):
        features = array[0]
        top = head + row * (side + gap)
        draw.text((gap, top + 4), f"{name}\n{'x'.join(map(str, features.shape))}", "black", font)
        liveliest = np.argsort(features.std(axis=(0, 1)))[::-1][:4]
        tiles = [features.mean(axis=2), *(features[:, :, channel] for channel in liveliest)]
        for column, tile in enumerate(tiles):
            image = Image.fromarray(_tile(tile)).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(image, (left + column * (side + gap), top))
    with replaced(path) as temporary:
        canvas.save(temporary, "PNG")


def _tile(channel: Array) -> Array:
    """One channel, stretched so that its darkest and brightest hundredth just saturate, as colours."""
    low, high = np.percentile(channel, [1, 99])
    return coloured(channel, float(low), float(high))
