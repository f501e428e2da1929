"""Pictures and prepared arrays from files."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, MissingExtraError
from ..network.inputs import network_input

__all__ = ["Float32", "Picture", "load_picture", "load_prepared"]

Picture = NDArray[Any]  # [h, w, 3] RGB, or [h, w, c], values 0..255, uint8 or floating point
Float32 = NDArray[np.float32]


def load_picture(path: str | os.PathLike[str], grey: bool = False) -> NDArray[np.uint8]:
    """Read a picture file of any format that Pillow knows, as uint8[h, w, 3] RGB, or as uint8[h, w, 1] ``grey``.

    Grey, palette, CMYK, YCbCr and 1-bit pictures are converted to RGB, or all but grey ones to grey (Pillow's "L"); alpha is
    dropped, not blended; of an animation the first frame is read. 16-bit grey keeps its high byte, as Pillow does by itself for 16-bit colour (its own
    conversion of 16-bit grey saturates at 255 and whitens the picture). An EXIF orientation is not applied: neither
    Keras nor Mask R-CNN turns the pixels, so turning them here would give other features than theirs.

    Raises MissingExtraError without Pillow, and ImageError for a file that cannot be opened, is not a picture, is
    damaged, holds floating-point pixels, or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (set that to raise
    the limit). A truncated file is refused (unless the program has set ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES``), and so
    is a PNG with any damage to its pixels; formats without checksums can hide changed bytes.
    Source: ``keras.utils.load_img``; for 8-bit pictures the bits are the same.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError(
            f"{os.fspath(path)}: reading picture files needs Pillow; "
            'pip install "npresnet[cli]", or give the picture as a uint8 array [h, w, 3]'
        ) from None
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not data:
        raise ImageError(f"{path}: the file is empty; it was probably not written or downloaded to its end")

    # A decoder meets untrusted bytes here and may raise nearly anything; the user's next move is the same for all.
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            # Pillow warns above its limit and raises only above twice the limit; here the limit is one number.
            if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{width}x{height} pixels, more than {Image.MAX_IMAGE_PIXELS}")
            image.verify()  # PNG checksums: load() skips them, and zeros at a file's end would pass as black rows
            if image.format in ("JPEG", "MPO") and not _has_end_of_image(data):
                raise OSError("no end-of-image marker")
        with Image.open(io.BytesIO(data)) as image:  # verify() leaves an image that cannot be loaded
            # Dropped by the conversion anyway, with a warning for some palettes.
            image.info.pop("transparency", None)
            mode = image.mode
            pixels = np.array(image if mode.startswith(("I", "F")) else image.convert("L" if grey else "RGB"))
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: not a picture in any format that Pillow reads (it begins with {data[:12]!r}); "
            "give a picture file, or a .npy of prepared input"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{path}: too many pixels to decode safely ({error}); make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:
        raise ImageError(
            f"{path}: the picture cannot be decoded ({error}); if it is damaged or truncated, fetch or save it again"
        ) from error

    if mode == "F":
        raise ImageError(
            f"{path}: holds floating-point pixels, and no file says which value is white; "
            "scale them to 0..255 and give the array instead"
        )
    if mode.startswith("I"):
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ImageError(
                f"{path}: integer pixels from {pixels.min()} to {pixels.max()}; the range of a 16-bit picture is "
                "0..65535: scale them to 0..255 and give the array instead"
            )
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 1 if grey else 3, axis=2)
    return pixels


def load_prepared(path: str | os.PathLike[str], channels: int = 3) -> Float32:
    """A ``.npy`` of prepared input as float32[n, h, w, channels]; nothing is unpickled, and shapes are checked before data."""
    try:
        # Mapping refuses a file shorter than its header says, before any memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise _unreadable(path, error) from error
    except Exception as error:
        raise ImageError(f"{path}: not a readable .npy file ({error}); write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ImageError(f"{path}: a .npz archive named .npy; write one array with numpy.save")
    if array.dtype.kind != "f":
        raise ImageError(
            f"{path}: holds {array.dtype}, but a .npy is prepared input: float32[n, h, w, {channels}]; "
            "give a picture file instead, or the loaded array as a picture"
        )
    try:
        prepared: Float32 = network_input(
            array, channels
        )  # writeable, hence a copy: the file may change while the array lives
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    return prepared


def _has_end_of_image(data: bytes) -> bool:
    """Whether a JPEG is there to its end.

    A download that stopped can leave a file of full size with zeros at its end. Zeros are valid coefficients: the
    decoder makes grey of them without a word. The marker that follows the last scan is then missing.
    """
    position = 2  # after the start-of-image marker
    # In a scan FF is followed by 00 or by a restart marker D0..D7; anything else is the next marker.
    while marker := re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])").search(data, position):
        if marker[1] == b"\xd9":
            return True
        # Its segment may hold a thumbnail with an end of its own: skipped by the segment's length.
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return False


def _unreadable(path: str | os.PathLike[str], error: Exception) -> ImageError:
    """The error for a file that the operating system does not hand over."""
    if isinstance(error, FileNotFoundError):
        reason = "no such file"
    elif isinstance(error, IsADirectoryError):
        reason = "a directory, not a file"
    else:
        reason = f"the file cannot be opened ({error})"
    return ImageError(f"{path}: {reason}; check the path")
