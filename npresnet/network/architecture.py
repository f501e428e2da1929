"""One network of the families' table: a family, a depth, and what may differ from file to file; and what users call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UsageError
from .detector import Detector
from .families import FAMILIES, OWN
from .family import Border, Family, PoolBorder, block_kind
from .graph import Graph
from .operators import Conv2D, Dense

__all__ = ["Architecture", "Request", "own_architecture", "parse_architecture"]


@dataclass(frozen=True)
class Architecture:
    """One network: a family, a depth, and what may differ from file to file.

    stage5      whether the network goes on to C5
    stem_width  channels of the stem
    widths      (inner, outer) channels of the blocks in each stage that exists; equal for basic blocks
    stem        border of the stem, where files of one family differ in it
    classes     how many the classifier tells apart, None without a classifier
    classifier  its layer's name
    pool        border of the max-pool, None for the family's
    epsilon     of the batch-norms, None for the family's
    groups      of the 3x3 convolutions
    channels    of the images
    inside      whether the network scales pixels itself
    own         the model's name, where the network is built from the file's own description instead of the table
    pixels      the convention by which pictures are prepared, None for the family's
    cut         the last stage that is there, where a file holds the beginning of a network alone; 0 for a whole one
    detector    what stands behind the backbone, if anything
    """

    family: Family
    depth: int
    stage5: bool = True
    stem_width: int = 64
    widths: tuple[tuple[int, int], ...] = ()
    stem: Border = "explicit"
    classes: int | None = None
    classifier: str = ""
    pool: PoolBorder | None = None
    epsilon: float | None = None
    groups: int = 1
    channels: int = 3
    inside: bool = False
    own: str = ""
    pixels: str | None = None
    cut: int = 0
    detector: Detector | None = None

    @classmethod
    def standard(
        cls,
        family: Family,
        depth: int,
        *,
        stage5: bool = True,
        width: int = 64,
        classes: int | None = None,
        cut: int = 0,
    ) -> Architecture:
        """The network of the paper's table: 64 to 512 channels in the blocks, four times that out of bottlenecks.

        ``width`` is the stem's; all others are in proportion.
        """
        expansion = 1 if block_kind(depth) == "basic" else family.expansion
        inner = family.inner * width // 64
        classifier = family.names.classifiers[0]
        found = cls(family, depth, stage5, width, (), family.stem, classes, classifier, groups=family.groups, cut=cut)
        return replace(found, widths=tuple((inner << s - 2, (inner << s - 2) * expansion) for s in found.stages))

    @classmethod
    def named(cls, text: str, **options: Any) -> Architecture:
        """The ``standard`` network that users call ``text``, the first where several are called so. Raises UsageError."""
        family, depth = parse_architecture(text).candidates[0]
        return cls.standard(family, depth, **options)

    @property
    def name(self) -> str:
        """Family and depth, as ``load`` takes them: ``matterport/resnet101``."""
        return f"{self.family.package}/{self.family.model.format(depth=self.depth)}"

    @property
    def stages(self) -> range:
        """The stages that exist: 2 to 5, or to an earlier one."""
        return range(2, (self.cut or (5 if self.stage5 else 4)) + 1)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks in each stage that exists."""
        return self.family.blocks[self.depth][: len(self.stages)]

    @property
    def preprocessing(self) -> str:
        """Convention of ``images/conventions.py`` for pictures that go in."""
        return self.family.preprocessing if self.pixels is None else self.pixels

    def __str__(self) -> str:
        text = self.name
        if not self.family.blocks:
            return text
        if self.cut:
            text += f" up to stage {self.cut}"
        elif not self.stage5:
            text += " without stage 5"
        standard = Architecture.standard(self.family, self.depth, stage5=self.stage5, cut=self.cut)
        if (self.stem_width, self.widths) != (standard.stem_width, standard.widths):
            text += (
                f", stem {self.stem_width} and stages {'/'.join(str(outer) for _, outer in self.widths)} channels wide"
            )
        if self.channels != 3:
            text += f", images of {self.channels} {'channel' if self.channels == 1 else 'channels'}"
        if self.groups != self.family.groups:
            text += f", {self.groups} groups"
        if self.stem != self.family.stem:
            text += f", stem padded {self.stem!r}"
        if self.pool not in (None, self.family.pool):
            text += f", pool padded {self.pool!r}"
        if self.epsilon not in (None, self.family.epsilon):
            text += f", epsilon {self.epsilon:g}"
        if self.classes is not None:
            text += f", {self.classes} classes"
        if self.detector is not None:
            text += f", {self.detector}"
        if self.own:
            text += f", as the file describes {self.own!r}"
        return text


def own_architecture(name: str, graph: Graph, habits: Family | None) -> Architecture:
    """What is to be said of a network that is in no row of the table: its name, and how deep it is.

    habits  the family whose pictures it has, if that is known

    The depth counts as those of the table do: convolutions and dense layers on the longest way through.
    """
    longest: dict[str, int] = {}
    for layer in graph.layers:
        before = max((longest[source] for source in layer.inputs), default=0)
        longest[layer.name] = before + isinstance(layer.operator, Conv2D | Dense)
    model = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    preprocessing = OWN.preprocessing if habits is None else habits.preprocessing
    family = replace(OWN, model=model, preprocessing=preprocessing)
    return Architecture(family, max(longest.values(), default=0), own=name)


@dataclass(frozen=True)
class Request:
    """What ``load(architecture=)`` asks for: some families and depths, and perhaps variants of them.

    candidates  (family, depth) that the text allows
    package     the family's half of the text, None where it was left out
    options     stem, pool or epsilon: what to believe about the network where the file does not say
    """

    text: str
    candidates: tuple[tuple[Family, int], ...]
    package: str | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, architecture: Architecture) -> bool:
        """Whether ``architecture`` is one of those asked for."""
        same = all(getattr(architecture, name) == value for name, value in self.options.items())
        return same and (architecture.family, architecture.depth) in self.candidates


_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "stem": {"explicit": "explicit", "same": "same"}.__getitem__,
    "pool": {"explicit": "explicit", "same": "same", "valid": "valid"}.__getitem__,
    "epsilon": float,
}


def parse_architecture(text: str) -> Request:
    """What ``"resnet101"``, ``"matterport/resnet101"`` or ``"fchollet/resnet50 pool=valid"`` asks for.

    Raises UsageError for anything else.
    """
    name, *words = str(text).split() or [""]
    package, _, model = name.rpartition("/")
    every = [(family, depth) for family in FAMILIES.values() for depth in family.depths]
    named = [(family, depth) for family, depth in every if family.model.format(depth=depth) == model.lower()]
    found = tuple((family, depth) for family, depth in named if package.lower() in ("", family.package))
    if not found:
        known = "; ".join(
            ", ".join([Architecture(family, family.depths[0]).name, *map(str, family.depths[1:])])
            for family in FAMILIES.values()
        )
        raise UsageError(
            f"architecture: got {text!r}; it must be a depth such as 'resnet101' or family and depth, one of: {known}"
        )
    options: dict[str, Any] = {}
    for word in words:
        option, _, value = word.partition("=")
        try:
            options[option] = _OPTIONS[option](value)
        except (KeyError, ValueError):
            raise UsageError(
                f"architecture: got {text!r}; after the name it takes stem=explicit or same, pool=explicit, same or "
                f"valid, and epsilon=<number>, not {word!r}"
            ) from None
    return Request(str(text), found, package.lower() or None, options)
