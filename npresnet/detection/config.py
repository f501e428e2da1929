"""What a detector was trained with and no weight file holds: sizes of pictures and of anchors, means, thresholds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..network.detector import Detector

__all__ = ["PRESETS", "DetectorConfig", "config_for", "settings_in"]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """How a Mask R-CNN is run: matterport's settings by matterport's names, with its defaults, which are those for COCO.

    RPN_ANCHOR_SCALES         sides of the anchors on P2 to P6, in pixels of the resized picture
    RPN_ANCHOR_RATIOS         width over height of each pixel's anchors
    RPN_BBOX_STD_DEV          what the proposals' shifts are multiplied with; BBOX_STD_DEV the class head's
    RPN_NMS_THRESHOLD         overlap of two proposals at most
    PRE_NMS_LIMIT             how many anchors are looked at
    POST_NMS_ROIS_INFERENCE   how many proposals there are
    IMAGE_RESIZE_MODE         "square", "pad64", "none"; with IMAGE_MIN_DIM, IMAGE_MAX_DIM (pixels) and IMAGE_MIN_SCALE
    MEAN_PIXEL                of red, green and blue, what is subtracted
    MASK_POOL_SIZE            pixels along a side of what the mask head sees of a box
    DETECTION_MIN_CONFIDENCE  score of a detection at least; 0 for all
    DETECTION_NMS_THRESHOLD   overlap of two detections of one class at most
    DETECTION_MAX_INSTANCES   how many detections at most

    Raises UsageError for values that cannot be.
    """

    RPN_ANCHOR_SCALES: tuple[float, ...] = (32, 64, 128, 256, 512)
    RPN_ANCHOR_RATIOS: tuple[float, ...] = (0.5, 1, 2)
    RPN_ANCHOR_STRIDE: int = 1
    RPN_BBOX_STD_DEV: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    RPN_NMS_THRESHOLD: float = 0.7
    PRE_NMS_LIMIT: int = 6000
    POST_NMS_ROIS_INFERENCE: int = 1000
    IMAGE_RESIZE_MODE: str = "square"
    IMAGE_MIN_DIM: int = 800
    IMAGE_MAX_DIM: int = 1024
    IMAGE_MIN_SCALE: float = 0
    MEAN_PIXEL: tuple[float, ...] = (123.7, 116.8, 103.9)
    BBOX_STD_DEV: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    MASK_POOL_SIZE: int = 14
    DETECTION_MIN_CONFIDENCE: float = 0.7
    DETECTION_NMS_THRESHOLD: float = 0.3
    DETECTION_MAX_INSTANCES: int = 100

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        if self.IMAGE_RESIZE_MODE not in ("square", "pad64", "none"):
            raise UsageError(
                f"IMAGE_RESIZE_MODE: got {self.IMAGE_RESIZE_MODE!r}; it must be 'square', 'pad64' or 'none' ('crop' is for "
                "training alone)"
            )
        if self.IMAGE_RESIZE_MODE == "square" and self.IMAGE_MAX_DIM % 64:
            raise UsageError(
                f"IMAGE_MAX_DIM: got {self.IMAGE_MAX_DIM}; it must be a multiple of 64, as the pyramid's sides are"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DetectorConfig:
        """The settings of one of matterport's samples, "coco", "balloon", "nucleus" or "shapes", or of "decimer", with ``changes``.
        Raises UsageError."""
        return _of({**_preset(name), **changes}, "config")

    @classmethod
    def read(cls, path: str | os.PathLike[str], **changes: Any) -> DetectorConfig:
        """The settings in a JSON file, {name: value}, with ``changes``; what it leaves out is as for COCO.

        Settings of matterport's that matter to training alone, or that the weight file tells, are passed over. Raises UsageError.
        """
        return _of({**_read(path), **changes}, str(path))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of all settings."""
        return tuple(field.name for field in fields(cls))

    def changed(self, **changes: Any) -> DetectorConfig:
        """The same with ``changes``. Raises UsageError."""
        return _of({**asdict(self), **changes}, "config")

    def check(self, detector: Detector) -> None:
        """Raises UsageError where a network's shapes say otherwise."""
        if len(self.RPN_ANCHOR_RATIOS) != detector.anchors:
            raise UsageError(
                f"RPN_ANCHOR_RATIOS: got {len(self.RPN_ANCHOR_RATIOS)}, {self.RPN_ANCHOR_RATIOS}; the file has {detector.anchors} "
                "anchors for each pixel, and there must be as many"
            )


