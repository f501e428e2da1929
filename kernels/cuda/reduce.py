"""Sums of a block's threads, on a card: half of them add the other half's numbers to their own, then half of these, and so on. The
order is always the same, and with it every bit of the result."""

from __future__ import annotations

from numba import cuda

from .launch import device_function

__all__ = ["THREADS", "block_sum"]

THREADS = 128  # a power of two, for the halving


@device_function
def block_sum(sums, thread, value):
    """The sum of ``value`` of all THREADS threads, in each of them; ``sums`` is shared, float64[THREADS]."""
    cuda.syncthreads()  # nobody reads the sum before any more
    sums[thread] = value
    half = THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            sums[thread] += sums[thread + half]
        half //= 2
    cuda.syncthreads()
    return sums[0]
