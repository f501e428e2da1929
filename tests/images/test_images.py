"""Pictures to network input, against the originals: scikit-image, Keras and Pillow themselves."""

import io
import os
import pickle
import platform
import struct
import sys
import warnings
import zlib
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from npresnet.errors import ImageError, MissingExtraError, UsageError
from npresnet.images import conventions, resizing
from npresnet.images.prepare import prepare
from npresnet.images.reading import load_picture
from npresnet.images.resizing import parse_size, resize_bilinear, resize_nearest, resize_picture
from npresnet.network.inputs import network_input

# Compilers for other processors may fuse SciPy's multiplications and additions: same formula, other last bits.
SAME_LAST_BITS = platform.machine().lower() in ("x86_64", "amd64")


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


def noise(h: int, w: int, c: int = 3, low: int = 0, high: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(low, high, (h, w, c)).astype(np.uint8)


def skimage_resize(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    transform = pytest.importorskip("skimage.transform")
    resized: NDArray[Any] = transform.resize(
        image, shape, order=1, mode="constant", cval=0, clip=True, preserve_range=True, anti_aliasing=False
    )
    return resized


def save(path: Path, image: NDArray[Any] | Image.Image, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


# Bilinear, against scikit-image

SHAPES = [
    # (h, w) -> (h', w')
    ((1, 1), (1, 1)),
    ((1, 1), (5, 7)),
    ((1, 9), (4, 1)),
    ((2, 3), (1, 1)),
    ((7, 5), (7, 5)),
    ((7, 5), (7, 11)),
    ((8, 8), (16, 16)),
    ((16, 16), (8, 8)),
    ((31, 33), (32, 32)),
    ((33, 31), (17, 16)),
    ((60, 47), (13, 101)),
    ((97, 89), (3, 2)),
    ((3, 2), (97, 89)),
    ((48, 64), (768, 1024)),
    ((427, 640), (683, 1024)),
    ((600, 799), (800, 1065)),
]


def assert_resized_alike(image: NDArray[Any], shape: tuple[int, int]) -> None:
    ours, theirs = resize_bilinear(image, shape), skimage_resize(image, shape)
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape
    if SAME_LAST_BITS:
        np.testing.assert_array_equal(ours.astype(theirs.dtype), theirs)
        np.testing.assert_array_equal(ours.astype(image.dtype), theirs.astype(image.dtype))
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6 if image.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_bilinear_has_the_bits_of_skimage(source: tuple[int, int], target: tuple[int, int]) -> None:
    assert_resized_alike(noise(*source), target)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(*[st.integers(1, 70)] * 4), st.sampled_from([1, 2, 3, 4]), st.integers(0, 200))
def test_bilinear_has_the_bits_of_skimage_at_any_size(sides: Any, channels: int, low: int) -> None:
    h, w, height, width = sides
    assert_resized_alike(noise(h, w, channels, low=low, seed=sum(sides)), (height, width))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", [(23, 61), (90, 40)])
def test_bilinear_of_floats(dtype: Any, target: tuple[int, int]) -> None:
    image = np.random.default_rng(1).uniform(-300, 300, (37, 41, 3)).astype(dtype)
    assert_resized_alike(image, target)


@pytest.mark.parametrize("target", [(7, 7), (11, 49), (3, 5)])
def test_bilinear_of_one_bright_corner(target: tuple[int, int]) -> None:
    """Three black neighbours add nothing, so the last bits of the weights themselves show."""
    assert_resized_alike(np.array([[[0.0], [0.0]], [[0.0], [1.0]]]), target)


def test_bilinear_takes_views() -> None:
    image = noise(40, 30)
    for view in (image[::-1], image[:, ::-2], image[..., ::-1], image.transpose(1, 0, 2), np.asfortranarray(image)):
        np.testing.assert_array_equal(resize_bilinear(view, (19, 52)), resize_bilinear(view.copy(), (19, 52)))


def test_bilinear_darkens_the_border_down_to_the_darkest_pixel() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert (resize_bilinear(grey, (16, 16)) == 100).all()  # clipped: nothing in the picture is darker
    grey[4, 4] = 0
    border = resize_bilinear(grey, (16, 16))
    assert border[0, 0, 0] == 56.25  # 3/4 of 3/4 of the weight on the picture
    assert border[0, 3, 0] == 75


# Nearest, against Pillow


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(*[st.integers(1, 700)] * 4))
def test_nearest_has_the_pixels_of_pillow(sides: tuple[int, int, int, int]) -> None:
    h, w, height, width = sides
    # The coordinates are the pixel, so that any other choice shows.
    y, x = np.indices((h, w))
    image = np.stack([y % 251, x % 251, y // 251 + 16 * (x // 251)], axis=-1).astype(np.uint8)
    theirs = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_nearest(image, (height, width)), theirs)


@pytest.mark.parametrize("target", [(224, 224), (1, 1), (333, 77), (1024, 5)])
def test_nearest_of_a_very_tall_picture(target: tuple[int, int]) -> None:
    image = noise(2500, 7)  # beyond 100:1, where Pillow goes another way
    theirs = np.asarray(Image.fromarray(image).resize(target[::-1], Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_nearest(image, target), theirs)


# Arithmetic, against Keras


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arithmetic_has_the_bits_of_keras(keras: Any, mode: str, dtype: Any) -> None:
    every_value = np.stack([np.roll(np.arange(256), 85 * c) for c in range(3)], axis=-1).reshape(2, 8, 16, 3)
    values = every_value.astype(dtype)
    if dtype != np.uint8:
        values = values + np.random.default_rng(0).uniform(-0.5, 0.5, values.shape).astype(dtype)
    given = values.copy()
    ours = conventions.CONVENTIONS[mode].arithmetic(values)
    theirs = keras.applications.imagenet_utils.preprocess_input(
        values.astype("float32"), data_format="channels_last", mode=mode
    )
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(values, given)  # Keras overwrites its argument; we do not


def test_arithmetic_of_mask_rcnn() -> None:
    every_value = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1).reshape(16, 16, 3)
    ours = conventions.subtract_mean_pixel(every_value)
    exact = every_value.astype(np.float64) - [123.7, 116.8, 103.9]
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, exact.astype(np.float32))
    # All in float32 is not the same; if it were, this test could not see the difference.
    assert (ours != every_value.astype(np.float32) - np.array([123.7, 116.8, 103.9], np.float32)).any()


@pytest.mark.parametrize("name", conventions.CONVENTIONS)
def test_arithmetic_of_views_is_contiguous(name: str) -> None:
    image = noise(8, 9).transpose(1, 0, 2)
    ours = conventions.CONVENTIONS[name].arithmetic(image)
    assert ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, conventions.CONVENTIONS[name].arithmetic(image.copy()))


