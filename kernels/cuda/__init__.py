"""The kernels on a card: the same operators as in the folder above, file by file, written in Numba's CUDA."""
