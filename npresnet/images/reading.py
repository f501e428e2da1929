"""Pictures and prepared arrays from files."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, MissingExtraError
from ..network.inputs import network_input

__all__ = [
    "DecodedPicture",
    "Decoding",
    "Float32",
    "Picture",
    "decode_picture",
    "load_picture",
    "load_prepared",
    "unreadable",
]

Picture = NDArray[Any]  # [h, w, 3] RGB, or [h, w, c], values 0..255, uint8 or floating point
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Decoding:
    """Which picture files are decoded, and how; as it stands, as Keras and Mask R-CNN do.

    formats      Pillow's names of the formats that are tried; None for all that it knows
    most_pixels  of a picture; None for ``PIL.Image.MAX_IMAGE_PIXELS``
    orient       turn the pixels as the file's EXIF orientation says
    reduce_to    (width, height): a JPEG is decoded at a half, a quarter or an eighth of its size where that leaves at least so
                 many pixels; faster, and with other pixels
    nearest      (width, height): pictures of 8 bits come at this size, by the nearest neighbour: the pixels that
                 ``resize_nearest`` would take, without an array of all the others
    """

    formats: tuple[str, ...] | None = None
    most_pixels: int | None = None
    orient: bool = False
    reduce_to: tuple[int, int] | None = None
    nearest: tuple[int, int] | None = None


class DecodedPicture(NamedTuple):
    """Pixels, uint8[h, w, c], and the (width, height) of the picture in the file, which may be another."""

    pixels: NDArray[np.uint8]
    stored: tuple[int, int]


def load_picture(path: str | os.PathLike[str], grey: bool = False) -> NDArray[np.uint8]:
    """Read a picture file of any format that Pillow knows, as uint8[h, w, 3] RGB, or as uint8[h, w, 1] ``grey``.

    Raises as ``decode_picture`` does, and ImageError for a file that cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return decode_picture(data, os.fspath(path), grey).pixels


def decode_picture(data: bytes, name: str, grey: bool = False, how: Decoding | None = None) -> DecodedPicture:
    """The picture in a file's bytes, as uint8[h, w, 3] RGB, or as uint8[h, w, 1] ``grey``; ``name`` is for messages.

    Grey, palette, CMYK, YCbCr and 1-bit pictures are converted to RGB, or all but grey ones to grey (Pillow's "L"); alpha is
    dropped, not blended; of an animation the first frame is read. 16-bit grey keeps its high byte, as Pillow does by itself for 16-bit colour (its own
    conversion of 16-bit grey saturates at 255 and whitens the picture). An EXIF orientation is not applied unless ``how`` says so: neither
    Keras nor Mask R-CNN turns the pixels, so turning them here would give other features than theirs.

    Raises MissingExtraError without Pillow, and ImageError, with its kind, for bytes that are not a picture, that are
    damaged, hold floating-point pixels, or more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (set that to raise
    the limit). A truncated file is refused (unless the program has set ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES``), and so
    is a PNG with any damage to its pixels; formats without checksums can hide changed bytes.
    Source: ``keras.utils.load_img``; for 8-bit pictures the bits are the same.
    """
    how = how or Decoding()
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError(
            f"{name}: reading picture files needs Pillow; "
            'pip install "npresnet[cli]", or give the picture as a uint8 array [h, w, 3]'
        ) from None
    if not data:
        raise ImageError(
            f"{name}: the file is empty; it was probably not written or downloaded to its end", kind="empty"
        )
    most = Image.MAX_IMAGE_PIXELS if how.most_pixels is None else how.most_pixels

    # A decoder meets untrusted bytes here and may raise nearly anything; the user's next move is the same for all.
    try:
        with Image.open(io.BytesIO(data), formats=how.formats) as image:
            width, height = image.size
            # Pillow warns above its limit and raises only above twice the limit; here the limit is one number.
            if most is not None and width * height > most:
                raise Image.DecompressionBombError(f"{width}x{height} pixels, more than {most}")
            image.verify()  # PNG checksums: load() skips them, and zeros at a file's end would pass as black rows
            if image.format in ("JPEG", "MPO") and not _has_end_of_image(data):
                raise OSError("no end-of-image marker")
        with Image.open(
            io.BytesIO(data), formats=how.formats
        ) as image:  # verify() leaves an image that cannot be loaded
            # Dropped by the conversion anyway, with a warning for some palettes.
            image.info.pop("transparency", None)
            if how.reduce_to is not None:
                image.draft(None, how.reduce_to)
            turned = ImageOps.exif_transpose(image) if how.orient else image
            mode = image.mode
            if not mode.startswith(("I", "F")):
                wanted = "L" if grey else "RGB"
                turned = turned if mode == wanted else turned.convert(wanted)
                turned = turned if how.nearest is None else turned.resize(how.nearest, Image.Resampling.NEAREST)
            pixels = np.array(turned)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not a picture in any format that {'Pillow reads' if how.formats is None else 'is allowed here'} "
            f"(it begins with {data[:12]!r}); give a picture file, or a .npy of prepared input",
            kind="not a picture",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: too many pixels to decode safely ({error}); make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS",
            kind="too large",
        ) from error
    except MemoryError as error:
        raise ImageError(f"{name}: decoding takes more memory than there is; make it smaller", kind="memory") from error
    except Exception as error:
        cut = re.search("truncated|end-of-image", str(error), re.IGNORECASE)
        raise ImageError(
            f"{name}: the picture cannot be decoded ({error}); if it is damaged or truncated, fetch or save it again",
            kind="truncated" if cut else "damaged",
        ) from error

    if mode == "F":
        raise ImageError(
            f"{name}: holds floating-point pixels, and no file says which value is white; "
            "scale them to 0..255 and give the array instead"
        )
    if mode.startswith("I"):
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ImageError(
                f"{name}: integer pixels from {pixels.min()} to {pixels.max()}; the range of a 16-bit picture is "
                "0..65535: scale them to 0..255 and give the array instead"
            )
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 1 if grey else 3, axis=2)
    return DecodedPicture(pixels, (width, height))