_LARGE = 2.0**20
_MANY = tuple(range(1, 65))
# {setting: (how many numbers, none for a single one; whether whole ones; the least; the largest)}
_NUMBERS: Mapping[str, tuple[tuple[int, ...], bool, float, float]] = {
    "RPN_ANCHOR_SCALES": ((5,), False, 1e-3, _LARGE),
    "RPN_ANCHOR_RATIOS": (_MANY, False, 1e-3, 1e3),
    "RPN_ANCHOR_STRIDE": ((), True, 1, 1),
    "RPN_BBOX_STD_DEV": ((4,), False, 0, 1e3),
    "RPN_NMS_THRESHOLD": ((), False, 0, 1),
    "PRE_NMS_LIMIT": ((), True, 1, _LARGE),
    "POST_NMS_ROIS_INFERENCE": ((), True, 1, _LARGE),
    "IMAGE_MIN_DIM": ((), True, 0, 32768),
    "IMAGE_MAX_DIM": ((), True, 64, 32768),
    "IMAGE_MIN_SCALE": ((), False, 0, 1e3),
    "MEAN_PIXEL": ((3,), False, -1e6, 1e6),
    "BBOX_STD_DEV": ((4,), False, 0, 1e3),
    "MASK_POOL_SIZE": ((), True, 1, 1024),
    "DETECTION_MIN_CONFIDENCE": ((), False, 0, 1),
    "DETECTION_NMS_THRESHOLD": ((), False, 0, 1),
    "DETECTION_MAX_INSTANCES": ((), True, 1, _LARGE),
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "coco": {},
    "balloon": {"DETECTION_MIN_CONFIDENCE": 0.9},
    "nucleus": {
        "IMAGE_RESIZE_MODE": "pad64",
        "IMAGE_MIN_DIM": 512,
        "IMAGE_MAX_DIM": 512,
        "IMAGE_MIN_SCALE": 2.0,
        "RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128),
        "POST_NMS_ROIS_INFERENCE": 2000,
        "MEAN_PIXEL": (43.53, 39.56, 48.22),
        "DETECTION_MIN_CONFIDENCE": 0,
        "DETECTION_MAX_INSTANCES": 400,
    },
    "shapes": {"IMAGE_MIN_DIM": 128, "IMAGE_MAX_DIM": 128, "RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128)},
    "decimer": {"DETECTION_MIN_CONFIDENCE": 0.75, "POST_NMS_ROIS_INFERENCE": 500},
}
"""What matterport's samples set, as far as it matters here, and DECIMER Segmentation 1.6.0 for ``mask_rcnn_molecule.h5``. Of nucleus and
decimer the settings are those of their ``InferenceConfig``."""

_TRAINING = """
NAME GPU_COUNT IMAGES_PER_GPU STEPS_PER_EPOCH VALIDATION_STEPS BACKBONE COMPUTE_BACKBONE_SHAPE BACKBONE_STRIDES BACKBONE_SHAPES
FPN_CLASSIF_FC_LAYERS_SIZE TOP_DOWN_PYRAMID_SIZE NUM_CLASSES RPN_TRAIN_ANCHORS_PER_IMAGE POST_NMS_ROIS_TRAINING USE_MINI_MASK
MINI_MASK_SHAPE IMAGE_CHANNEL_COUNT TRAIN_ROIS_PER_IMAGE ROI_POSITIVE_RATIO POOL_SIZE MASK_SHAPE MAX_GT_INSTANCES LEARNING_RATE
LEARNING_MOMENTUM WEIGHT_DECAY LOSS_WEIGHTS USE_RPN_ROIS TRAIN_BN GRADIENT_CLIP_NORM BATCH_SIZE IMAGE_SHAPE IMAGE_META_SIZE
IMAGE_PADDING
"""
_OTHERS = frozenset(_TRAINING.split())
"""Settings of matterport's that matter to training alone, or that the weight file tells."""


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes | dict)


def _checked(name: str, value: Any) -> float | tuple[float, ...]:
    """A setting's value, of a list, as JSON has it, or an array as a tuple. Raises UsageError for one that cannot be."""
    count, whole, least, most = _NUMBERS[name]
    listed = _is_list(value)
    numbers = tuple(value) if listed else (value,)
    if (
        listed != bool(count)
        or (count and len(numbers) not in count)
        or not all(_is_number(number, whole) and least <= number <= most for number in numbers)
    ):
        one = "a whole number" if whole else "a number"
        form = f"{f'{count[0]} ' if len(count) == 1 else ''}numbers" if count else one
        raise UsageError(f"{name}: got {value!r}; it must be {form} from {least:g} to {most:g}")
    made = [int(number) if whole else float(number) for number in numbers]
    return tuple(made) if count else made[0]


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return False
    return not whole or float(value).is_integer()


def _of(settings: Mapping[str, Any], source: str) -> DetectorConfig:
    """The config of these settings. Raises UsageError for names that are none."""
    unknown = sorted(set(settings) - {*DetectorConfig.names(), *_OTHERS})
    if unknown:
        raise UsageError(
            f"{source}: {', '.join(map(repr, unknown))}: no such setting; the settings are {', '.join(DetectorConfig.names())}"
        )
    return DetectorConfig(**{name: value for name, value in settings.items() if name not in _OTHERS})


def _preset(name: str) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise UsageError(f"config: got {name!r}; it must be one of {', '.join(map(repr, PRESETS))}, or a .json file")
    return PRESETS[name]


def _read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    form = 'settings by their names, such as {"IMAGE_MAX_DIM": 1024}'
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give a preset, or a .json file of {form}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no JSON ({error}); it must be {form}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: holds a {type(found).__name__}; it must be {form}")
    return found


def settings_in(config: Mapping[str, Any] | str | os.PathLike[str] | None) -> Mapping[str, Any]:
    """{setting: value} of a preset's name, a ``.json`` file, or of these themselves; none for None. Raises UsageError."""
    if config is None or isinstance(config, Mapping):
        return config or {}
    if isinstance(config, str) and not config.lower().endswith(".json"):
        return _preset(config)
    return _read(config)


def config_for(config: DetectorConfig | Mapping[str, Any] | str | os.PathLike[str] | None) -> DetectorConfig:
    """What ``ResNet.detect`` takes as a config: None for that of COCO, a preset's name, a ``.json`` file, {setting: value}. Raises
    UsageError."""
    if isinstance(config, DetectorConfig):
        return config
    return _of(settings_in(config), "config")
