"""``Extract``: a network in an actor, and the decoders before it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..extraction.decoder import FORMATS, MOST_PIXELS
from ..extraction.decoders import DEADLINE, Decoded, Decoders, usual_batch
from ..extraction.inputs import Item
from ..extraction.opening import preparation_of, weights_hash
from ..extraction.rows import Extractor, chosen_layers
from ..images.resizing import Size
from ..model import load
from .planning import imported_ray

__all__ = ["Extract"]


class Extract:
    """For ``Dataset.map_batches``: loads a network once, and makes a row of features for each row of a batch.

    weights  the path of a weight file that every node sees
    sha256   what it must be, or None
    threads  None: as many as the actor was given processors. ``num_cpus`` alone says nothing to Numba
    others   as ``npresnet.extract`` has them; maps are pooled

    A batch has the column "path", and perhaps "bytes", the contents of the files, for what no path leads to; or "item", as
    ``npresnet.ray.extract`` makes it. What comes back has the columns path, status ("ok" or "failed"), error, text, width, height,
    and feature, which is null where the image has failed; with several layers feature_c4, feature_c5.

    Files are decoded in processes of their own, so that none of them can end the actor: an actor that dies is started again with the
    batch that it died of, and again.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        layers: str | Sequence[str] | None = None,
        pool: str = "mean",
        dtype: str = "f32",
        size: Size | None = None,
        *,
        architecture: str | None = None,
        preprocessing: str | None = None,
        sha256: str | None = None,
        threads: int | None = None,
        decoders: int | None = None,
        batch: int | None = None,
        orient: bool = False,
        fast_decode: bool = False,
        formats: Sequence[str] = FORMATS,
        most_pixels: int = MOST_PIXELS,
        deadline: float = DEADLINE,
    ) -> None:
        if pool == "none":
            raise UsageError("pool: got 'none'; maps are pooled here: mean, max or gem")
        self.threads = threads or assigned_cpus()
        os.environ["NUMBA_NUM_THREADS"] = str(self.threads)  # for whatever else runs in this process
        net = load(weights, architecture, threads=self.threads, preprocessing=preprocessing)
        if sha256 is not None and weights_hash(net) != sha256:
            raise UsageError(
                f"{weights}: other weights on this node than the job began with; give all nodes the same file"
            )
        self._layers = chosen_layers(net, layers)
        self._extractor = Extractor(net, self._layers, pool, dtype)
        how = preparation_of(net, size, formats, most_pixels, orient, fast_decode)
        self._row = self._extractor.row(how.shape)
        self._decoding = decoders or self.threads, how, batch or usual_batch(how.shape), deadline
        self._decoders = Decoders(*self._decoding)
        self._lock = threading.Lock()

    def __call__(self, batch: dict[str, Any]) -> Any:
        """The columns of ``batch``'s images, as a ``pyarrow.Table``."""
        with self._lock, ExitStack() as stack:
            items = list(self._items(batch, stack))
            rows: list[tuple[Decoded, Any]] = []
            try:
                for window in self._decoders.windows(iter(items)):
                    rows += self._extractor.rows(window)
            except BaseException:  # whatever it was: answers to this batch would be taken for the next one's
                self._decoders.close()
                self._decoders = Decoders(*self._decoding)
                raise
            return self._table(rows)

    @property
    def decoder_pids(self) -> list[int]:
        """The decoders' numbers of process."""
        return self._decoders.pids

    def _items(self, batch: dict[str, Any], stack: ExitStack) -> Iterator[Item]:
        if "item" in batch:
            yield from (Item.of_line(str(line)) for line in batch["item"])
            return
        if "path" not in batch:
            raise UsageError(f"batch: it has the columns {', '.join(batch)}; there must be 'path', and perhaps 'bytes'")
        paths = [str(path) for path in batch["path"]]
        if "bytes" not in batch:
            yield from (Item(path, os.path.abspath(path)) for path in paths)
            return
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npresnet-", dir=memory)))
        for number, (path, data) in enumerate(zip(paths, batch["bytes"], strict=True)):
            file = folder / f"{number}{Path(path).suffix}"
            file.write_bytes(data)
            yield Item(path, str(file))

    def _table(self, rows: list[tuple[Decoded, Any]]) -> Any:
        import pyarrow as pa

        good = [row is not None for _, row in rows]
        found = np.empty(sum(good), self._row)
        for at, row in enumerate(row for _, row in rows if row is not None):
            found[at] = row
        columns: dict[str, Any] = {
            "path": pa.array([shown_path(decoded.item.path) for decoded, _ in rows], pa.string()),
            "status": pa.array(["ok" if there else "failed" for there in good], pa.string()),
            "error": pa.array([decoded.error for decoded, _ in rows], pa.string()),
            "text": pa.array([decoded.text for decoded, _ in rows], pa.string()),
            "width": pa.array([decoded.stored[0] for decoded, _ in rows], pa.int32()),
            "height": pa.array([decoded.stored[1] for decoded, _ in rows], pa.int32()),
        }
        for name in self._layers:
            array = found if found.dtype.names is None else found[name]
            columns["feature" if found.dtype.names is None else f"feature_{name}"] = _feature(array, good)
        return pa.table(columns)


def _feature(rows: Any, good: list[bool]) -> Any:
    """Rows as a column in which those that are not ``good`` are null."""
    import pyarrow as pa

    width = rows.shape[1] if rows.ndim > 1 else 1
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, width)
    places = np.cumsum(good) - 1
    return lists.take(
        pa.array([int(place) if there else None for place, there in zip(places, good, strict=True)], pa.int64())
    )


def shown_path(path: str) -> str:
    """A path as a text that parquet can hold: bytes that are no UTF-8 are written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def assigned_cpus() -> int:
    """The processors that Ray has given this actor; 1 for a share of one."""
    found = imported_ray().get_runtime_context().get_assigned_resources().get("CPU", 1)
    return max(1, int(found))