def load_prepared(path: str | os.PathLike[str], channels: int = 3, index: int | None = None) -> Float32:
    """A ``.npy`` of prepared input as float32[n, h, w, channels]; nothing is unpickled, and shapes are checked before data.

    index  of the one image that is to be read, as a batch of one; None for all
    """
    try:
        # Mapping refuses a file shorter than its header says, before any memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise unreadable(path, error) from error
    except Exception as error:
        raise ImageError(
            f"{path}: not a readable .npy file ({error}); write it with numpy.save", kind="damaged"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ImageError(f"{path}: a .npz archive named .npy; write one array with numpy.save")
    if array.dtype.kind != "f":
        raise ImageError(
            f"{path}: holds {array.dtype}, but a .npy is prepared input: float32[n, h, w, {channels}]; "
            "give a picture file instead, or the loaded array as a picture"
        )
    if index is not None:
        if array.ndim != 4 or index >= len(array):
            raise ImageError(f"{path}: an array {list(array.shape)} has no image {index}; was the file replaced?")
        array = array[index]
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
    # In a scan FF is followed by 00 or by a restart marker D0..D7; anything else is the next marker. (A pattern that begins with
    # one certain byte is searched for ten times faster than one that begins with a number of them.)
    while marker := re.compile(rb"\xff([^\x00\xd0-\xd7\xff])").search(data, position):
        if marker[1] == b"\xd9":
            return True
        # Its segment may hold a thumbnail with an end of its own: skipped by the segment's length.
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return False


def unreadable(path: str | os.PathLike[str], error: Exception) -> ImageError:
    """The error for a file that the operating system does not hand over."""
    if isinstance(error, FileNotFoundError):
        reason = "no such file"
    elif isinstance(error, IsADirectoryError):
        reason = "a directory, not a file"
    else:
        reason = f"the file cannot be opened ({error})"
    return ImageError(f"{os.fspath(path)}: {reason}; check the path", kind="unreadable")
