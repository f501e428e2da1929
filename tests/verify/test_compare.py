"""The comparison must be able to fail: everything else here rests on it."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.verify.compare import RELATIVE, WORST, Difference, compare

RNG = np.random.default_rng(11)
MAP = RNG.normal(size=(1, 512, 512, 4)).astype(np.float32)  # a large feature map, root mean square 1
SMALL = MAP[:, :5, :7]


def changed(place, value, array=SMALL):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros_like(SMALL),
        np.full_like(SMALL, np.nan),
        np.full_like(SMALL, np.inf),
        changed((0, 2, 3, 1), np.nan),
        changed((0, 0, 0, 0), np.nan),
        changed((0, -1, -1, -1), np.nan),
        changed((0, 2, 3, 1), np.inf),
        changed((0, 2, 3, 1), -np.inf),
        -SMALL,
        2 * SMALL,
        SMALL + np.float32(1e-3),
        SMALL * np.float32(1.0001),
        SMALL[:, ::-1],
        np.roll(SMALL, 1, axis=-1),
        SMALL.astype(np.float64),
        SMALL.astype(np.float16),
        SMALL[0],
        SMALL[:, :-1],
        SMALL[..., :1],
        SMALL.reshape(1, 7, 5, 4),
        SMALL.swapaxes(1, 2),
        np.float32(0),
    ],
    ids=lambda wrong: None,
)
def test_rejects(wrong):
    difference = compare(wrong, SMALL)
    assert not difference.agrees()
    assert not compare(wrong, SMALL.astype(np.float64)).agrees()


@pytest.mark.parametrize("corner", [(0, 0, 0, 0), (0, 0, -1, 0), (0, -1, 0, -1), (0, -1, -1, -1)], ids=str)
@pytest.mark.parametrize("error", [0.01, -0.01, 1, 1e30, np.nan, np.inf])
def test_rejects_one_bad_corner_in_a_large_map(corner, error):
    """1 % of the root mean square, in one of a million numbers."""
    assert compare(MAP, MAP).agrees()
    assert not compare(changed(corner, MAP[corner] + np.float32(error), MAP), MAP).agrees()


def test_rejects_zeros_for_a_map_with_one_number():
    expected = changed((0, -1, -1, -1), 1e-20, np.zeros_like(SMALL))
    assert not compare(np.zeros_like(SMALL), expected).agrees()
    assert compare(expected, expected).agrees()


def test_rejects_anything_but_zeros_for_zeros():
    zeros = np.zeros_like(SMALL)
    assert compare(zeros, zeros).agrees()
    assert compare(-zeros, zeros).agrees()
    assert not compare(changed((0, 0, 0, 0), 1e-45, zeros), zeros).agrees()
    assert not compare(SMALL, zeros).agrees()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_must_stand_in_the_same_places(special):
    place, other = (0, 1, 2, 3), (0, 4, 6, 0)
    expected = changed(place, special)
    assert compare(expected, expected).agrees()
    for value in {0.0, 3.4e38, -3.4e38, np.nan, np.inf, -np.inf} - {special}:
        if not (np.isnan(value) and np.isnan(special)):
            assert not compare(changed(place, value), expected).agrees(), value
    assert not compare(changed(other, special), expected).agrees()
    assert not compare(changed(other, special, expected), expected).agrees()
    assert not compare(np.full_like(SMALL, special), expected).agrees()
    # the rest still counts
    assert not compare(changed(other, 9.0, expected), expected).agrees()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_accepts_equal_special_values_everywhere(special):
    everywhere = np.full_like(SMALL, special)
    assert compare(everywhere, everywhere).agrees()
    assert not compare(SMALL, everywhere).agrees()
    assert not compare(-everywhere if np.isinf(special) else np.zeros_like(SMALL), everywhere).agrees()


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_accepts_rounding(scale):
    truth = MAP.astype(np.float64) / 3 * scale
    difference = compare(truth.astype(np.float32), truth)
    assert difference.agrees()
    assert 0 < difference.relative < 1e-7
    noise = 1 + 1e-6 * RNG.normal(size=MAP.shape)
    difference = compare((truth * noise).astype(np.float32), truth)
    assert difference.agrees()
    assert difference.relative == pytest.approx(1e-6, rel=0.1)


def test_numbers_mean_what_they_say():
    """Both are fractions of the root mean square of what was expected."""
    expected = np.array([3.0, -3.0, 3.0, -3.0])
    difference = compare(np.array([3, -3, 3, -3.75], np.float32), expected)
    assert difference.relative == pytest.approx(0.75 / 6)
    assert difference.worst == pytest.approx(0.25)
    assert difference.problem is None


def test_both_bounds_count():
    everywhere = compare(SMALL * np.float32(1 + 1e-4), SMALL)  # each number a little wrong
    assert everywhere.relative > RELATIVE
    assert everywhere.worst < WORST
    assert not everywhere.agrees()
    assert everywhere.agrees(relative=1e-3)
    one = compare(changed((0, 0, 0, 0), MAP[0, 0, 0, 0] + np.float32(0.005), MAP), MAP)  # one number very wrong
    assert one.relative < RELATIVE
    assert one.worst > WORST
    assert not one.agrees()
    assert one.agrees(worst=1e-2)


def test_bounds_are_inclusive_and_nan_is_beyond_them():
    assert Difference(RELATIVE, WORST).agrees()
    assert not Difference(np.nextafter(RELATIVE, 1), WORST).agrees()
    assert not Difference(RELATIVE, np.nextafter(WORST, 1)).agrees()
    assert not Difference(np.nan, 0.0).agrees()
    assert not Difference(0.0, np.nan).agrees()
    assert not Difference(0.0, 0.0, "a problem").agrees(np.inf, np.inf)


@pytest.mark.parametrize("bound", [np.inf, 1e300])
@pytest.mark.parametrize(
    "wrong", [SMALL[0], SMALL.astype(np.float64), changed((0, 0, 0, 0), np.nan)], ids=["shape", "dtype", "NaN"]
)
def test_no_bound_forgives_a_problem(wrong, bound):
    assert not compare(wrong, SMALL).agrees(bound, bound)


def test_problems_are_named():
    assert "(5, 7, 4) instead of (1, 5, 7, 4)" in str(compare(SMALL[0], SMALL).problem)
    assert "float64 instead of float32" in str(compare(SMALL.astype(np.float64), SMALL).problem)
    assert "in 2 places" in str(compare(changed((0, 0, 0, slice(2)), np.nan), SMALL).problem)
    assert "other places" in str(compare(SMALL, changed((0, 0, 0, 0), np.nan)).problem)
    assert "not zero" in str(compare(SMALL, np.zeros_like(SMALL)).problem)


def test_the_asked_dtype():
    wide = SMALL.astype(np.float64)
    assert compare(wide, SMALL, dtype=np.float64).agrees()
    assert not compare(SMALL, SMALL, dtype=np.float64).agrees()


def test_nothing_to_compare():
    empty = np.zeros((0, 5, 7, 4), np.float32)
    assert compare(empty, empty).agrees()
    assert not compare(empty[..., :3], empty).agrees()
    assert not compare(empty.astype(np.float64), empty).agrees()
    assert not compare(empty, SMALL).agrees()
    assert not compare(SMALL, empty).agrees()
