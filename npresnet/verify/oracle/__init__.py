"""TensorFlow as the oracle: the same network built in Keras, filled from the same file, read out layer by layer.

Nothing here knows :mod:`npresnet.network.families`. The builders follow the programs that wrote the weight files, so a
mistake in npresnet's own table of architectures shows up as a difference instead of being made twice.

    build       a family's network in Keras            families.py and the builders that it lists
    load_file   a weight file into it                  files.py
    load_model  the model that a file describes
    activations what each of a model's layers computes  layers.py
"""

from .building import build
from .families import BUILDERS
from .files import load_file, load_model
from .layers import activations

__all__ = ["BUILDERS", "activations", "build", "load_file", "load_model"]
