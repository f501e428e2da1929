"""The kernels on a card, or in Numba's simulator: ``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/cuda``."""
