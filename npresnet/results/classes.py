"""What a classifier's numbers mean: the names of its classes, and which of them are the most probable."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

__all__ = ["most_probable", "read_names"]


def read_names(path: str | os.PathLike[str], classes: int, background: bool = False) -> list[str]:
    """The names of a classifier's classes, in their order.

    path     a text file in UTF-8 with one name per line; or, where its name ends in ``.json``, a list of names, or a
             dict by number such as Keras's ``imagenet_class_index.json``: {"0": ["n01440764", "tench"], ...}. Of a
             list in a name's place the last item counts.
    classes  how many there must be
    background  whether class 0 is what is none: its name may be left out

    Raises UsageError for a file that cannot be read, is none of these, or holds another number of names.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _names_in_json(json.loads(text)) if path.suffix.lower() == ".json" else text.rstrip().splitlines()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give a file with the names of the classes"
        ) from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UsageError(
            f"{path}: no names of classes ({error}); give text in UTF-8 with one name per line, or .json with a list of "
            'names or a dict such as {"0": ["n01440764", "tench"], ...}'
        ) from None
    if background and len(names) == classes - 1:
        names = ["background", *names]
    if len(names) != classes:
        raise UsageError(
            f"{path}: holds {len(names)} names, but the classifier has {classes} classes; give one name for each"
            + (", but for number 0, the background, where you like" if background else "")
        )
    return [name.strip() for name in names]


def _names_in_json(found: Any) -> list[str]:
    if isinstance(found, dict):
        numbers = [str(number) for number in range(len(found))]
        if found.keys() != set(numbers):
            raise ValueError(f"its keys are not the numbers 0 to {len(found) - 1}")
        found = [found[number] for number in numbers]
    if not isinstance(found, list):
        raise ValueError(f"it holds a {type(found).__name__}, not a list or a dict")
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in found]
    odd = next((position for position, name in enumerate(names) if not isinstance(name, str)), None)
    if odd is not None:
        raise ValueError(f"entry {odd} is no name")
    return names


def most_probable(probabilities: npt.NDArray[Any], count: int) -> Sequence[Sequence[tuple[int, float]]]:
    """(class, probability) of the ``count`` most probable classes of each picture, the most probable first.

    probabilities  float32[n, classes]. Of equals the lower class comes first, and NaN last.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [[(int(one), float(row[one])) for one in best] for row, best in zip(probabilities, order, strict=True)]