def test_no_arithmetic() -> None:
    image = noise(3, 4)
    ours = conventions.CONVENTIONS["none"].arithmetic(image)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, image)


# Mask R-CNN's sizes


def mask_rcnn(image: NDArray[Any], mode: str) -> NDArray[Any]:
    """What Mask R-CNN does to a picture before its network, written from its description, on skimage and np.pad."""
    h, w = image.shape[:2]
    scale = max(1, 800 / min(h, w))
    if mode == "square" and round(max(h, w) * scale) > 1024:
        scale = 1024 / max(h, w)
    resized = skimage_resize(image, (round(h * scale), round(w * scale))) if scale != 1 else image
    sides = [1024, 1024] if mode == "square" else [side + -side % 64 for side in resized.shape[:2]]
    missing = [side - have for side, have in zip(sides, resized.shape[:2], strict=True)]
    padding = [(total // 2, total - total // 2) for total in missing]
    padded = np.pad(resized, [*padding, (0, 0)]).astype(image.dtype)
    molded: NDArray[Any] = (padded.astype(np.float32) - np.array([123.7, 116.8, 103.9])).astype(np.float32)
    return molded


@pytest.mark.skipif(not SAME_LAST_BITS, reason="one grey level may differ where SciPy's last bits do")
@pytest.mark.parametrize(
    ("h", "w", "mode", "result"),
    [
        (40, 64, "square", (1024, 1024)),
        (64, 40, "square", (1024, 1024)),
        (427, 640, "square", (1024, 1024)),  # odd padding
        (801, 905, "square", (1024, 1024)),  # neither up nor down
        (1200, 1600, "square", (1024, 1024)),
        (13, 5000, "square", (1024, 1024)),  # three rows remain
        (100, 125, "square", (1024, 1024)),
        (400, 600, "pad64", (832, 1216)),
        (801, 905, "pad64", (832, 960)),
        (832, 896, "pad64", (832, 896)),
        (640, 427, "pad64", (1216, 832)),
        (1100, 1300, "pad64", (1152, 1344)),
    ],
)
def test_matterport_has_the_bits_of_mask_rcnn(h: int, w: int, mode: str, result: tuple[int, int]) -> None:
    image = noise(h, w, seed=h + w)
    ours = prepare(image, "matterport", mode)[0]
    assert ours.shape == (*result, 3)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, mask_rcnn(image, mode))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matterport_square_is_the_default_and_float_pictures_keep_their_fractions(dtype: Any) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (60, 90, 3)).astype(dtype)
    ours = prepare(image, "matterport")[0]
    np.testing.assert_array_equal(ours, prepare(image, "matterport", "square")[0])
    if SAME_LAST_BITS:
        np.testing.assert_array_equal(ours, mask_rcnn(image, "square"))


