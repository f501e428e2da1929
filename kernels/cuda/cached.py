"""The machine code of a card's kernels, kept on disk where ``kernels/cache.py`` says, as the CPU's is.

No state of the disk is an error, and none of Numba's own cache, whose insides change from version to version: a kernel
that cannot be kept is compiled.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ..compiling import compiling, not_kept
from ..numba_cache import Keyed, Locator

__all__ = ["compiled", "keep"]

compiled: list[str] = []
"""The names of the kernels that this process has compiled for a card, not found in the cache."""


def keep(dispatcher: Any, name: str) -> None:
    """Let what Numba's ``dispatcher`` of a kernel compiles be kept, and looked for before it compiles."""
    with contextlib.suppress(Exception):
        dispatcher._cache = _cache(dispatcher.py_func, name)


class _CardLocator(Locator):
    settings = ("cuda",)


def _cache(function: Any, name: str) -> Any:
    from numba.cuda.dispatcher import CUDACache, CUDACacheImpl

    class Implementation(CUDACacheImpl):
        _locator_classes = [_CardLocator]  # noqa: RUF012 (Numba's own name)

    class Files(Keyed, CUDACache):
        _impl_class = Implementation

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            found = None
            with contextlib.suppress(Exception):  # a damaged file, whose pickle can raise anything
                found = super().load_overload(sig, target_context)
            if found is None:
                compiling(name, compiled, "card")
            return found

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except Exception as error:
                not_kept(name, str(error))

    return Files(function)
