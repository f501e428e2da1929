"""``study winograd``: where the formula comes from, that it is right, what it saves, and what it costs in accuracy.

    Y = A^T [ (G g G^T) * (B^T d B) ] A          (* element by element)

The matrices are made of the points by exact arithmetic (``exact.py``). That they compute a correlation is an identity between
numbers, which is proved here, number by number, without rounding: for outputs o, taps t and inputs i

    sum over j of A^T[o, j] G[j, t] B^T[j, i] = 1 where i = o + t, else 0

Then one real tile is worked through, and the whole layer is computed in float32 by each set of points, beside float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..kernels.conv2d import conv2d_reference
from ..kernels.winograd import matrices, transform_kernel, winograd_reference
from ..model import ResNet
from ..verify.compare import compare
from .exact import ONE, ZERO, Surd, parse_surd
from .forms import Column, Grid
from .subject import StudiedLayer, subject_of

__all__ = ["POINTS", "TABLES", "PointsError", "TileSteps", "WinogradStudy", "exact_matrices", "identity", "winograd"]

Array = npt.NDArray[Any]
Matrix = list[list[Surd]]

POINTS = {
    2: "0, 1, -1",
    4: "0, sqrt2/2, -sqrt2/2, sqrt2, -sqrt2",
}
"""Those that the kernels use; infinity is always one more."""

_COMPARED = {2: (POINTS[2],), 4: (POINTS[4], "0, 1, -1, 2, -2", "0, 1, -1, 1/2, -2")}

TABLES = (
    Grid(
        "errors",
        (
            Column("points", "points"),
            Column("relative error", "relative", "error"),
            Column("worst", "worst", "error"),
            Column("times the direct sum's", "ratio", "three"),
        ),
        "The layer in float32, beside float64; relative: norm of the error over norm of the result; worst: largest error "
        "over the result's root mean square",
    ),
)


@dataclass(frozen=True)
class TileSteps:
    """One tile of one input channel and one output channel, worked through in float64.

    d         [n, n]: the patch            v  B^T d B
    g         [3, 3]: the kernel           u  G g G^T
    products  u * v                        y  A^T products A, [m, m]
    direct    the same by the definition; of this channel alone, as all of these
    """

    row: int
    column: int
    channel: int
    co: int
    d: Array
    v: Array
    g: Array
    u: Array
    products: Array
    y: Array
    direct: Array


@dataclass(frozen=True)
class PointsError:
    """How far a way to compute the layer is from float64. ``ratio``: to the error of the direct sum, of NumPy."""

    points: str
    relative: float
    worst: float
    ratio: float


@dataclass(frozen=True)
class WinogradStudy:
    """F(m x m, 3x3) on one layer.

    points           in words, without infinity
    at, g, bt        the matrices, exact, in words: A^T [m][n], G [n][3], B^T [n][n]
    identity         whether all ``identities`` numbers are what they must be
    multiplications  of one tile and one pair of channels, (by the algorithm, by the definition)
    kernels_growth   how many times larger the transformed kernels are
    """

    layer: str
    m: int
    points: str
    at: list[list[str]]
    g: list[list[str]]
    bt: list[list[str]]
    identity: bool
    identities: int
    multiplications: tuple[int, int]
    kernels_growth: float
    tile: TileSteps
    errors: list[PointsError]


def parse_points(text: str) -> list[Surd]:
    """The points of "0, 1, -1". Raises UsageError for what is none, for one that is there twice, and for too few or many."""
    points = [parse_surd(word) for word in text.split(",")]
    if len(set(points)) != len(points):
        raise UsageError(f"points: got {text!r}; each point must be another one")
    if len(points) not in (3, 5, 7):
        raise UsageError(
            f"points: got {len(points)} in {text!r}; F(m x m, 3x3) takes m + 1 beside infinity: 3, 5 or 7, for m = 2, 4, 6"
        )
    return points


def exact_matrices(points: Sequence[Surd]) -> tuple[Matrix, Matrix, Matrix]:
    """(A^T, G, B^T) of F(m, 3) for m + 1 points and infinity, as ``kernels.winograd.matrices`` makes them in float64."""
    m, n = len(points) - 1, len(points) + 1
    at: Matrix = [[ZERO] * n for _ in range(m)]
    g: Matrix = [[ZERO] * 3 for _ in range(n)]
    bt: Matrix = [[ZERO] * n for _ in range(n)]
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        power = ONE
        for i in range(m):
            at[i][j] = power
            power = power * p
        scale = math.prod((p - q for q in others), start=ONE)
        g[j] = [ONE / scale, p / scale, p * p / scale]
        bt[j][: n - 1] = _polynomial(others)
    at[m - 1][n - 1] = ONE
    g[n - 1][2] = ONE
    bt[n - 1] = _polynomial(points)
    return at, g, bt


def _polynomial(roots: Sequence[Surd]) -> list[Surd]:
    """Coefficients of the product of (x - root), of the lowest power first."""
    found = [ONE]
    for root in roots:
        shifted, scaled = [ZERO, *found], [*(value * root for value in found), ZERO]
        found = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return found


def identity(at: Matrix, g: Matrix, bt: Matrix) -> bool:
    """Whether the matrices compute a correlation of 3 taps: exactly, for every output, tap and input."""
    n = len(g)
    return all(
        sum((at[o][j] * g[j][t] * bt[j][i] for j in range(n)), ZERO) == (ONE if i == o + t else ZERO)
        for o in range(len(at))
        for t in range(3)
        for i in range(n)
    )


def winograd(
    net: ResNet, images: Array, layer: str | None = None, tile: int = 4, points: str | None = None
) -> WinogradStudy:
    """Winograd's algorithm on a convolution of ``net``, for the first of ``images``.

    layer   None: the 3x3 that costs the most
    tile    m of F(m x m, 3x3)
    points  "0, 1, -1, 2, -2" say: m + 1 of them; None: the kernels' own. It decides on m, too

    Raises UsageError for points that do not do, and for a layer that is not 3x3 with stride 1 and a border of one pixel.
    """
    return of_subject(subject_of(net, images, layer), tile, points)


def of_subject(subject: StudiedLayer, tile: int = 4, points: str | None = None) -> WinogradStudy:
    """The same of a convolution that is at hand."""
    if points is None and tile not in POINTS:
        raise UsageError(f"tile: got {tile}; it must be one of {', '.join(map(str, POINTS))}, or give the points")
    if not subject.winograd:
        raise UsageError(
            f"layer {subject.layer!r}: it has {subject.taps[0]}x{subject.taps[1]} taps, stride {subject.stride}, padding "
            f"{subject.pads}; Winograd's algorithm is for 3x3 with stride 1 and one pixel on all sides: choose another with --layer"
        )
    text = POINTS[tile] if points is None else points
    exact = parse_points(text)
    m = len(exact) - 1
    at, g, bt = exact_matrices(exact)
    return WinogradStudy(
        subject.layer, m, _words(exact), _texts(at), _texts(g), _texts(bt), identity(at, g, bt), m * 3 * (m + 2),
        ((m + 2) ** 2, 9 * m * m), (m + 2) ** 2 / 9, _tile_steps(subject, m, _floats(exact)),
        _errors(subject, m, text),
    )  # fmt: skip


def _words(points: Sequence[Surd]) -> str:
    return ", ".join(map(str, points))


def _texts(matrix: Matrix) -> list[list[str]]:
    return [[str(value) for value in row] for row in matrix]


def _floats(points: Sequence[Surd]) -> tuple[float, ...]:
    return tuple(map(float, points))


def _tile_steps(subject: StudiedLayer, m: int, points: tuple[float, ...]) -> TileSteps:
    """The tile, the channel in and the channel out in which most happens."""
    _, height, width, _ = subject.x.shape
    row, column = height // 2 // m * m, width // 2 // m * m
    padded = np.pad(subject.x[0], ((1, m + 1), (1, m + 1), (0, 0))).astype(np.float64)
    patch = padded[row : row + m + 2, column : column + m + 2]
    channel = int((patch**2).sum(axis=(0, 1)).argmax())
    co = int((subject.w[:, :, channel].astype(np.float64) ** 2).sum(axis=(0, 1)).argmax())
    at, _, bt = matrices(m, points)
    d, kernel = patch[..., channel], subject.w[:, :, channel, co].astype(np.float64)
    u = transform_kernel(kernel[:, :, None, None], m, points).reshape(m + 2, m + 2)
    v = bt @ d @ bt.T
    direct = np.array([[(d[y : y + 3, x : x + 3] * kernel).sum() for x in range(m)] for y in range(m)])
    return TileSteps(row, column, channel, co, d, v, kernel, u, u * v, at @ (u * v) @ at.T, direct)


def _errors(subject: StudiedLayer, m: int, points: str) -> list[PointsError]:
    x, w = subject.x, subject.w
    truth = conv2d_reference(x.astype(np.float64), w.astype(np.float64), padding="same")
    direct = compare(conv2d_reference(x, w, padding="same"), truth)
    found = [PointsError("the direct sum, tap by tap", direct.relative, direct.worst, 1.0)]
    for exact in dict.fromkeys(tuple(parse_points(text)) for text in [points, *_COMPARED.get(m, ())]):
        error = compare(winograd_reference(x, w, m, _floats(exact)), truth)
        ratio = error.relative / direct.relative if direct.relative else float("inf")
        found.append(PointsError(_words(exact), error.relative, error.worst, ratio))
    return found
