"""TensorFlow as the oracle: the same network built in Keras, filled from the same file, read out layer by layer.

Nothing here knows :mod:`npresnet.network.families`. The builders follow the programs that wrote the weight files, so a
mistake in npresnet's own table of architectures shows up as a difference instead of being made twice.

    build       a family's network in Keras            families.py and the builders that it lists
    load_file   a weight file into it                  files.py
    described   the network that a file describes       described.py
    detector    what Mask R-CNN has behind its backbone   detector.py
    activations what each of a network's layers computes  layers.py
"""

from . import detector
from .building import build
from .described import described, precision
from .families import BUILDERS
from .files import load_file
from .layers import activations

__all__ = ["BUILDERS", "activations", "build", "described", "detector", "load_file", "precision"]
