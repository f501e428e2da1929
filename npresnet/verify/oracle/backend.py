"""TensorFlow and Keras, imported where they are needed and nowhere before: whoever wants fewer log lines or a number of threads
sets that first (``TF_CPP_MIN_LOG_LEVEL``)."""

from __future__ import annotations

import re
from typing import Any

from ...errors import MissingExtraError, UsageError

__all__ = ["short", "tensorflow_and_keras"]

_MOST = 300  # characters of what another program says; Keras puts whole descriptions of models into its errors


def tensorflow_and_keras() -> tuple[Any, Any]:
    """Import TensorFlow and Keras, and check that Keras runs on TensorFlow with NHWC float32 as its defaults.

    Raises MissingExtraError where either is missing, UsageError where Keras is configured otherwise.
    """
    try:
        import keras
        import tensorflow
    except ImportError as error:
        raise MissingExtraError(
            'checking against TensorFlow needs it installed: pip install "npresnet[test]"'
        ) from error
    settings = {
        "backend": (keras.config.backend(), "tensorflow"),
        "image_data_format": (keras.config.image_data_format(), "channels_last"),
        "floatx": (keras.config.floatx(), "float32"),
        "dtype policy": (keras.config.dtype_policy().name, "float32"),
    }
    for setting, (found, needed) in settings.items():
        if found != needed:
            raise UsageError(
                f"keras: its {setting} is set to {found!r}; the check needs {needed!r}; "
                "change KERAS_BACKEND, ~/.keras/keras.json or the calling program"
            )
    return tensorflow, keras


def short(error: object) -> str:
    """What another program says, in one line of some 300 characters."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())  # without a terminal's colours
    return text if len(text) <= _MOST else f"{text[:_MOST]}... ({len(text) - _MOST:,} more characters left out)"
