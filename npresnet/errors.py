"""The errors a user may want to catch: one base class and a few children that say whose move it is.

Messages follow one pattern: what was given; what the rule is; what to do.
"""


class NpResNetError(Exception):
    """Anything that npresnet refuses: catch this one to catch them all."""


class WeightsError(NpResNetError):
    """A weight file that cannot be read, is not a ResNet, or does not fit the architecture asked for."""


class WeightsWarning(UserWarning):
    """Something about the network in a weight file that the file does not say, or that is not run; ``npresnet info`` shows all."""


class ImageError(NpResNetError):
    """A picture or an array that cannot be taken as input.

    kind  what is wrong, in a word or two by which failures are counted: "damaged", say
    """

    def __init__(self, message: str = "", kind: str = "refused") -> None:
        super().__init__(message)
        self.kind = kind


class UsageError(NpResNetError):
    """A wrong argument: an unknown layer, algorithm, device or architecture."""


class OutputError(NpResNetError):
    """A result that cannot be written in the midst of the work; what was written before stays, and is good."""


class DeviceError(NpResNetError):
    """A card that is not there, cannot be used, or has too little memory; the message says what to do."""


class MissingExtraError(NpResNetError):
    """A feature whose optional dependency is not installed; the message names the ``pip install`` that adds it."""
