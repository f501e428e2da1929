"""matterport's own Mask R-CNN, unchanged, under a TensorFlow of today: PyPI's ``mrcnn-colab`` (MIT) has its files.

    pip install --no-deps mrcnn-colab tf_keras

What is adapted are names alone, no arithmetic: modules of Keras 2, functions of TensorFlow 1, and the shapes of two layers that
``tf_keras`` does not ask for.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt

from npresnet.detection.config import DetectorConfig

__all__ = ["Matterport", "matterport"]

Array = npt.NDArray[Any]


def matterport(place: str | None = None) -> Any:
    """The module ``mrcnn.model``; ``place``: the folder that has the package ``mrcnn``, if it is not installed."""
    if place is not None and place not in sys.path:
        sys.path.insert(0, place)
    return _adapted()


@functools.cache
def _adapted() -> Any:
    import tensorflow as tf
    import tf_keras

    for name in ("", ".layers", ".models", ".backend", ".utils", ".optimizers", ".regularizers", ".callbacks"):
        sys.modules[f"keras{name}"] = eval(f"tf_keras{name}", {"tf_keras": tf_keras})
    engine = types.ModuleType("keras.engine")
    engine.Layer = tf_keras.layers.Layer  # type: ignore[attr-defined]
    sys.modules["keras.engine"] = tf_keras.engine = engine
    tf.log, tf.to_float = tf.math.log, functools.partial(tf.cast, dtype=tf.float32)
    tf.sets.set_intersection, tf.sparse_tensor_to_dense = tf.sets.intersection, tf.sparse.to_dense

    model: Any = importlib.import_module("mrcnn.model")

    def shaped(layer: Any, shape: Any) -> None:
        inner = layer.call

        def call(self: Any, inputs: Any) -> Any:
            found = inner(self, inputs)
            found.set_shape(shape(self, inputs))
            return found

        layer.call = call

    shaped(model.ProposalLayer, lambda self, inputs: (None, self.proposal_count, 4))
    shaped(model.PyramidROIAlign, lambda self, inputs: (None, None, *self.pool_shape, inputs[2].shape[-1]))
    return model


def _narrowed(narrow: int) -> Any:
    """Keras's layers; those convolutions have fewer channels whose number no setting tells."""
    import tf_keras

    def fewer(layer: Any) -> Any:
        def make(filters: int, *given: Any, **options: Any) -> Any:
            fixed = options.get("name", "").startswith(("res", "conv1", "rpn_conv_shared")) or (
                "name" not in options and filters == 256
            )
            return layer(filters // narrow if fixed else filters, *given, **options)

        return make

    layers = types.SimpleNamespace(**vars(tf_keras.layers))
    layers.Conv2D, layers.Conv2DTranspose = map(fewer, (layers.Conv2D, layers.Conv2DTranspose))
    return layers


class Matterport:
    """matterport's inference model with the settings ``config`` (its own names), beside what is inside of it."""

    def __init__(self, classes: int, backbone: str, place: str | None = None, narrow: int = 1, **config: Any) -> None:
        """``narrow``: how many times fewer channels there are where the code has the number itself."""
        import tf_keras

        module = matterport(place)
        module.KL = _narrowed(narrow)
        settings = {
            "NAME": "npresnet",
            "NUM_CLASSES": classes,
            "BACKBONE": backbone,
            "GPU_COUNT": 1,
            "IMAGES_PER_GPU": 1,
        }
        config = {name: np.array(value) if name in ("MEAN_PIXEL",) else value for name, value in config.items()}
        self.config = type("Settings", (importlib.import_module("mrcnn.config").Config,), {**settings, **config})()
        self.whole = module.MaskRCNN(mode="inference", config=self.config, model_dir="")
        keras_model = self.whole.keras_model
        names = [*(f"fpn_p{level}" for level in (2, 3, 4, 5, 6)), "roi_align_classifier", "roi_align_mask"]
        inside = {name: keras_model.get_layer(name).output for name in names}
        ends = ("mrcnn_detection", "mrcnn_class", "mrcnn_bbox", "mrcnn_mask", "ROI", "rpn_class", "rpn_bbox")
        inside |= dict(zip(ends, keras_model.outputs, strict=True))
        self._names = list(inside)
        self._model = tf_keras.Model(keras_model.inputs, list(inside.values()))

    def randomize(self, seed: int) -> None:
        """Weights under which activations keep their size, and many things are detected."""
        for variable in self.whole.keras_model.weights:
            rng = np.random.default_rng([seed, zlib.crc32(variable.name.encode())])
            role, shape = variable.name.rpartition("/")[2].partition(":")[0], tuple(variable.shape)
            if role == "kernel":
                inputs = np.prod(shape[:2]) * shape[3] if "deconv" in variable.name else np.prod(shape[:-1])
                gain = {"conv1/": 1 / 60, "rpn_class": 0.1, "rpn_bbox": 0.1, "mrcnn_bbox": 0.2}
                factor = next((value for name, value in gain.items() if variable.name.startswith(name)), 1.0)
                values = rng.standard_normal(shape) * np.sqrt(2 / inputs) * factor
            else:
                least, most = {"gamma": (0.3, 0.9), "moving_variance": (0.7, 1.3)}.get(role, (-0.1, 0.1))
                values = rng.uniform(least, most, shape)
            variable.assign(values.astype(np.float32))

    def load(self, path: Path) -> None:
        """Weights of a file."""
        self.whole.keras_model.load_weights(str(path), by_name=True)

    def save(self, path: Path) -> Path:
        """A file of the weights alone, as matterport's training leaves them."""
        self.whole.keras_model.save_weights(str(path))
        return path

    def stages(self, picture: Array) -> dict[str, Array]:
        """What the model computes of a picture, by the names of its layers, without the batch; "image", "window", "anchors" too."""
        image, meta, windows = self.whole.mold_inputs([picture])
        anchors = self.whole.get_anchors(image[0].shape)
        found = self._model([image.astype(np.float32), meta.astype(np.float32), anchors[None]], training=False)
        stages = {name: array.numpy()[0] for name, array in zip(self._names, found, strict=True)}
        return {**stages, "image": image[0].astype(np.float32), "window": windows[0], "anchors": anchors}

    def detect(self, picture: Array) -> dict[str, Array]:
        """matterport's ``detect`` of one picture: rois, class_ids, scores, masks."""
        (found,) = self.whole.detect([picture])
        return found

    def choose(self, case: Any, config: DetectorConfig) -> Array:
        """matterport's ``refine_detections_graph`` of (proposals, probabilities, shifts, window): box, class, score, zeros at the
        end."""
        module = matterport()
        found: Array = module.refine_detections_graph(*case, _settings(config)).numpy()
        return found

    def propose(self, case: Any, config: DetectorConfig) -> Array:
        """matterport's ``ProposalLayer`` of ``case.scores``, ``case.shifts`` and ``case.anchors``."""
        settings = _settings(config)
        layer = matterport().ProposalLayer(
            settings.POST_NMS_ROIS_INFERENCE, settings.RPN_NMS_THRESHOLD, config=settings
        )
        pairs = np.stack([1 - case.scores, case.scores], axis=1)
        found: Array = layer([array[None] for array in (pairs, case.shifts, case.anchors)]).numpy()[0]
        return found


def _settings(config: DetectorConfig) -> Any:
    """The same as matterport's functions read them."""
    arrays = {name: np.array(getattr(config, name)) for name in ("BBOX_STD_DEV", "RPN_BBOX_STD_DEV")}
    return types.SimpleNamespace(**{**asdict(config), **arrays, "IMAGES_PER_GPU": 1})
