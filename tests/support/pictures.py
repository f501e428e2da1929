"""Folders of pictures for the tests of extraction: good ones, and as many ways as there are to be a bad one."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["MASKS", "bad_pictures", "good_pictures", "odd_pictures"]

MASKS = frozenset({"truncated", "damaged", "not a picture"})
"""Kinds of failure between which a decoder may choose for bytes that were cut or changed."""


def noise(height: int, width: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def good_pictures(folder: Path, count: int, side: int = 32, folders: int = 1, seed: int = 0) -> None:
    """``count`` pictures of ``side`` x ``side`` pixels in ``folders`` folders; each hundred of them the same ones, which is faster."""
    forms = ("JPEG", "PNG")
    kept = [encoded(noise(side, side, seed + n), forms[n % 2]) for n in range(min(count, 100))]
    for n in range(count):
        place = folder / f"{n % folders:03d}" if folders > 1 else folder
        if n < folders:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"good-{n:06d}.{'jpg' if n % 2 == 0 else 'png'}").write_bytes(kept[n % len(kept)])


def odd_pictures(folder: Path) -> list[str]:
    """Pictures that look bad and are good, and names that are bad and possible. What they are called, as text."""
    picture = noise(20, 30, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    files = {
        "sixteen-bit.png": encoded(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(picture, "JPEG", exif=exif.tobytes()),
        "one.png": encoded(noise(1, 1, 2), "PNG"),
        "sliver.png": encoded(noise(1, 65_500, 3), "PNG"),
        "new\nline.png": encoded(picture, "PNG"),
        "quote\"'.png": encoded(picture, "PNG"),
        os.fsdecode(b"not-utf8-\xff.png"): encoded(picture, "PNG"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return list(files)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it has so many black pixels, and would: some bytes for each thousand."""
    row = b"\0" * (1 + -(-width // 8))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bad_pictures(folder: Path, bomb_side: int, count: int | None = None) -> dict[str, frozenset[str]]:
    """Files that must fail, ``count`` of them or one of each sort: {name: the kinds of failure that are right}."""
    folder.mkdir(parents=True, exist_ok=True)
    jpeg, png = (encoded(noise(40, 50, 4), form) for form in ("JPEG", "PNG"))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0x10
    files = {
        "empty.jpg": (b"", {"empty"}),
        "text.jpg": (b"These are no pixels.\n", {"not a picture"}),
        "page.png": (b"<!doctype html><title>404</title>", {"not a picture"}),
        "flipped.png": (bytes(flipped), MASKS),
        "bomb.png": (bomb(bomb_side, bomb_side), {"too large"}),
        "floats.tif": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), {"refused"}),
        "no-array.npy": (b"\x93NUMPY\x01\0", {"damaged"}),
    }
    for tenth in range(1, 10):
        files[f"cut-{tenth}.jpg"] = (jpeg[: len(jpeg) * tenth // 10], MASKS)
        files[f"cut-{tenth}.png"] = (png[: len(png) * tenth // 10], MASKS)
    found = {}
    for name, (data, kinds) in files.items():
        (folder / name).write_bytes(data)
        found[name] = frozenset(kinds)
    os.mkfifo(folder / "pipe.jpg")
    found["pipe.jpg"] = frozenset({"unreadable"})
    for n in range(len(found), count or 0):
        (folder / f"cut-{n:04d}.jpg").write_bytes(jpeg[: len(jpeg) * (n % 97 + 1) // 100])
        found[f"cut-{n:04d}.jpg"] = MASKS
    return found