def test_matterport_none_and_explicit_size() -> None:
    image = noise(50, 70)
    np.testing.assert_array_equal(prepare(image, "matterport", "none")[0], conventions.subtract_mean_pixel(image))
    truncated = resize_bilinear(image, (33, 44)).astype(np.uint8)
    np.testing.assert_array_equal(prepare(image, "matterport", "44x33")[0], conventions.subtract_mean_pixel(truncated))


def test_black_border_holds_minus_the_mean() -> None:
    np.testing.assert_array_equal(
        prepare(noise(100, 200), "matterport")[0, 0, 0], np.array([-123.7, -116.8, -103.9], np.float32)
    )


@pytest.mark.parametrize(("shape", "mode", "becomes"), [((1, 5000), "square", "1024x0"), ((1, 50), "pad64", "40000x")])
def test_slivers_are_refused(shape: tuple[int, int], mode: str, becomes: str) -> None:
    with pytest.raises(ImageError, match=becomes):
        prepare(noise(*shape), "matterport", mode)


# Sizes as text


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("none", "none"),
        (" Square ", "square"),
        ("pad64", "pad64"),
        ("640x480", (640, 480)),
        ("1X32768", (1, 32768)),
        ((np.int64(3), 4), (3, 4)),
    ],
)
def test_parse_size(given: Any, parsed: Any) -> None:
    assert parse_size(given) == parsed


@pytest.mark.parametrize(
    "given",
    ["", "640", "640x", "0x5", "5x0", "-5x5", "5x32769", "1e3x5", "5 x 5", "5x5x3", "9" * 5000 + "x5", "crop", "٣x٣",
     (5,), (5, 0), (5, -1), (5.0, 5), (1, 2, 3), 224, ("a", "b"), (32769, 1)],
)  # fmt: skip
def test_parse_size_refuses(given: Any) -> None:
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        parse_size(given)


# Reading


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_eight_bit_modes_are_read_as_keras_reads_them(keras: Any, tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise(13, 17, 4 if mode.endswith("A") else 3))
    # No one format holds them all.
    suffix = {"CMYK": "tif", "LAB": "tif", "YCbCr": "jpg"}.get(mode, "png")
    path = save(tmp_path / f"picture.{suffix}", image.convert(mode))
    with Image.open(path) as written:
        assert written.mode == ("RGB" if mode == "YCbCr" else mode)
    ours = load_picture(path)
    assert ours.dtype == np.uint8
    assert ours.shape == (13, 17, 3)
    assert ours.flags.writeable
    np.testing.assert_array_equal(ours, np.asarray(keras.utils.load_img(path)))


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    image = noise(6, 5, 4)
    image[..., 3] = 0
    np.testing.assert_array_equal(load_picture(save(tmp_path / "clear.png", image)), image[..., :3])


