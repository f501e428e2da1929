"""Pictures in images beside scikit-image, on which matterport's code runs: the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import CHOOSING, mold_picture, mold_picture_reference

VERSIONS = CHOOSING["mold_picture"]
MEAN = (123.7, 116.8, 103.9)
CASES = [  # of the picture, its window, and the image: larger, smaller, as it is, a single pixel, a single row
    ((30, 45, 3), (3, 0, 70, 64), (80, 64)),
    ((97, 61, 3), (0, 5, 20, 12), (20, 31)),
    ((32, 20, 3), (0, 0, 32, 20), (32, 20)),
    ((1, 1, 3), (2, 2, 7, 9), (9, 9)),
    ((1, 50, 3), (0, 0, 1, 100), (3, 100)),
]


def picture(*shape: int) -> np.ndarray:
    """Neither black nor white anywhere, so that the border is not as dark as black makes it."""
    return np.random.default_rng(shape[0]).integers(10, 250, shape, np.uint8)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.__name__)
@pytest.mark.parametrize(("shape", "window", "size"), CASES, ids=str)
def test_beside_scikit_image(version, shape, window, size):
    transform = pytest.importorskip("skimage.transform")
    given, (y1, x1, y2, x2) = picture(*shape), window
    found = version(given, window=window, size=size, mean=MEAN)
    options = {"order": 1, "mode": "constant", "cval": 0, "clip": True, "preserve_range": True}
    canvas = np.zeros((*size, 3), np.uint8)
    canvas[y1:y2, x1:x2] = transform.resize(given, (y2 - y1, x2 - x1), anti_aliasing=False, **options)
    assert found.dtype == np.float32
    assert np.array_equal(found, (canvas.astype(np.float32) - np.array(MEAN)).astype(np.float32))


@pytest.mark.parametrize(("shape", "window", "size"), CASES, ids=str)
def test_versions_and_threads(shape, window, size):
    given = picture(*shape)[::-1]  # not contiguous
    expected = mold_picture_reference(given, window=window, size=size, mean=MEAN)
    for threads in (1, 3):
        assert np.array_equal(mold_picture(given, window=window, size=size, mean=MEAN, threads=threads), expected)


@pytest.mark.parametrize(
    ("shape", "window", "mean", "said"),
    [
        ((4, 4), (0, 0, 4, 4), MEAN, "got a picture of shape"),
        ((0, 4, 3), (0, 0, 4, 4), MEAN, "got a picture of shape"),
        ((4, 4, 3), (0, 0, 4, 4), (1.0,), "and 1 means"),
        ((4, 4, 3), (0, 0, 9, 4), MEAN, "within the image of 8x8 pixels"),
        ((4, 4, 3), (-1, 0, 4, 4), MEAN, "within the image of 8x8 pixels"),
        ((4, 4, 3), (4, 0, 4, 4), MEAN, "must have pixels"),
    ],
    ids=str,
)
def test_refuses(shape, window, mean, said):
    for version in VERSIONS:
        with pytest.raises(ValueError, match=said):
            version(np.zeros(shape, np.uint8), window=window, size=8, mean=mean)
    with pytest.raises(TypeError, match="takes uint8"):
        mold_picture(np.zeros((4, 4, 3)), window=(0, 0, 4, 4), size=8, mean=MEAN)
