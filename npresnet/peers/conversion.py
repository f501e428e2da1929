"""What an engine's own converter makes of a network, in a process that ends with it.

A converter may need more memory and time than the engine, and bring in another one: none of that is the engine's.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from ..errors import NpResNetError
from ..network.graph import Graph
from ..network.weights import Weights
from .peer import Batch

__all__ = ["Converter", "converted"]

Converter = Callable[[Graph, Weights, Batch], bytes]
"""A function of a module, so that another process finds it by its name."""


def converted(convert: Converter, graph: Graph, weights: Weights, batch: Batch) -> tuple[bytes, float]:
    """The file that ``convert`` makes of the network in a process of its own, and the seconds that it took.

    Raises NpResNetError where that process raises anything, or dies.
    """
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")  # nothing that was imported here is there
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(there, convert, graph, weights, batch), daemon=True)
    process.start()
    there.close()  # else its end would not be noticed here
    with here:
        try:
            made = here.recv()
        except EOFError:
            process.join()
            made = f"its process ended with status {process.exitcode}"
    process.join()
    if isinstance(made, str):
        raise NpResNetError(f"the converter failed: {made}")
    return made, time.perf_counter() - start


def _serve(there: Connection, convert: Converter, graph: Graph, weights: Weights, batch: Batch) -> None:
    """Send the file, or in words why there is none."""
    try:
        there.send(convert(graph, weights, batch))
    except Exception as error:
        there.send(f"{type(error).__name__}: {error}")