def test_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    image = Image.fromarray(noise(6, 5)).quantize(8)
    path = save(tmp_path / "palette.png", image, transparency=bytes([0, 128, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_picture(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path, suffix: str) -> None:
    grey = np.array([[0, 255, 256, 257], [32768, 40000, 65279, 65535]], np.uint16)
    path = save(tmp_path / f"deep.{suffix}", grey)
    with Image.open(path) as written:
        assert written.mode.startswith("I")
    np.testing.assert_array_equal(load_picture(path), np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_sixteen_bit_grey_big_endian(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 40000, 65535]], ">u2")
    path = save(tmp_path / "deep.tif", Image.frombytes("I;16B", (4, 1), grey.tobytes()))
    np.testing.assert_array_equal(load_picture(path)[0, :, 0], [0, 1, 156, 255])


def test_sixteen_bit_grey_agrees_with_sixteen_bit_colour(tmp_path: Path) -> None:
    """The same ramp, once as a grey and once as a colour PNG, which Pillow cannot write."""
    ramp = np.arange(0, 65536, 257 - 7, dtype=np.uint16)[None]
    grey = load_picture(save(tmp_path / "grey.png", ramp))
    rows = b"\0" + np.repeat(ramp[0], 3).astype(">u2").tobytes()
    header = struct.pack(">IIBBBBB", ramp.size, 1, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    colour = tmp_path / "colour.png"
    colour.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )
    np.testing.assert_array_equal(grey, load_picture(colour))


def test_integers_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    for value in (-1, 65536):
        path = save(tmp_path / "wide.tif", np.array([[0, value]], np.int32))
        with pytest.raises(ImageError, match="16-bit"):
            load_picture(path)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "float.tif", np.array([[0.0, 1.0]], np.float32))
    with pytest.raises(ImageError, match="floating-point"):
        load_picture(path)


def test_first_frame_of_an_animation(keras: Any, tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(9, 8, seed=seed)).quantize(16) for seed in range(3)]
    path = save(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    with Image.open(path) as written:
        assert getattr(written, "n_frames", 1) == 3
    ours = load_picture(path)
    np.testing.assert_array_equal(ours, np.asarray(frames[0].convert("RGB")))
    np.testing.assert_array_equal(ours, np.asarray(keras.utils.load_img(path)))


def test_exif_orientation_is_not_applied(keras: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = save(tmp_path / "turned.jpg", noise(16, 24), exif=exif)
    ours = load_picture(path)
    assert ours.shape == (16, 24, 3)
    np.testing.assert_array_equal(ours, np.asarray(keras.utils.load_img(path)))


FORMATS: dict[str, dict[str, Any]] = {
    "jpg": {},
    "progressive.jpg": {"progressive": True},
    "png": {},
    "gif": {},
    "bmp": {},
    "tif": {"compression": "tiff_lzw"},
    "webp": {},
    "ppm": {},
}


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_picture_is_refused_or_complete(tmp_path: Path, name: str) -> None:
    whole = save(tmp_path / f"whole.{name}", Image.fromarray(noise(24, 33)), **FORMATS[name])
    data, pixels = whole.read_bytes(), load_picture(whole)
    cut = tmp_path / f"cut.{name}"
    for size in np.linspace(1, len(data) - 1, 23).astype(int):
        cut.write_bytes(data[:size])
        # What is cut may be an ending that no pixel needs.
        if size > 0.98 * len(data):
            with suppress(ImageError):
                np.testing.assert_array_equal(load_picture(cut), pixels)
        else:
            with pytest.raises(ImageError, match=name):
                load_picture(cut)


@pytest.mark.parametrize("name", ["jpg", "progressive.jpg", "png", "gif"])
def test_file_that_ends_in_zeros_is_refused(tmp_path: Path, name: str) -> None:
    """An interrupted download into a file of the full size."""
    whole = save(tmp_path / f"whole.{name}", Image.fromarray(noise(64, 65)), **FORMATS[name])
    data = whole.read_bytes()
    damaged = tmp_path / f"damaged.{name}"
    for size in (len(data) // 3, len(data) // 2, len(data) * 9 // 10):
        damaged.write_bytes(data[:size] + bytes(len(data) - size))
        with pytest.raises(ImageError, match=r"damaged|not a picture"):
            load_picture(damaged)


@pytest.mark.parametrize(
    "options",
    [
        {"restart_marker_blocks": 1},
        {"restart_marker_rows": 1, "subsampling": 0},
        {"progressive": True, "quality": 100},
        {"quality": 1},
        {"comment": b"\xff\xd9 an end of image, \xff\xda a scan"},
        {"icc_profile": bytes(range(256)) * 300},  # two segments
    ],
)
def test_sound_jpeg_is_read(tmp_path: Path, options: Any) -> None:
    path = save(tmp_path / "picture.jpg", noise(40, 50), **options)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(load_picture(path), pixels)
    with open(path, "ab") as file:
        file.write(b"\xff\xda what some cameras append")
    np.testing.assert_array_equal(load_picture(path), pixels)


def test_thumbnail_does_not_hide_a_missing_end(tmp_path: Path) -> None:
    thumbnail = save(tmp_path / "thumbnail.jpg", noise(8, 8)).read_bytes()
    data = save(tmp_path / "whole.jpg", noise(64, 65), comment=thumbnail).read_bytes()
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(data[:-1000] + bytes(1000))
    with pytest.raises(ImageError, match="no end-of-image marker"):
        load_picture(damaged)


def test_flipped_bits_in_a_png_are_seen(tmp_path: Path) -> None:
    data = save(tmp_path / "whole.png", noise(20, 20)).read_bytes()
    end = len(data) - 12  # of the pixels: the rest is the end chunk
    damaged = tmp_path / "damaged.png"
    for position in np.linspace(8, end - 1, 40).astype(int):
        damaged.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        with pytest.raises(ImageError, match="damaged"):
            load_picture(damaged)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    for name, content, message in [
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"hello, this is text\n", r"not a picture.*hello"),
        ("page.png", b"<!DOCTYPE html><html>", "not a picture"),
        ("pointer.png", b"version https://git-lfs.github.com/spec/v1\n", "not a picture"),
        ("weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageError, match=message):
            load_picture(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere.jpg: no such file"):
        load_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="directory"):
        load_picture(tmp_path)
    with pytest.raises(ImageError, match="null byte"):
        load_picture("a\0b.png")


@pytest.mark.parametrize("filter_", ["error", "ignore"])
@pytest.mark.parametrize("pixels", [10 * 10 - 1, 10 * 10 // 2 - 1])  # Pillow only warns about the first
def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filter_: Any, pixels: int) -> None:
    path = save(tmp_path / "bomb.png", noise(10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with warnings.catch_warnings():
        warnings.simplefilter(filter_)
        with pytest.raises(ImageError, match="too many pixels"):
            load_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_picture(path).shape == (10, 10, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_picture(path).shape == (10, 10, 3)


def test_bomb_is_not_decoded(tmp_path: Path) -> None:
    """A few bytes that claim 60000x60000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ImageError, match="too many pixels"):
        load_picture(tmp_path / "bomb.png")


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "picture.png", noise(4, 4))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r'pip install "npresnet\[cli\]"'):
        load_picture(path)
    # Everything but reading a picture file works.
    assert prepare(noise(30, 40), "caffe").shape == (1, 224, 224, 3)
    assert prepare(noise(30, 40), "matterport").shape == (1, 1024, 1024, 3)


def test_bundled_photograph() -> None:
    data = resources.files("npresnet.data")
    with resources.as_file(data / "photograph.jpg") as path:
        assert path.stat().st_size <= 60_000
        picture = load_picture(path)
    assert picture.shape == (400, 600, 3)
    assert picture.std(axis=(0, 1)).min() > 30  # a photograph, not a grey card
    assert "CC0" in (data / "README.md").read_text(encoding="utf-8")


# The whole line


@pytest.mark.parametrize(("h", "w"), [(31, 47), (224, 224), (500, 333), (223, 225)])
@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
def test_prepare_has_the_bits_of_keras(keras: Any, tmp_path: Path, mode: str, h: int, w: int) -> None:
    path = save(tmp_path / "picture.png", noise(h, w))
    for size, target in ((None, (224, 224)), ("100x50", (50, 100)), ((7, 9), (9, 7))):
        image = keras.utils.img_to_array(keras.utils.load_img(path, target_size=target))
        theirs = keras.applications.imagenet_utils.preprocess_input(image[None], data_format="channels_last", mode=mode)
        ours = prepare(path, mode, size)
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, theirs)


def test_prepare_defaults() -> None:
    image = noise(50, 90)
    np.testing.assert_array_equal(
        prepare(image, "matterport"), conventions.subtract_mean_pixel(resize_picture(image, "square"))[None]
    )
    np.testing.assert_array_equal(
        prepare(image, "matterport", "pad64"), conventions.subtract_mean_pixel(resize_picture(image, "pad64"))[None]
    )
    np.testing.assert_array_equal(prepare(image, "none"), image[None].astype(np.float32))


def test_explicit_size_is_bilinear_for_mask_rcnn_and_nearest_for_the_others() -> None:
    image = noise(50, 90)
    bilinear = resize_bilinear(image, (40, 30)).astype(np.uint8)
    np.testing.assert_array_equal(prepare(image, "matterport", "30x40")[0], conventions.subtract_mean_pixel(bilinear))
    np.testing.assert_array_equal(
        prepare(image, "caffe", "30x40")[0], conventions.caffe(resize_nearest(image, (40, 30)))
    )


def test_mask_rcnn_sizes_for_every_convention() -> None:
    image = noise(50, 90)
    molded = resizing.resize_picture(image, "square")
    for name, convention in conventions.CONVENTIONS.items():
        np.testing.assert_array_equal(prepare(image, name, "square")[0], convention.arithmetic(molded))


def test_prepare_takes_files_arrays_and_lists(tmp_path: Path) -> None:
    a, b = noise(20, 30, seed=1), noise(20, 30, seed=2)
    path = save(tmp_path / "a.png", a)
    expected = np.stack([a, b]).astype(np.float32)
    for source in ([path, b], (str(path), b), np.stack([a, b]), [a.astype(np.float64), b.astype(np.int64)]):
        np.testing.assert_array_equal(prepare(source, "none"), expected)
    np.testing.assert_array_equal(prepare([np.stack([a, b]), path], "none"), expected[[0, 1, 0]])


def test_prepare_takes_grey_and_alpha() -> None:
    grey = noise(20, 30, 1)
    expected = np.repeat(grey, 3, axis=2)[None].astype(np.float32)
    np.testing.assert_array_equal(prepare(grey, "none"), expected)
    np.testing.assert_array_equal(prepare(grey[..., 0], "none"), expected)
    np.testing.assert_array_equal(prepare(grey[None], "none"), expected)
    rgba = noise(20, 30, 4)
    np.testing.assert_array_equal(prepare(rgba, "none"), rgba[None, ..., :3].astype(np.float32))


def test_prepare_keeps_the_fractions_of_float_pictures() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (9, 8, 3))
    np.testing.assert_array_equal(prepare(image, "tf", "none")[0], conventions.tf(image))
    half = image.astype(np.float16)
    np.testing.assert_array_equal(prepare(half, "none")[0], half.astype(np.float32))


def test_prepare_does_not_alias_or_change_its_source() -> None:
    image = noise(9, 8).astype(np.float32)
    before = image.copy()
    prepared = prepare(image, "none")
    prepared[:] = -1
    np.testing.assert_array_equal(image, before)


def test_prepared_npy_is_taken_as_it_is(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 100, (2, 6, 7, 3)).astype(np.float32)
    array[0, 0, 0, 0] = np.nan
    for saved in (array, array[0], array.astype(np.float64), np.asfortranarray(array), array.astype(">f4")):
        np.save(tmp_path / "prepared.npy", saved)
        ours = prepare(str(tmp_path / "prepared.npy"), "caffe", "square")
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        assert ours.flags.writeable
        np.testing.assert_array_equal(ours, saved.reshape(-1, 6, 7, 3))
    # The array does not change with its file.
    with open(tmp_path / "prepared.npy", "r+b") as file:
        file.seek(-8, io.SEEK_END)
        file.write(b"\xff" * 8)
    np.testing.assert_array_equal(ours, array)


class Unpickled:
    happened = False

    def __setstate__(self, state: object) -> None:
        Unpickled.happened = True

    def __getstate__(self) -> object:
        return 1


def test_unfit_npy(tmp_path: Path) -> None:
    path = tmp_path / "input.npy"

    def refused(message: str) -> None:
        with pytest.raises(ImageError, match=message) as error:
            prepare(path, "caffe")
        assert str(path) in str(error.value)

    refused("no such file")
    unfit: list[tuple[NDArray[Any], str]] = [
        (np.zeros((4, 5, 3), np.uint8), "uint8"),
        (np.zeros((4, 5), np.float32), r"\[n, h, w, 3\]"),
        (np.zeros((1, 3, 4, 5), np.float32), r"transpose\(0, 2, 3, 1\)"),
        (np.zeros((1, 4, 5, 4), np.float32), "4 channels"),
        (np.array([{}], object), "Python objects"),
    ]
    for array, message in unfit:
        np.save(path, array, allow_pickle=True)
        refused(message)
    path.write_bytes(pickle.dumps(Unpickled()))
    refused("not a readable")
    assert not Unpickled.happened
    np.save(path, np.zeros((4, 5, 3), np.float32))
    data = path.read_bytes()
    for content in (b"", b"hello", data[:20], data[:-1], data.replace(b"(4, 5, 3)", b"(4,55,33)")):
        path.write_bytes(content)
        refused("not a readable")
    # A header that claims terabytes costs nothing.
    path.write_bytes(data.replace(b"(4, 5, 3), }" + b" " * 9, b"(4, 9999999999, 3), }"))
    refused("not a readable")
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(3))
    refused("npz")
    path.unlink()
    path.mkdir()
    refused("directory")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 2), np.uint8), r"\[4, 5, 2\]"),
        (np.zeros((3, 40, 50), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((1, 3, 40, 50), np.float32), r"transpose\(0, 2, 3, 1\)"),
        (np.zeros(7, np.uint8), r"\[7\]"),
        (np.zeros((1, 1, 4, 5, 3), np.uint8), r"\[1, 1, 4, 5, 3\]"),
        (np.zeros((0, 5, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 5, 3), bool), "bool"),
        (np.zeros((4, 5, 3), complex), "complex"),
        (np.zeros((4, 5, 3), object), "object"),
        (np.full((4, 5, 3), 256, np.uint16), "256"),
        (np.full((4, 5, 3), -1), "-1"),
        (np.full((4, 5, 3), -0.5), r"values from -0\.5 .* 0\.\.255"),
        (np.full((2, 4, 5, 3), 255.5, np.float32), r"to 255\.5; .* call the network itself"),
        (np.linspace(0, 1, 60).reshape(4, 5, 3), r"looks like 0\.\.1: multiply it by 255 .*uint8"),
        (np.full((4, 5), 0.5, np.float16), "multiply it by 255"),
        (np.full((4, 5, 3), np.nan), "NaN"),
        (np.full((4, 5, 3), np.inf, np.float32), "infinity"),
    ],
)
def test_prepare_refuses_arrays(array: NDArray[Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        prepare(array, "caffe")


def test_dark_pictures() -> None:
    """All black, or as whole numbers: nothing of that looks like 0 to 1."""
    for array in (
        np.zeros((4, 5, 3)),
        np.full((4, 5, 3), 1),
        np.full((4, 5, 3), 1, np.uint8),
        np.full((4, 5, 3), 1.01),
    ):
        np.testing.assert_array_equal(prepare(array, "none")[0], array.astype(np.float32))


def test_pictures_for_one_channel(tmp_path: Path) -> None:
    """As ``load_img(color_mode="grayscale")`` reads them, whatever the file holds."""
    from keras.utils import load_img

    colour = noise(9, 8)
    for name, mode in (
        ("rgb.png", "RGB"),
        ("alpha.png", "RGBA"),
        ("grey.png", "L"),
        ("few.png", "P"),
        ("two.png", "1"),
    ):
        path = tmp_path / name
        Image.fromarray(colour).convert(mode).save(path)
        expected = np.asarray(load_img(path, color_mode="grayscale"), np.float32)
        np.testing.assert_array_equal(prepare(path, "none", channels=1)[0, ..., 0], expected)
    grey = save(tmp_path / "deep.png", (colour[..., 0].astype(np.uint16) << 8) | 7)
    np.testing.assert_array_equal(prepare(grey, "unit", "none", channels=1)[0], colour[..., :1] * np.float32(1 / 255))
    for array in (colour[..., 0], colour[..., :1], colour[None, ..., :1]):
        np.testing.assert_array_equal(prepare(array, "none", channels=1), colour[None, ..., :1].astype(np.float32))
    np.save(tmp_path / "grey.npy", np.ones((9, 8, 1), np.float32))
    assert prepare(tmp_path / "grey.npy", "none", channels=1).shape == (1, 9, 8, 1)
    for array in (colour, noise(9, 8, 4)):
        with pytest.raises(ImageError, match=r"one channel: .* \[h, w\], \[h, w, 1\]"):
            prepare(array, "none", channels=1)
    for preprocessing in ("caffe", "torch", "matterport", "nsfw"):
        with pytest.raises(
            UsageError, match=r"red, green and blue, but the network takes 1 channel; .* tf, unit, none"
        ):
            prepare(colour[..., 0], preprocessing, channels=1)


def test_pictures_for_other_channels(tmp_path: Path) -> None:
    array = noise(9, 8, 5)
    np.testing.assert_array_equal(prepare(array, "none", channels=5)[0], array.astype(np.float32))
    assert prepare(array, "tf", (4, 3), channels=5).shape == (1, 3, 4, 5)
    with pytest.raises(ImageError, match=r"takes 5 channels: a picture for it is \[h, w, 5\]"):
        prepare(noise(9, 8), "none", channels=5)
    with pytest.raises(ImageError, match=r"rgb\.png: the network takes 5 channels.* array \[h, w, 5\]"):
        prepare(save(tmp_path / "rgb.png", noise(9, 8)), "none", channels=5)


def test_prepare_refuses_a_batch_of_two_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "b.png", noise(20, 31))
    with pytest.raises(ImageError, match=r"b\.png: 31x20 px, but the first is 30x20 px.*--size"):
        prepare([noise(20, 30), path], "none")
    with pytest.raises(ImageError, match=r"picture 3 of 3: 7x5"):
        prepare([noise(6, 7), noise(6, 7), noise(5, 7)], "none")
    assert prepare([noise(20, 30), path], "caffe").shape == (2, 224, 224, 3)


def test_prepare_names_the_bad_picture() -> None:
    with pytest.raises(ImageError, match="picture 2 of 2: array"):
        prepare([noise(6, 7), noise(6, 7, 2)], "none")


def test_prepare_refuses_wrong_use() -> None:
    with pytest.raises(UsageError, match=r"'resnet': the conventions are matterport, caffe"):
        prepare(noise(4, 4), "resnet")
    with pytest.raises(UsageError, match="640x480"):
        prepare(noise(4, 4), "caffe", "0x0")
    with pytest.raises(ImageError, match="empty"):
        prepare([], "caffe")
    for source in (None, 7, [[noise(4, 4)]], {"a": 1}, b"picture.png"):
        with pytest.raises(UsageError, match=r"numpy\.asarray"):
            prepare(source, "caffe")


# What the network itself is called with


def test_network_input_does_not_copy_what_fits() -> None:
    images_ = np.zeros((2, 5, 6, 3), np.float32)
    assert network_input(images_) is images_
    assert np.shares_memory(network_input(images_[0]), images_)
    assert network_input(images_[0]).shape == (1, 5, 6, 3)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int64", "float16", "float64", ">f4", ">f8"])
@pytest.mark.parametrize("to", [np.float32, np.float64])
def test_network_input_converts_values_unchanged(dtype: Any, to: Any) -> None:
    values = np.arange(2 * 3 * 5 * 3).reshape(2, 3, 5, 3).astype(dtype)
    ours = network_input(values, dtype=to)
    assert ours.dtype == to
    assert ours.dtype.isnative
    np.testing.assert_array_equal(ours, values.astype(to))


def test_network_input_makes_any_memory_contiguous() -> None:
    base = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)
    unaligned = np.frombuffer(bytearray(b"\0" + base.tobytes()), np.float32, base.size, offset=1).reshape(base.shape)
    read_only = base.copy()
    read_only.flags.writeable = False
    views = [base[:, ::-1], base[:, :, ::2], base[..., ::-1], base.transpose(0, 2, 1, 3), np.asfortranarray(base)]
    for view in [*views, unaligned, read_only, np.broadcast_to(base[0], base.shape)]:
        ours = network_input(view)
        assert ours.flags.c_contiguous
        assert ours.flags.aligned
        assert ours.flags.writeable
        np.testing.assert_array_equal(ours, view)


def test_network_input_leaves_nan_and_infinity() -> None:
    values = np.full((1, 1, 2, 3), [np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(network_input(values), values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isposinf(network_input(np.full((1, 1, 1, 3), 1e300))).all()


def test_network_input_takes_nested_lists_and_other_channel_counts() -> None:
    assert network_input([[[1, 2, 3]]]).shape == (1, 1, 1, 3)
    assert network_input(np.zeros((1, 4, 4, 64)), channels=64).shape == (1, 4, 4, 64)
    # Three rows are not channels first.
    assert network_input(np.zeros((1, 3, 5, 3))).shape == (1, 3, 5, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 3, 224, 224), np.float32), r"NCHW.*transpose\(0, 2, 3, 1\)"),
        (np.zeros((3, 224, 224), np.float32), r"NCHW.*transpose\(1, 2, 0\)"),
        (np.zeros((1, 5, 5, 4), np.float32), "4 channels, but the network takes 3"),
        (np.zeros((5, 5), np.float32), r"\[5, 5\].*\[h, w, 3\] for one"),
        (np.zeros((1, 1, 5, 5, 3), np.float32), r"\[n, h, w, 3\]"),
        (np.zeros((0, 5, 5, 3), np.float32), "empty"),
        (np.zeros((1, 0, 5, 3), np.float32), "empty"),
        (np.zeros((1, 5, 5, 3), bool), "bool"),
        (np.zeros((1, 5, 5, 3), np.complex64), "complex64"),
        (np.zeros((1, 5, 5, 3), object), "object"),
        (np.zeros((1, 5, 5, 3), "datetime64[s]"), "datetime64"),
        (np.full((1, 5, 5, 3), "7"), "convert it first"),
        ("street.jpg", r"prepare\(\)"),
        (Path("street.jpg"), r"prepare\(\)"),
        (None, "object"),
        ([np.zeros((5, 5, 3)), np.zeros((6, 5, 3))], "does not convert"),
    ],
)
def test_network_input_refuses(given: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        network_input(given)
