"""Compile kernels of five kinds for a card, without one: whether today's NumPy, Numba and numba-cuda go together.

    python -m tests.compile_kernels

Names that NumPy 2.5 has no more are taken away where an older NumPy is installed.
"""

from __future__ import annotations

import platform
from importlib import metadata

import numpy as np

KINDS = ("relu", "softmax", "convolve_64x32", "convolve_tf32_64x64x16s4", "stem_4")


def main() -> None:
    if hasattr(np, "row_stack"):
        del np.row_stack
    from npresnet.kernels.cuda import assembly, launch, stem, tensor  # noqa: F401 (they bring kernels)

    kernels = {kernel.name: kernel for kernel in launch.KERNELS}
    versions = (f"{name} {metadata.version(name)}" for name in ("numpy", "numba", "numba-cuda"))
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    for name in KINDS:
        made = assembly.assemble(kernels[name], (9, 0))
        print(f"{name}: {made.registers} registers, {made.spills} bytes spilled")


if __name__ == "__main__":
    main()
