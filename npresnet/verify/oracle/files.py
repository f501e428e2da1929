"""Weight files into Keras models, by Keras's own loaders; and the check that all of a model was filled."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import WeightsError
from ...files.opening import open_weights
from .backend import tensorflow_and_keras

if TYPE_CHECKING:
    import keras

__all__ = ["load_file", "load_model"]

# A quiet NaN with a payload that no arithmetic makes: what still holds these bits was never assigned. A plain NaN
# would not do, for a weight file may hold NaNs of its own.
_UNSET = np.array([0x7FC0_0D17], np.uint32)

# A convolution or batch-norm of stages 2 to 5, in any of the families; the match is its stage.
_STAGE = re.compile(r"(?:res|bn|conv)[2-5]")


def load_file(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Fill a model from a weight file through Keras's own loader, and check that all of it was filled.

    Legacy HDF5 files, weights alone or whole models, are loaded by layer name; v3 ``.weights.h5`` files and ``.keras``
    archives by position. What the file is is read from its contents: its name may be anything.

    Raises WeightsError where Keras refuses the file, where a layer of the model got nothing (loading by name skips
    silently), and where the file has more blocks in one of the model's stages than the model has, as a deeper
    network's file does. The model is then left partly filled with NaN.
    """
    path = Path(path)
    suffix, layers_in_file = _contents(path)
    options = {"by_name": True} if suffix == ".h5" else {}
    for variable in model.variables:
        variable.assign(np.broadcast_to(_UNSET.view(np.float32), variable.shape))
    with _alias(path, suffix) as alias, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hundreds on a wrong v3 file; what they are about is checked below
        try:
            model.load_weights(alias, **options)
        except Exception as error:  # of any kind: neither the file nor the loader is ours
            raise WeightsError(
                f"{path}: Keras cannot load it into {model.name}: {error}; "
                "the file must hold this network: check family, depth and widths with `npresnet info`"
            ) from error

    empty = [
        layer.name
        for layer in model.layers
        if any((variable.value.numpy().view(np.uint32) == _UNSET).all() for variable in layer.variables)
    ]
    own = {layer.name for layer in model.layers}
    stages = {match.group() for match in map(_STAGE.match, own) if match}
    extra = [
        name for name in layers_in_file if name not in own and (match := _STAGE.match(name)) and match.group() in stages
    ]
    if empty or extra:
        facts = [f"{len(empty)} layers of {model.name} are not in it ({', '.join(empty)})"] if empty else []
        facts += [f"{len(extra)} of its layers are not in {model.name} ({', '.join(extra)})"] if extra else []
        raise WeightsError(
            f"{path}: {'; '.join(facts)}; the file must hold exactly this network: check family and depth with "
            "`npresnet info`"
        )


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """The model that a file describes, with its weights, as Keras itself makes it; code in the file is not run.

    Raises WeightsError where Keras refuses, MissingExtraError without TensorFlow.
    """
    _, keras = tensorflow_and_keras()
    path = Path(path)
    suffix, _ = _contents(path)
    with _alias(path, suffix) as alias, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return keras.models.load_model(alias, compile=False, safe_mode=True)
        except Exception as error:  # of any kind: neither the file nor the loader is ours
            raise WeightsError(f"{path}: this version of Keras cannot load the model: {error}") from error


def _contents(path: Path) -> tuple[str, list[str]]:
    """The suffix that Keras wants on a file of this layout, and of a legacy file the layers that have weights.

    Raises WeightsError where it is neither HDF5 nor an archive.
    """
    with open_weights(path) as file:
        if file.kind == "keras":
            return ".keras", []
        if file.kind == "shards":
            return ".weights.json", []
        group = file.groups().get("model_weights", file)
        if group.attribute("layer_names") is None:
            return ".weights.h5", []
        return ".h5", [name for name, layer in group.groups().items() if layer.attribute("weight_names")]


@contextlib.contextmanager
def _alias(path: Path, suffix: str) -> Iterator[Path]:
    """The file under a name with that suffix: by it, and not by the contents, Keras chooses how to read."""
    if suffix == ".weights.json":  # its parts are found by its name
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="npresnet-") as folder:
        alias = Path(folder) / f"file{suffix}"
        try:
            alias.symlink_to(path.resolve())
        except OSError:  # Windows keeps links for administrators
            shutil.copyfile(path, alias)
        yield alias
