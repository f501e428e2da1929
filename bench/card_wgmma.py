"""Products of warp groups on a card that has them: how right, and how fast beside those of warps."""

from __future__ import annotations

from typing import Any

from npresnet.cuda.card import Card
from npresnet.cuda.choice import Choice, convolutions
from npresnet.cuda.measured import seconds_of
from npresnet.cuda.trial import attempts
from npresnet.kernels.cuda.fused import Convolution
from npresnet.kernels.cuda.wgmma import WarpgroupTile

__all__ = ["SIZES", "best_of_each", "compared", "errors"]

SIZES = {
    "3x3, 64 to 64 channels, 64 of 56x56": Convolution(64, 56, 56, 64, 3, 3, 1, 1, 1, 1, 56, 56, 64),
    "3x3, 128 to 128 channels, 64 of 28x28": Convolution(64, 28, 28, 128, 3, 3, 1, 1, 1, 1, 28, 28, 128),
    "3x3, 256 to 256 channels, 64 of 14x14": Convolution(64, 14, 14, 256, 3, 3, 1, 1, 1, 1, 14, 14, 256),
    "1x1, 256 to 1024 channels, 64 of 14x14": Convolution(64, 14, 14, 256, 1, 1, 1, 1, 0, 0, 14, 14, 1024),
    "3x3, 512 to 512 channels, 8 of 7x7": Convolution(8, 7, 7, 512, 3, 3, 1, 1, 1, 1, 7, 7, 512),
    "8192x8192x2048": Convolution(1, 8192, 1, 2048, 1, 1, 1, 1, 0, 0, 8192, 1, 8192),
}
"""Of a ResNet-50, and a product that gives a card nothing to wait for."""


def errors(card: Card) -> list[dict[str, Any]]:
    """What each tile's small and large products come to, beside float64 and beside ``mma``. The card must be the current one."""
    return [attempt._asdict() for attempt in attempts(card)]


def best_of_each(sms: int, size: Convolution) -> list[Choice]:
    """For each tile in tf32, in as many parts as are expected to be the best."""
    found: dict[str, Choice] = {}
    for choice in convolutions(sms, size, "tf32", False, warpgroups=True):
        found.setdefault(str(choice.tile), choice)
    return list(found.values())


def compared(card: Card, stream: Any, size: Convolution) -> dict[str, Any]:
    """Seconds of each tile for a convolution, and cycles as expected; in words, the best of either kind. The card must be the
    current one."""
    ways = best_of_each(card.sms, size)
    seconds = dict(zip(ways, seconds_of(card, stream, size, ways), strict=True))
    flop = 2 * size.rows * size.co * size.depth
    best = [
        min((way for way in ways if isinstance(way.tile, WarpgroupTile) == kind), key=seconds.__getitem__)
        for kind in (True, False)
    ]
    text = ", ".join(
        f"{way} {seconds[way] * 1e6:.1f} us ({flop / max(seconds[way], 1e-9) / 1e12:.0f} TFLOP/s)" for way in best
    )
    return {
        "sizes": list(size),
        "ways": [{"way": str(way), "seconds": seconds[way], "expected_cycles": way.prediction.cycles} for way in ways],
        "text": f"{text}: {seconds[best[1]] / max(seconds[best[0]], 1e-9):.2f} times as fast",
    }
