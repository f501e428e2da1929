"""Random residual networks in Keras 2 and 3, each from a seed; what one is made of is data, so that parts can be taken away.

A recipe is a front, a stem, some pieces and some heads, each the name of a row of ``random_blocks.TABLES`` and a seed of its own: what a
piece draws does not depend on the others. ``build`` makes the model, with seeded weights by which numbers keep their size.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from .agreement import leaves
from .random_blocks import BLOCKS, FRONTS, HEADS, TABLES, stem
from .random_layers import ACTIVATIONS, JOINS, NORMS, OPERATORS, Draft, Row

__all__ = ["Built", "Piece", "Recipe", "build", "recipe_of", "rows_of", "smaller", "varied"]

FORMS = (("keras", ".keras"), ("keras", ".h5"), ("tf_keras", ".h5"), ("tf_keras", ".keras"))
"""(version of Keras, kind of file)."""


@dataclass(frozen=True)
class Piece:
    """A row by its name, and the seed of what it draws. ``inner`` is what a nested model is made of."""

    row: str
    seed: int
    inner: tuple[Piece, ...] = ()

    def __str__(self) -> str:
        inside = f"({', '.join(map(str, self.inner))})" if self.inner else ""
        return f"{self.row} {self.seed}{inside}"


@dataclass(frozen=True)
class Recipe:
    """All that a network depends on.

    keras   "keras" or "tf_keras"; suffix: the file's
    size    (height, width) of images, the smallest ones unless ``fixed``
    names   as ``Draft.names``
    """

    seed: int
    keras: str
    suffix: str
    size: tuple[int, int]
    fixed: bool
    channels: int
    names: str
    front: Piece
    stem: Piece | None
    body: tuple[Piece, ...]
    heads: tuple[Piece, ...]

    @property
    def version(self) -> int:
        return 3 if self.keras == "keras" else 2

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}x{self.channels}{'' if self.fixed else ' or larger'}"
        parts = [self.front, *([self.stem] if self.stem else []), *self.body]
        return (
            f"network {self.seed}: Keras {self.version}, {self.suffix}, names {self.names!r}, {size}: "
            f"{' > '.join(map(str, parts))} > [{'; '.join(map(str, self.heads))}]"
        )


@cache
def rows_of(version: int, fixed: bool) -> dict[str, Row]:
    """The rows, by name, that such networks may have."""
    return {
        row.name: row
        for table in TABLES
        for row in table
        if row.version in (None, version) and (fixed or not row.fixed) and not row.lacks()
    }


_NESTED = (Row("nested", lambda d, x: x, (), 5), Row("nested, used twice", lambda d, x: x, (), 4))
_STEM = Row("stem", stem)


def recipe_of(seed: int) -> Recipe:
    """The recipe of a network; each row of the tables comes up in some network out of as many as there are rows."""
    draw = random.Random(f"network {seed}")
    keras, suffix = FORMS[seed % len(FORMS)]
    fixed = draw.random() < 0.65
    allowed = rows_of(3 if keras == "keras" else 2, fixed)

    def piece(table: Sequence[Row], keeps: bool = False, depth: int = 0) -> Piece:
        rows = [row for row in table if row.name in allowed and (row.keeps or not keeps)]
        if depth < 2 and table is not FRONTS and table is not HEADS:
            rows += _NESTED
        (row,) = draw.choices(rows, [row.weight for row in rows])
        inner: tuple[Piece, ...] = ()
        if row in _NESTED:
            keeps = keeps or row is _NESTED[1]
            inner = tuple(piece((*BLOCKS, *OPERATORS), keeps, depth + 1) for _ in range(draw.choice((1, 2))))
        return Piece(row.name, draw.randrange(10_000), inner)

    body = [piece(BLOCKS if draw.random() < 0.7 else OPERATORS) for _ in range(draw.choice((1, 2, 2, 3, 3, 4)))]
    heads = [piece(HEADS) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    front = piece(FRONTS)
    rare = [row for table in TABLES if table is not JOINS for row in table if row.name in allowed]
    due = rare[seed // len(FORMS) % len(rare)]
    if due in FRONTS:
        front = Piece(due.name, draw.randrange(10_000))
    elif due in HEADS:
        heads[0] = Piece(due.name, draw.randrange(10_000))
    else:
        body[draw.randrange(len(body))] = Piece(due.name, draw.randrange(10_000))
    return Recipe(
        seed=seed,
        keras=keras,
        suffix=suffix,
        size=(draw.randint(8, 26), draw.randint(8, 26)),
        fixed=fixed,
        channels=1 if front.row == "grey images" else draw.choice((1, 3, 3, 3, 3, 4)),
        names=draw.choice(("own", "own", "again", "paths" if keras == "tf_keras" else "own")),
        front=front,
        stem=Piece("stem", draw.randrange(10_000)) if draw.random() < 0.9 else None,
        body=tuple(body),
        heads=tuple(heads),
    )


def varied(count: int, seeds: Iterable[int] = range(400)) -> list[int]:
    """Of these networks ``count``, each the one with most rows that none before it has, in its version of Keras."""

    def rows(pieces: Iterable[Piece]) -> Iterator[str]:
        for piece in pieces:
            yield piece.row
            yield from rows(piece.inner)

    made = {}
    for seed in seeds:
        one = recipe_of(seed)
        made[seed] = {(one.version, row) for row in (one.suffix, one.names, *rows((one.front, *one.body, *one.heads)))}
    seen: set[tuple[int, str]] = set()
    chosen = []
    for _ in range(count):
        chosen.append(max(made, key=lambda seed: len(made[seed] - seen)))
        seen |= made.pop(chosen[-1])
    return chosen


@dataclass
class Built:
    """A model with its weights.

    probes  {layer: what it makes}, of the layers outside of nested models
    sizes   of its inputs, without the batch; those of pictures are the smallest
    used    the names of the rows in it
    nan     NaN and infinity come out where Keras has them
    pixels  it takes numbers from 0 to 255
    """

    model: Any
    probes: dict[str, Any]
    sizes: list[tuple[int, ...]]
    used: set[str]
    nan: bool
    pixels: bool


def build(recipe: Recipe) -> Built:
    """The network of a recipe. Raises what Keras raises where one cannot be, with pieces that do not fit."""
    import importlib

    K = importlib.import_module(recipe.keras)
    if recipe.version == 3:  # so that functions have the same names each time
        K.utils.clear_session(free_memory=False)
    else:
        K.backend.reset_uids()
    rows = rows_of(recipe.version, recipe.fixed)
    draft = Draft(
        K,
        random.Random(0),
        recipe.fixed,
        recipe.names,
        allowed=lambda row: rows.get(row.name) is row,
    )

    def add(d: Draft, piece: Piece, x: Any) -> Any:
        d.random = random.Random(f"piece {piece.seed}")
        if piece.inner:
            model = d.model(lambda inner, entry: _chain(inner, piece.inner, entry, add), x)
            y = d.like(x, d.apply(model, x)) if piece.row == _NESTED[1].name else d.apply(model, x)
            return d.like(y, d.apply(model, y)) if piece.row == _NESTED[1].name else y
        row = _STEM if piece.row == "stem" else rows[piece.row]
        d.used.add(row.name)
        return row.make(d, x)

    x = draft.input(*recipe.size, recipe.channels)
    x = add(draft, recipe.front, x)
    x = add(draft, recipe.stem, x) if recipe.stem else x
    draft.taps.append(x)
    for piece in recipe.body:
        x = add(draft, piece, x)
        draft.taps.append(x)
    if "Add" not in draft.kinds:  # or it is no residual network
        x = draft("Add", [x, draft.conv(x, draft.shape(x)[-1], 1)])
    outputs = []
    for place, piece in enumerate(recipe.heads):
        tap = x if place == 0 else draft.taps[piece.seed % len(draft.taps)]
        outputs.append(add(draft, piece, tap))
    pixels = next(row for row in FRONTS if row.name == recipe.front.row).pixels
    model = K.Model(draft.inputs, outputs[0] if len(outputs) == 1 else outputs)
    seed_weights(model, recipe.seed)
    names = {layer.name for layer in model.layers} - draft.inside
    probes = {name: tensor for name, tensor in draft.probes.items() if name in names}
    # a max-pool makes -3.4e38 of nothing but NaN, what is near to infinity must be seen
    hidden = any(type(layer).__name__ == "MaxPooling2D" and layer.name in draft.inside for layer in leaves(model))
    nan = all(rows[name].nan for name in draft.used if name in rows) and not hidden
    return Built(model, probes, [draft.shape(one) for one in draft.inputs], draft.used, nan, pixels)


def _chain(d: Draft, pieces: Sequence[Piece], x: Any, add: Any) -> Any:
    for piece in pieces:
        x = add(d, piece, x)
    return x


def seed_weights(model: Any, seed: int) -> None:
    """Seeded weights and statistics under which activations stay of about one size."""
    rng = np.random.default_rng(seed)
    for layer in dict.fromkeys(leaves(model)):
        kind = type(layer).__name__
        for weight in layer.weights:
            role = (weight.path if hasattr(weight, "path") else weight.name).split("/")[-1].split(":")[0]
            shape = tuple(weight.shape)
            if "kernel" in role:
                window = int(np.prod(shape[:2])) if len(shape) == 4 else 1
                transposed, depthwise = kind == "Conv2DTranspose", kind == "DepthwiseConv2D" or role.startswith("depth")
                fan = window * (1 if depthwise else shape[-1] if transposed else shape[-2])
                value = rng.standard_normal(shape) * np.sqrt(1.6 / fan)
            elif role == "count":
                continue
            else:
                low, high = _RANGES.get((kind, role)) or _RANGES.get(("", role)) or (-0.3, 0.3)
                value = rng.uniform(low, high, shape)
            weight.assign(value.astype(np.float32))
        if kind == "Normalization" and layer.weights:
            layer.finalize_state()


_RANGES = {
    ("", "gamma"): (0.6, 1.3),
    ("", "moving_variance"): (0.5, 1.5),
    ("", "alpha"): (-0.2, 0.5),
    ("Normalization", "mean"): (90.0, 130.0),
    ("Normalization", "variance"): (2000.0, 5000.0),
}
"""{(kind of layer, role): lowest and highest}."""


def smaller(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with one thing less, or one that is simpler: for networks that fail, the largest steps first."""
    for place in range(len(recipe.heads)):
        if len(recipe.heads) > 1:
            yield replace(recipe, heads=_without(recipe.heads, place))
    for place in range(len(recipe.body)):
        yield replace(recipe, body=_without(recipe.body, place))
    if recipe.stem:
        yield replace(recipe, stem=None)
    for place, piece in enumerate(recipe.body):
        for other in _simpler(piece):
            yield replace(recipe, body=(*recipe.body[:place], *other, *recipe.body[place + 1 :]))
    if recipe.front.row != FRONTS[0].name:
        yield replace(recipe, front=Piece(FRONTS[0].name, 0))
    for head in ("a row", "the map"):
        if len(recipe.heads) == 1 and recipe.heads[0].row not in ("a row", "the map"):
            yield replace(recipe, heads=(Piece(head, 0),))
    if recipe.names != "own":
        yield replace(recipe, names="own")
    if not recipe.fixed:
        yield replace(recipe, fixed=True)
    if recipe.size != (8, 8):
        yield replace(recipe, size=(8, 8))


def _without(pieces: tuple[Piece, ...], place: int) -> tuple[Piece, ...]:
    return (*pieces[:place], *pieces[place + 1 :])


def _simpler(piece: Piece) -> Iterator[tuple[Piece, ...]]:
    if piece.inner:
        yield piece.inner  # not in a model of its own
        for place in range(len(piece.inner)):
            if len(piece.inner) > 1:
                yield (replace(piece, inner=_without(piece.inner, place)),)
            for other in _simpler(piece.inner[place]):
                yield (replace(piece, inner=(*piece.inner[:place], *other, *piece.inner[place + 1 :])),)
    elif piece.row not in {row.name for table in (ACTIVATIONS, NORMS, OPERATORS) for row in table}:
        for row in ("Conv2D", "ReLU"):
            yield (Piece(row, piece.seed),)
