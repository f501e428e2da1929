"""Studying convolution on one's own network, layer by layer, idea by idea: what ``npresnet study`` shows.

    from npresnet import study

    study.layers(net, images)       the network as a table: cost, algorithm and why, time, share of the peak, receptive field
    study.window(net, images)       one output, number by number, and its row of the im2col matrix
    study.winograd(net, images)     the matrices, the proof, one real tile, and what the points cost
    study.errors(net, images)       every algorithm beside float64
    study.ladder(net, images)       one convolution by every version, and by your own
    study.memory(net, (1, h, w))    where activations lie, and how long
    study.maps(net, images)         feature maps; study.receptive_field(net, layer, (h, w)): the pixels behind a cell
    study.watch("gemm_blocked")     a kernel's loop, access by access
    study.asm("tile")               the loop that the machine runs

Each returns a plain dataclass, the only source of numbers: tables, JSON and the page are made of it. Nothing here is imported by what
runs networks, and nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asm import asm
    from .errors import errors
    from .ladder import ladder
    from .layers import layers
    from .maps import maps, receptive_field
    from .memory import memory, write_trace
    from .watch import watch
    from .window import window
    from .winograd import winograd

__all__ = [
    "asm",
    "errors",
    "ladder",
    "layers",
    "maps",
    "memory",
    "receptive_field",
    "watch",
    "window",
    "winograd",
    "write_trace",
]

_ELSEWHERE = {"receptive_field": "maps", "write_trace": "memory"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_ELSEWHERE.get(name, name)}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})


class _Package(ModuleType):
    """Keeps the names of functions for the functions: every topic's module has the name of one."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
