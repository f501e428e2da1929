"""Networks of every family in Keras: what may be asked for, and which builder makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from .families import BUILDERS, Builder
from .shorthand import BASIC, Widths

if TYPE_CHECKING:
    import keras

__all__ = ["build"]


def build(
    family: str,
    depth: int,
    *,
    stem_width: int = 64,
    stage_widths: Widths | None = None,
    classes: int | None = None,
    **options: Any,
) -> keras.Model:
    """Build one network in Keras, with the layers' names as in the weight files and no weights worth having.

    The model maps float32[n, h, w, 3], any n, h and w, to the last stage's float32[n, h', w', c], or with ``classes``
    to probabilities float32[n, classes].

    family        one of ``BUILDERS``
    depth         one that the family has
    stem_width    channels of the first convolution
    stage_widths  (inner, outer) channels of each stage's blocks, from stage 2 on; None for 64 to 512, and four times that
    classes       adds the family's classifier with so many classes; not for matterport, which has none
    options       what the family's ``Builder.options`` lets one choose: ``stage5=False`` ends matterport's with stage 4,
                  ``stem="same"`` is keras-resnet's of release 0.2.0

    Raises UsageError for an unknown or impossible combination, MissingExtraError without TensorFlow.
    """
    if family not in BUILDERS:
        raise UsageError(f"family: {family!r} was given; it must be one of {', '.join(map(repr, BUILDERS))}")
    builder = BUILDERS[family]
    if depth not in builder.depths:
        raise UsageError(f"depth: {depth} was given; {family} has {', '.join(map(str, builder.depths))}")
    stage5 = options.get("stage5", True)
    if classes is not None and (not builder.classifier or not stage5 or classes < 1):
        raise UsageError(
            f"classes: {classes} was given for {family} with stage5={stage5}; a classifier needs at least one class, "
            "stage 5, and a family that has one"
        )
    _check_options(family, builder, options)
    options.pop("stage5", None)

    blocks = builder.depths[depth][: 4 if stage5 else 3]
    if stage_widths is None:
        expansion = 1 if depth in BASIC else 4
        stage_widths = [(64 << i, (64 << i) * expansion) for i in range(len(blocks))]
    widths = [stem_width, *(width for pair in stage_widths for width in pair)]
    if len(stage_widths) != len(blocks) or min(widths) < 1:
        raise UsageError(
            f"stem_width, stage_widths: {stem_width} and {list(stage_widths)} were given; "
            f"every width is at least 1, and each of the {len(blocks)} stages has one (inner, outer) pair"
        )
    return builder.make(depth, blocks, stem_width, stage_widths, classes, **builder.given, **options)


def _check_options(family: str, builder: Builder, options: dict[str, Any]) -> None:
    for option, value in options.items():
        if option not in builder.options:
            known = ", ".join(builder.options) or "nothing"
            raise UsageError(f"{option}: {value!r} was given; of networks of {family} one may choose {known}")
        values = builder.options[option]
        if values and value not in values:
            raise UsageError(
                f"{option}: {value!r} was given for {family}; it must be one of {', '.join(map(repr, values))}"
            )
