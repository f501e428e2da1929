"""What Keras 3 has written, spelled as Keras 2 spells it: tests of its files need no Keras 2, which wants a TensorFlow of its own."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py

__all__ = ["save_as_keras2", "without_names"]

_VERSION = "2.15.0"
_MODELS = ("Functional", "Sequential")
_NEWER = (
    "input_axes",
    "output_axes",
    "quantization_config",
    "synchronized",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
)


def save_as_keras2(model: Any, path: Path) -> Path:
    """Save a Keras 3 model of layers alone, no operators, as a whole model of Keras 2: ``.h5`` or ``.keras``."""
    model.save(path)
    config = _model(json.loads(model.to_json()))
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            without_names(file)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "metadata.json", json.dumps({"keras_version": _VERSION, "date_saved": "2024-01-01@00:00:00"})
            )
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", weights.getvalue())
        return path
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
        group = file["model_weights"]
        group.attrs["keras_version"] = file.attrs["keras_version"] = _VERSION
        for name in group.attrs["layer_names"]:
            _respell(
                group[name],
                name in {layer["config"]["name"] for layer in config["config"]["layers"] if _is_model(layer)},
            )
    return path


def without_names(file: Any) -> None:
    """Take the names of layers out of a tree of objects, which older versions of Keras do not write."""
    groups = [file]
    while groups:
        group = groups.pop()
        group.attrs.pop("name", None)
        groups += [item for item in group.values() if isinstance(item, h5py.Group)]


def _respell(group: Any, model: bool) -> None:
    """The tensors of a model inside are called after the layer alone."""
    old = [(name, group[name][()]) for name in group.attrs["weight_names"]]
    for name in list(group):
        del group[name]
    names = ["/".join(name.split("/")[-2:] if model else name.split("/")) + ":0" for name, _ in old]
    for name, (_, array) in zip(names, old, strict=True):
        group[name] = array
    if names:
        group.attrs["weight_names"] = names


def _is_model(layer: Any) -> bool:
    return layer["class_name"] in _MODELS


def _model(model: Any) -> Any:
    config = dict(model["config"])
    models = {layer["config"]["name"] for layer in config["layers"] if _is_model(layer)}
    chains = {layer["config"]["name"] for layer in config["layers"] if layer["class_name"] == "Sequential"}
    config["layers"] = [_layer(layer, models) for layer in config["layers"]]
    config.pop("build_input_shape", None)
    for ends in ("input_layers", "output_layers"):
        if isinstance(found := config.get(ends), list) and found and isinstance(found[0], str):
            config[ends] = [found]
        if ends in config:
            # Keras 3 counts uses of models from one here, too, but for a Sequential
            config[ends] = [[name, use + (name in chains), output] for name, use, output in config[ends]]
    return {"class_name": model["class_name"], "config": _dtypes(config)}


def _layer(layer: Any, models: set[str]) -> Any:
    new = _model(layer) if _is_model(layer) else {"class_name": layer["class_name"], "config": dict(layer["config"])}
    config = new["config"]
    if layer["class_name"] == "InputLayer":
        config["batch_input_shape"] = config.pop("batch_shape")
    elif layer["class_name"] == "BatchNormalization":
        config["axis"] = [3]
    elif layer["class_name"].startswith("Random"):
        config = {key: value for key, value in config.items() if key != "data_format"} | {"rng_type": "stateful"}
    nodes = [_node(node, models) for node in layer.get("inbound_nodes", [])]
    return {**new, "config": config, "name": config["name"], "inbound_nodes": nodes}


def _node(node: Any, models: set[str]) -> Any:
    (given,) = node["args"]
    options = {"training": node["kwargs"]["training"]} if node["kwargs"].get("training") is not None else {}
    histories = [tensor["config"]["keras_history"] for tensor in (given if isinstance(given, list) else [given])]
    return [[name, use + (name in models), output, options] for name, use, output in histories]


def _dtypes(value: Any) -> Any:
    if isinstance(value, list):
        return [_dtypes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        name = value["config"]["name"]
        return {"class_name": "Policy", "config": {"name": name}} if "mixed" in name else name
    return {key: _dtypes(item) for key, item in value.items() if key not in _NEWER}
