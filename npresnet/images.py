"""From a picture to the array a network takes: reading, resizing, and each family's colour arithmetic.

    file ── load_picture ──> uint8[h, w, 3] ── resize_picture ──> same dtype ── arithmetic ──> float32[h, w, 3]
                                               none | square |                 matterport | caffe |
                                               pad64 | (width, height)         torch | tf | none

Size and arithmetic are independent: ``CONVENTIONS`` says which size and interpolation a family uses when none is asked
for, and ``prepare`` runs the whole line. Every step gives the bits that the original Python gives: Keras's ``load_img``
and ``preprocess_input``, and Mask R-CNN's ``resize_image`` and ``mold_image`` on scikit-image. NumPy does all of it;
only reading a picture file needs Pillow. Arrays are RGB, height before width; a size written as text or as a pair is
width before height, as pictures are usually described.
"""

import io
import operator
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npresnet.errors import ImageError, MissingExtraError, UsageError

Picture = NDArray[Any]  # [h, w, 3] RGB, values 0..255, uint8 or floating point
Float32 = NDArray[np.float32]
Size = str | tuple[int, int]  # "none", "square", "pad64", or (width, height) in pixels
Interpolation = Literal["nearest", "bilinear"]

MAX_SIDE = 32768  # pixels; a side beyond it is a slip of the keyboard or a sliver of a picture, not a wish


# Reading


