"""Weight files into the Keras models of the families; and the check that all of a model was filled."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import WeightsError
from .filling import Unfilled, fill, owners
from .stored import Tensors, read_stored

if TYPE_CHECKING:
    import keras

__all__ = ["load_file"]

# A convolution or batch-norm of stages 2 to 5, in any of the families; the match is its stage.
_STAGE = re.compile(r"(?:res|bn|conv)[2-5]")
_MOST = 10  # names in an error, and the last two


def load_file(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Fill a model from a weight file, and check that all of it was filled.

    Layers are found by their names, in the outermost model of the file or in one inside it; in a file without names by
    their order among those of their class. What the file is is read from its contents: its name may be anything.

    Raises WeightsError where a layer of the model gets nothing, or weights of other shapes, and where the file has more
    blocks in one of the model's stages than the model has, as a deeper network's file does. The model may then be partly
    filled.
    """
    path = Path(path)
    stored = read_stored(path)
    weighted = {layer.name: layer for layer in model.layers if any(owners(layer))}
    found: Mapping[str, Tensors] = stored.inside(list(weighted))
    if not weighted.keys() <= found.keys() and stored.objects:
        found = stored.in_order([(type(layer).__name__, name, ()) for name, layer in weighted.items()]) or found

    empty = [name for name in weighted if name not in found]
    own = {layer.name for layer in model.layers}
    stages = {match.group() for match in map(_STAGE.match, own) if match}
    extra = [name for name in found if name not in own and (match := _STAGE.match(name)) and match.group() in stages]
    if empty or extra:
        facts = [f"{len(empty)} layers of {model.name} are not in it ({_some(empty)})"] if empty else []
        facts += [f"{len(extra)} of its layers are not in {model.name} ({_some(extra)})"] if extra else []
        raise WeightsError(
            f"{path}: {'; '.join(facts)}; the file must hold exactly this network: check family and depth with "
            "`npresnet info`"
        )
    try:
        for layer in weighted.values():
            fill(layer, found.get)
    except Unfilled as error:
        raise WeightsError(
            f"{path}: {error} in {model.name}; the file must hold this network: check family, depth and widths with "
            "`npresnet info`"
        ) from error


def _some(names: list[str]) -> str:
    """The names in words; of many the first and the last."""
    left_out = len(names) - _MOST - 2
    shown = names if left_out <= 0 else [*names[:_MOST], f"{left_out} more", *names[-2:]]
    return ", ".join(shown)
