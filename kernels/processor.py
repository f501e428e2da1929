"""What suits this processor: the micro-kernel's tile, and the sizes of blocks that stay in its caches.

One table by the width of vector registers, unless ``npresnet tune`` has measured something better on this machine, or
``NPRESNET_SETTINGS`` names something else, for tests and for study. No setting changes a result: sums are added up in the same
order whatever the tile, and which algorithm computes a layer depends on the network's shapes alone.

    settings                      what the choice rests on: ResNet-50, batch 1, one thread, on a Xeon (Emerald Rapids)
    tile 6 x 4, four steps        AVX-512: 9 x 3 registers are 12 % slower, 12 x 2 and eight steps the same, two steps 3 % slower
    tile 6 x 2, four steps        AVX2, there with LLVM's features narrowed to it: 4 x 3 registers are 4 % slower, two steps 7 %,
                                  eight steps 2 % faster
    tile 6 x 2, four steps        128 bits: nothing was measured
    256 KB of A, 28 tiles         half and double are the same within 2 % with 2 MB of L2; where L2 is smaller, so are they
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import llvmlite
import llvmlite.binding as llvm

from .cache import existing_cache, kernel_cache, write_whole
from .simd import LANES

__all__ = ["SETTINGS", "Settings", "alternatives", "identity", "keep", "l2_bytes", "usual"]

_REGISTERS = 32 if LANES == 16 else 16


class Settings(NamedTuple):
    """rows, vectors  the tile: so many rows of A times so many registers of B, all of whose sums stay in registers
    unroll         steps of k in one turn of the micro-kernel's loop
    block_bytes    of A, which stay in L2 while all panels of B pass by
    tiles          of Winograd's, which one item transforms and multiplies: these stay in L2, too
    """

    rows: int
    vectors: int
    unroll: int
    block_bytes: int
    tiles: int

    @property
    def valid(self) -> bool:
        """Whether kernels can be made with them."""
        sums = self.rows * self.vectors
        return min(self) > 0 and sums + self.vectors < _REGISTERS and self.unroll <= 16 and self.unroll.bit_count() == 1

    def __str__(self) -> str:
        return ",".join(map(str, self))


def l2_bytes() -> int:
    """Size of a core's second-level cache; 1 MB where the system does not tell (all but Linux)."""
    with suppress(OSError, ValueError):
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) * 1024
    return 1 << 20


def usual() -> Settings:
    """Those of the table."""
    l2 = l2_bytes()
    # of 128 channels, as whose transformed tiles and products take up most of what is cut so: 36 numbers for each
    tiles = 3 * l2 // 4 // (36 * 4 * (128 + 4 * LANES))
    return Settings(6, 4 if LANES == 16 else 2, 4, min(256 * 1024, l2 // 4), min(28, max(tiles, 4)))


def alternatives(given: Settings) -> list[list[Settings]]:
    """What is worth a try beside ``given``, one list for each idea: another tile, another loop, other blocks."""
    tiles = ((9, 3), (12, 2)) if LANES == 16 else ((4, 3),)
    ideas = [
        [given._replace(rows=rows, vectors=vectors) for rows, vectors in tiles],
        [given._replace(unroll=unroll) for unroll in (2, 8)],
        [given._replace(block_bytes=given.block_bytes * times // 2) for times in (1, 4)],
        [given._replace(tiles=given.tiles * times // 2) for times in (1, 4)],
    ]
    return [[settings for settings in idea if settings.valid] for idea in ideas]


@functools.cache
def identity() -> str:
    """Stands for all that machine code depends on besides the sources: the processor, and LLVM."""
    asked = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")]
    features = sorted(llvm.get_host_cpu_features().items())
    what = (llvmlite.__version__, llvm.get_process_triple(), llvm.get_host_cpu_name(), features, asked)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _parsed(text: str) -> Settings | None:
    if not re.fullmatch(r"\d{1,9}(,\d{1,9}){4}", text):
        return None
    settings = Settings(*map(int, text.split(",")))
    return settings if settings.valid else None


def _file(folder: str | None) -> Path | None:
    """Where settings are kept that were measured with these very kernels, below ``folder``."""
    return Path(folder, f"lanes{LANES}.{identity()}.json") if folder else None


def _kept() -> Settings | None:
    path = _file(existing_cache("tuned"))  # importing makes no folders
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text()) if path else None
        if isinstance(found, str):
            return _parsed(found)
    return None


def keep(settings: Settings) -> Path | None:
    """Let processes that start from now on go by ``settings``; returns the file, None where none can be written."""
    path = _file(kernel_cache("tuned"))
    with suppress(OSError):
        if path:
            write_whole(path, json.dumps(str(settings)).encode())
            return path
    return None


def _chosen() -> Settings:
    asked = os.environ.get("NPRESNET_SETTINGS")
    if asked is None:
        return _kept() or usual()
    settings = _parsed(asked)
    if settings is None:
        raise ValueError(
            f"NPRESNET_SETTINGS: got {asked!r}; it must be rows,vectors,unroll,block_bytes,tiles, as in {usual()}, or unset; a "
            f"tile's sums and a row of B must fit into {_REGISTERS - 1} registers, and unroll be a power of two up to 16"
        )
    return settings


SETTINGS = _chosen()
"""What kernels and plans of this process go by."""