def load_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture file of any format that Pillow knows, as uint8[h, w, 3] RGB.

    Grey, palette, CMYK, YCbCr and 1-bit pictures are converted to RGB; alpha is dropped, not blended; of an animation
    the first frame is read. 16-bit grey keeps its high byte, as Pillow does by itself for 16-bit colour (its own
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
            pixels = np.array(image if mode.startswith(("I", "F")) else image.convert("RGB"))
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
        pixels = np.repeat((pixels >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return pixels


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


def _load_prepared(path: str | os.PathLike[str]) -> Float32:
    """A ``.npy`` of prepared input as float32[n, h, w, 3]; nothing is unpickled, and shapes are checked before data."""
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
            f"{path}: holds {array.dtype}, but a .npy is prepared input: float32[n, h, w, 3]; "
            "give a picture file instead, or the loaded array as a picture"
        )
    try:
        prepared: Float32 = network_input(array)  # writeable, hence a copy: the file may change while the array lives
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    return prepared


# Resizing


def resize_bilinear(image: Picture, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear resize without smoothing, beyond the border black: the one Mask R-CNN was trained with.

    out[i, j] = Σ over the four neighbours of (image[y, x] · wy) · wx, added row by row, where the centre of target
    pixel i lies at (i + 0.5) · h / h' - 0.5; then clipped to the range of the image.

    image   [h, w, c] of uint8, float32 or float64, finite      shape  (h', w') in pixels, each at least 1
    result  float64[h', w', c]; cast it to the image's dtype (uint8 truncates) for what Mask R-CNN goes on with

    The clip has a visible effect: along the border a quarter or half of the weight falls on black, which darkens it,
    but never below the darkest value in the picture. Not smoothed means that a picture made much smaller aliases.
    Source: ``skimage.transform.resize(order=1, mode="constant", preserve_range=True, anti_aliasing=False)`` of
    scikit-image 0.26, which runs ``scipy.ndimage.zoom(mode="grid-constant", grid_mode=True)``. The order of the
    operations is SciPy's, so the bits are the same (compared on x86-64).
    """
    h, w, c = image.shape
    low, high = float(image.min()), float(image.max())
    (y0, y1), (wy0, wy1) = _bilinear_axis(h, shape[0])
    columns, column_weights = _bilinear_axis(w, shape[1])
    # Pixels and channels as one axis: the inner loops are then long instead of three values short.
    rows = image.reshape(h, w * c)
    x0, x1 = (columns[..., None] * c + np.arange(c)).reshape(2, -1)
    wx0, wx1 = np.repeat(column_weights, c, axis=1)

    out = np.empty((shape[0], shape[1] * c))
    for start in range(0, shape[0], 16):  # 16 rows of a few thousand float64 stay in the L2 cache
        part = slice(start, start + 16)
        upper = rows[y0[part]] * wy0[part, None]
        lower = rows[y1[part]] * wy1[part, None]
        block = out[part]
        np.multiply(upper[:, x0], wx0, out=block)
        block += upper[:, x1] * wx1
        block += lower[:, x0] * wx0
        block += lower[:, x1] * wx1
        np.clip(block, low, high, out=block)
    return out.reshape(*shape, c)


def _bilinear_axis(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The two source pixels around each target pixel of one axis, and their weights: both [2, target]."""
    centre = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centre)
    fraction = centre - first
    index = np.stack([first, first + 1]).astype(np.intp)
    weights = np.stack([1.0 - fraction, fraction])
    weights[(index < 0) | (index >= source)] = 0.0  # beyond the border is black, whatever pixel stands in for it
    return index.clip(0, source - 1), weights


def resize_nearest(image: Picture, shape: tuple[int, int]) -> Picture:
    """Nearest-neighbour resize of [h, w, c] to (h', w') pixels, as Pillow and therefore Keras's ``load_img`` does it.

    Any dtype, kept. Source: Pillow's ``Image.resize(resample=NEAREST)``.
    """
    h, w = image.shape[:2]
    return image[_nearest_axis(h, shape[0])[:, None], _nearest_axis(w, shape[1])]


def _nearest_axis(source: int, target: int) -> NDArray[np.intp]:
    """The source pixel for each target pixel of one axis."""
    # Pillow adds the step up instead of multiplying, and its rounding decides where a position meets a pixel's edge.
    steps = np.full(target, source / target)
    steps[0] *= 0.5
    return np.cumsum(steps).astype(np.intp)


def parse_size(size: Size) -> Size:
    """Check a size: "none", "square", "pad64", "WIDTHxHEIGHT" or (width, height), each side 1 to 32768 pixels.

    Returns the name, or the pair (width, height). Raises UsageError for anything else.
    """
    if isinstance(size, str):
        text = size.strip().lower()
        if text in ("none", "square", "pad64"):
            return text
        match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
        sides = match and (int(match[1]), int(match[2]))
    else:
        try:
            width, height = size
            sides = operator.index(width), operator.index(height)
        except (TypeError, ValueError):
            sides = None
    if not sides or not all(1 <= side <= MAX_SIDE for side in sides):
        raise UsageError(
            f"size {size!r}: a size is none, square, pad64, or WIDTHxHEIGHT in pixels, each side 1 to {MAX_SIDE}; "
            "for example 640x480"
        )
    return sides


def resize_picture(image: Picture, size: Size, interpolation: Interpolation = "nearest") -> Picture:
    """Bring a picture [h, w, 3] to a size, dtype kept; all but "none" and a pair may add black borders.

    none             as it is
    square           Mask R-CNN's default: the short side up to 800 px but the long side at most 1024 px, centred on a
                     black square of 1024 px
    pad64            the short side up to 800 px, never down; centred on black whose sides are multiples of 64 px
    (width, height)  to exactly that, by ``interpolation``; the aspect ratio is not kept

    square and pad64 are always bilinear. Where a border cannot be split evenly the bottom and the right get more.
    Raises UsageError for a bad size; ImageError for a sliver whose sides would end below 1 or above 32768 px.
    Source: matterport's ``mrcnn/utils.py:resize_image`` with its default IMAGE_MIN_DIM, IMAGE_MAX_DIM and
    IMAGE_MIN_SCALE. (There pad64 asserts that the minimum is a multiple of 64, which its own default 800 is not;
    the arithmetic does not need it.)
    """
    size = parse_size(size)
    if size == "none":
        return image
    h, w = image.shape[:2]
    if not isinstance(size, str):
        return _resample(image, (size[1], size[0]), interpolation)

    scale = max(1.0, 800 / min(h, w))
    if size == "square" and round(max(h, w) * scale) > 1024:
        scale = 1024 / max(h, w)
    height, width = round(h * scale), round(w * scale)  # halves to even, as in the original
    if min(height, width) < 1 or max(height, width) > MAX_SIDE:
        raise ImageError(
            f"picture of {w}x{h} px: size {size} makes it {width}x{height} px, and a side must be 1 to {MAX_SIDE}; "
            "crop it, or choose size none or WIDTHxHEIGHT"
        )
    if size == "square":
        full_height = full_width = 1024
    else:
        full_height, full_width = -(-height // 64) * 64, -(-width // 64) * 64
    top, left = (full_height - height) // 2, (full_width - width) // 2
    canvas = np.zeros((full_height, full_width, image.shape[2]), image.dtype)
    canvas[top : top + height, left : left + width] = _resample(image, (height, width), "bilinear")
    return canvas


def _resample(image: Picture, shape: tuple[int, int], interpolation: Interpolation) -> Picture:
    """The picture at (h', w') pixels, dtype kept: uint8 is truncated, not rounded, as in Mask R-CNN."""
    if image.shape[:2] == shape:
        return image
    if interpolation == "nearest":
        return resize_nearest(image, shape)
    return resize_bilinear(image, shape).astype(image.dtype)


# Arithmetic: RGB 0..255 of any dtype, [..., 3] -> float32[..., 3], C-contiguous

MEAN_PIXEL = np.array([123.7, 116.8, 103.9])  # RGB; float64, see subtract_mean_pixel
CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # BGR
NSFW_MEAN = np.array([104, 117, 123], np.float32)  # BGR
TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # RGB, of values 0..1
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def subtract_mean_pixel(image: Picture) -> Float32:
    """RGB minus (123.7, 116.8, 103.9). Source: matterport's ``mrcnn/model.py:mold_image``.

    The original subtracts a float64 mean, so in float64, and feeds the result to a float32 network: rounding the mean
    to float32 first would change last bits.
    """
    values: Float32 = (image.astype(np.float32) - MEAN_PIXEL).astype(np.float32, order="C")
    return values


def caffe(image: Picture) -> Float32:
    """RGB to BGR, minus (103.939, 116.779, 123.68). Source: Keras ``preprocess_input(mode="caffe")``."""
    values = image[..., ::-1].astype(np.float32, order="C")
    values -= CAFFE_MEAN
    return values


def torch(image: Picture) -> Float32:
    """RGB / 255, minus the mean, over the deviation of ImageNet. Source: Keras ``preprocess_input(mode="torch")``."""
    values = image.astype(np.float32, order="C")
    values /= np.float32(255)
    values -= TORCH_MEAN
    values /= TORCH_DEVIATION
    return values


def tf(image: Picture) -> Float32:
    """RGB / 127.5 - 1, so -1..1. Source: Keras ``preprocess_input(mode="tf")``."""
    values = image.astype(np.float32, order="C")
    values /= np.float32(127.5)
    values -= np.float32(1)
    return values


def unit(image: Picture) -> Float32:
    """RGB / 255, so 0..1. Source: KerasCV's ``Rescaling`` layer."""
    return image.astype(np.float32, order="C") * np.float32(1 / 255)


def nsfw(image: Picture) -> Float32:
    """RGB to BGR, minus (104, 117, 123). Source: opennsfw2's ``preprocess_image``."""
    values = image[..., ::-1].astype(np.float32, order="C")
    values -= NSFW_MEAN
    return values


def unchanged(image: Picture) -> Float32:
    """RGB 0..255 as float32: for networks that scale inside."""
    return image.astype(np.float32, order="C")


@dataclass(frozen=True)
class Convention:
    """How a family of networks was fed: its arithmetic, and what it does about size when nothing is asked for."""

    meaning: str  # the arithmetic in words
    arithmetic: Callable[[Picture], Float32]
    default_size: str
    interpolation: Interpolation  # for an explicit WIDTHxHEIGHT


CONVENTIONS = {
    "matterport": Convention("RGB, 0 to 255, minus (123.7, 116.8, 103.9)", subtract_mean_pixel, "square", "bilinear"),
    "caffe": Convention("BGR, 0 to 255, minus (103.939, 116.779, 123.68)", caffe, "224x224", "nearest"),
    "torch": Convention(
        "RGB, 0 to 1, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)", torch, "224x224", "nearest"
    ),
    "tf": Convention("RGB, -1 to 1", tf, "224x224", "nearest"),
    "unit": Convention("RGB, 0 to 1", unit, "224x224", "nearest"),
    "nsfw": Convention("BGR, 0 to 255, minus (104, 117, 123)", nsfw, "224x224", "bilinear"),
    "none": Convention("RGB, 0 to 255, as they are", unchanged, "none", "nearest"),
}


def mold(image: Picture, mode: Size = "square") -> Float32:
    """One picture [h, w, 3] as Mask R-CNN feeds it to its network: resized, padded, mean subtracted.

    Returns float32[h', w', 3]. Padding comes before the mean, so a black border holds minus the mean.
    Raises as ``resize_picture``, and ImageError for a batch.
    Source: matterport's ``resize_image`` and ``mold_image``, bit for bit.
    """
    if image.ndim == 4:
        raise ImageError(f"array {list(image.shape)}: mold takes one picture [h, w, 3]; prepare() takes a batch")
    return subtract_mean_pixel(resize_picture(_pictures(image)[0], mode, "bilinear"))


# The whole line


def prepare(source: object, preprocessing: str, size: Size | None = None) -> Float32:
    """Pictures as the float32[n, h, w, 3] that a network of the given convention takes.

    source         one of these, or a list or tuple of them that end at the same size:
                   a path to a picture file;
                   a path to a .npy of float32[n, h, w, 3] or [h, w, 3], prepared before: taken as it is, whatever the
                   other arguments say;
                   an array [h, w, 3] or [n, h, w, 3] of RGB values 0..255, integer or floating point: a picture;
                   grey [h, w] or [h, w, 1] is repeated to RGB, of [h, w, 4] the alpha is dropped
    preprocessing  a name in ``CONVENTIONS``
    size           "none", "square", "pad64", "WIDTHxHEIGHT" or (width, height); None for the convention's own

    Raises UsageError for an unknown convention, a bad size or a source of another type, ImageError for whatever is
    wrong with a picture, MissingExtraError when a picture file is given and Pillow is not there.
    """
    convention = CONVENTIONS.get(preprocessing)
    if convention is None:
        raise UsageError(f"preprocessing {preprocessing!r}: the conventions are {', '.join(CONVENTIONS)}; choose one")
    size = parse_size(convention.default_size if size is None else size)
    sources: Sequence[object] = source if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise ImageError("no picture given: the list is empty; give at least one")

    batches: list[Float32] = []
    for number, item in enumerate(sources, 1):
        name = f"picture {number} of {len(sources)}" if len(sources) > 1 else "picture"
        if isinstance(item, (str, os.PathLike)):
            name = os.fspath(item)
        batch = _prepare_one(item, name, convention, size)
        if batches and batch.shape[1:] != batches[0].shape[1:]:
            raise ImageError(
                f"{name}: {batch.shape[2]}x{batch.shape[1]} px, but the first is "
                f"{batches[0].shape[2]}x{batches[0].shape[1]} px; one batch has one size: "
                "choose one with --size square or --size WIDTHxHEIGHT, or run them one by one"
            )
        batches.append(batch)
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def _prepare_one(item: object, name: str, convention: Convention, size: Size) -> Float32:
    """One source of ``prepare`` as float32[n, h, w, 3]."""
    if isinstance(item, (str, os.PathLike)):
        if name.lower().endswith(".npy"):
            return _load_prepared(item)
        pictures: Picture = load_picture(item)[None]
    elif isinstance(item, np.ndarray):
        try:
            pictures = _pictures(item)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
    else:
        raise UsageError(
            f"{name}: {type(item).__name__}; a picture is a path or a numpy array; for anything else that holds pixels "
            "give numpy.asarray of it"
        )
    resized = [resize_picture(picture, size, convention.interpolation) for picture in pictures]
    return np.stack([convention.arithmetic(picture) for picture in resized])


def _pictures(array: NDArray[Any]) -> NDArray[Any]:
    """An array of picture values as [n, h, w, 3]: uint8, float32 or float64, finite, at least one pixel.

    Raises ImageError for any other shape, for dtypes that are not numbers, NaN, infinity, and integers beyond 0..255.
    """
    described = f"array {list(array.shape)} of {array.dtype}"
    if array.dtype.kind not in "uif":
        raise ImageError(f"{described}: pixels are integers or floating-point numbers 0..255; convert them")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4):
        raise ImageError(
            f"{described}: a picture is [h, w, 3] or [n, h, w, 3], grey [h, w] or [h, w, 1], or with alpha [h, w, 4]"
            + _transpose_hint(array.shape, (1, 3, 4))
        )
    if array.size == 0:
        raise ImageError(f"{described}: a picture has at least one pixel; an empty slice, perhaps?")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ImageError(f"{described}: holds NaN or infinity; a picture's values are 0..255: repair them first")
        # float16 is widened as scikit-image and Keras do; anything wider than float64 has no counterpart there.
        array = array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32, copy=False)
    elif array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ImageError(f"{described}: values from {low} to {high}; a picture's are 0..255: scale them first")
        array = array.astype(np.uint8)
    array = array[..., :3] if array.shape[-1] == 4 else np.broadcast_to(array, (*array.shape[:-1], 3))
    return array.reshape(-1, *array.shape[-3:])


def network_input(images: object, channels: int = 3, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Check what a network is called with, and return it as dtype[n, h, w, channels], C-contiguous and writeable.

    images    anything NumPy takes as an array of integers or floating-point numbers, [n, h, w, channels], or
              [h, w, channels] for a batch of one; values are converted to dtype and otherwise left alone, NaN and
              infinity included: nothing is scaled, no mean is subtracted
    channels  how many the network takes
    dtype     float32, or what the reference computes in

    An array that already is all this is returned as it is, not copied.
    Raises ImageError for any other dtype, rank or channel count, for empty arrays and for NCHW.
    """
    try:
        array = np.asarray(images)
    except Exception as error:  # ragged lists, tensors on another device: each library has its own error
        raise ImageError(
            f"input: {type(images).__name__} does not convert to one numpy array ({error}); "
            "give float32[n, h, w, c] with one size for all"
        ) from error
    described = f"input of shape {list(array.shape)} and dtype {array.dtype}"
    if array.dtype.kind not in "uif":
        raise ImageError(
            f"{described}: a network takes numbers, float32[n, h, w, {channels}]; "
            + ("prepare() reads picture files" if isinstance(images, (str, os.PathLike)) else "convert it first")
        )
    if array.ndim not in (3, 4):
        raise ImageError(f"{described}: a network takes [n, h, w, {channels}], or [h, w, {channels}] for one picture")
    if array.shape[-1] != channels:
        raise ImageError(
            f"{described}: {array.shape[-1]} channels, but the network takes {channels}, last: [n, h, w, {channels}]"
            + _transpose_hint(array.shape, (channels,))
        )
    if array.size == 0:
        raise ImageError(f"{described}: empty; every dimension must be at least 1")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, as in a cast anywhere else
        # Aligned and writeable too: compiled kernels would be compiled once more for a read-only array.
        array = np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])
    return array if array.ndim == 4 else array[None]


def _transpose_hint(shape: tuple[int, ...], channels: tuple[int, ...]) -> str:
    """How to put the channels last, where the shape looks as if they came before height and width."""
    if len(shape) < 3 or shape[-3] not in channels:
        return "; check the order of the axes"
    axes = "1, 2, 0" if len(shape) == 3 else "0, 2, 3, 1"
    return f"; this looks like channels first (NCHW): give images.transpose({axes})"
