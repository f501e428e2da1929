"""A whole job on a cluster: listed by the driver, computed by actors, written as parquet, and taken up again where it was.

    DIR/job.json            its settings, the root of its inputs, versions; with others the folder is refused
    DIR/lock                held by the driver (``extraction.locks``)
    DIR/inputs/*.parquet    the images that are still to come, as of the last start; a file is what a task reads
    DIR/run/                what Ray writes: files of results, and checkpoints, with the paths of each, once it is whole
    DIR/features/*.parquet  the results
    DIR/checkpoints/        the paths in each file of results

Ray does not wait for the end of its tasks when a run fails or a driver is killed: some go on, and commit what is computed once more
meanwhile. So they write to a place of their own. The driver moves what is whole from there, and drops a file of which it has a path.

Ray would leave out what its checkpoints have by an actor of its own, which takes a processor for as long as the job runs. Here the
driver does it, when it lists the inputs.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..errors import NpResNetError, UsageError
from ..extraction.decoder import FORMATS, MOST_PIXELS
from ..extraction.inputs import InputList, parse_sources
from ..extraction.job import JobSettings
from ..extraction.locks import JobLock
from ..extraction.opening import (
    check_root,
    check_same,
    preparation_of,
    prepare_folder,
    settings_of,
    version_differences,
    versions,
)
from ..extraction.rows import Extractor, chosen_layers
from ..extraction.storage import disk_errors, write_whole
from ..extraction.summary import Outcome
from ..images.resizing import Size
from ..model import load
from .actor import Extract, shown_path
from .planning import actors, imported_ray, settled

__all__ = ["extract"]

_LOST = 3  # runs


def extract(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layers: str | Sequence[str] | None = None,
    pool: str = "mean",
    dtype: str = "f32",
    size: Size | None = None,
    architecture: str | None = None,
    preprocessing: str | None = None,
    orient: bool = False,
    fast_decode: bool = False,
    formats: Sequence[str] = FORMATS,
    most_pixels: int = MOST_PIXELS,
    follow_links: bool = False,
    cpus: int = 1,
    size_of_pool: int | None = None,
    batch_size: int = 64,
    block: int = 256,
    other_versions: bool = False,
    started: Callable[[int, int, int], None] | None = None,
) -> Outcome:
    """As ``npresnet.extract``, on the cluster that this process is connected to, or on one of its own.

    inputs, weights, out  on a disk that all nodes see, under the same names
    cpus          processors of an actor; ``size_of_pool`` actors, None: as many as ``actors`` finds room for
    batch_size    images that an actor is given at a time
    block         images in a file of inputs, and so in one of results: what is computed again after a kill
    other_versions  as ``npresnet.extract`` has it
    started       called with the number of images, those that are done, and of actors, as often as that is planned

    Killed and called again it goes on; images that the inputs have gained are added. When actors or nodes are lost it goes on with
    those that are left, unless that happens three times without any image in between: then NpResNetError is raised. Raises as
    ``npresnet.extract`` besides, and MissingExtraError without Ray.
    """
    ray = imported_ray()
    from ray.data import ActorPoolStrategy

    began = time.monotonic()
    folder = Path(out).absolute()
    prepare_folder(folder)
    options: dict[str, Any] = {
        "layers": layers, "pool": pool, "dtype": dtype, "size": size, "architecture": architecture, "preprocessing": preprocessing,
        "orient": orient, "fast_decode": fast_decode, "formats": tuple(formats), "most_pixels": most_pixels,
    }  # fmt: skip
    settings = _settings(weights, **options)
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    sources, standard_input = parse_sources(given)
    constructor = {"weights": os.path.abspath(weights), **options, "sha256": settings.weights_sha256}
    first = None  # images that were to come at the beginning
    had, idle = -1, 0  # images that were done before the last run; runs, one after the other, that added none
    failure: Exception | None = None  # of the last run
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    with disk_errors(folder), JobLock.held(folder) as lock:
        lock.whole()
        _begin(folder, settings, InputList(sources, standard_input, folder).root, other_versions)
        for marker in (folder / "run").glob("marker-*"):  # of a driver that was killed
            marker.unlink(missing_ok=True)
        while True:
            done = _gathered(folder)
            had, idle = len(done), 0 if len(done) > had else idle + 1
            listing = InputList(sources, standard_input, folder, follow_links)
            total, left = _write_inputs(folder / "inputs", listing, done, block)
            if not total:
                why = "".join(f", {count} x {why}" for why, count in listing.passed_over.items())
                raise UsageError(f"inputs: no pictures among them{why}; check the path")
            first = left if first is None else first
            if not left:
                shutil.rmtree(folder / "run", ignore_errors=True)
                return _outcome(folder, total, first, time.monotonic() - began)
            if idle == _LOST:
                why = f"with {_brief(failure)}" if failure else "well, which is a fault of npresnet"
                raise NpResNetError(f"{folder}: {_LOST} runs have added nothing; the last ended {why}") from failure
            pool_size = size_of_pool or actors(cpus, checkpoints=False)
            if started is not None:
                started(total, total - left, pool_size)
            try:
                with _context(folder), _marked(folder / "run") as own, warnings.catch_warnings():
                    rows = ray.data.read_parquet(str(folder / "inputs"), override_num_blocks=-(-left // block))
                    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")  # see _no_restarts
                    rows = rows.map_batches(
                        _ExtractInRun,
                        fn_constructor_kwargs={"marker": str(own), **constructor},
                        batch_size=min(batch_size, block),
                        batch_format="numpy",
                        num_cpus=cpus,
                        compute=ActorPoolStrategy(size=pool_size),
                        **_no_restarts(rows.map_batches),
                    )
                    rows.write_parquet(str(folder / "run" / "features"))
                failure = None
            except ray.exceptions.RayError as error:  # an actor or a node, mostly; or one of its own, which comes again
                failure = error
                settled()


def _brief(error: Exception) -> str:
    """What Ray says was the matter, without how it came to it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


class _ExtractInRun(Extract):
    """Ends with its run, whose marker is a file.

    When a run fails, Ray lets go of its actors and ends none. One that anything still refers to keeps its processors, and the actors of
    the next run wait for them, for ever.
    """

    def __init__(self, marker: str, **options: Any) -> None:
        threading.Thread(target=_exit_without, args=(marker,), name="npresnet-run", daemon=True).start()
        super().__init__(**options)


def _exit_without(marker: str) -> None:
    while os.path.exists(marker):
        time.sleep(1)
    os._exit(0)


@contextmanager
def _marked(folder: Path) -> Iterator[Path]:
    """A file that is there as long as this run is."""
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="marker-", dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        os.unlink(name)


def _settings(
    weights: Any,
    layers: Any,
    pool: str,
    dtype: str,
    size: Size | None,
    architecture: Any,
    preprocessing: Any,
    **how: Any,
) -> JobSettings:
    """The job's settings; a wrong argument is an error here, before any actor starts."""
    net = load(weights, architecture, preprocessing=preprocessing)
    named = chosen_layers(net, layers)
    preparation = preparation_of(net, size, how["formats"], how["most_pixels"], how["orient"], how["fast_decode"])
    Extractor(net, named, pool, dtype).row(preparation.shape)
    return settings_of(net, named, pool, dtype, preparation)


def _begin(folder: Path, settings: JobSettings, root: str, other: bool) -> None:
    """Write the job down, or raise UsageError where another is there."""
    path = folder / "job.json"
    if not path.exists():
        contents = {"ray": asdict(settings), "root": root, "versions": versions()}
        write_whole(path, [json.dumps(contents, indent=1).encode()])
        return
    found = json.loads(path.read_bytes())
    if "ray" not in found:
        raise UsageError(f"{folder}: a job of `npresnet extract` is there; give another folder")
    different = JobSettings.kept(found["ray"]).differences(settings)
    check_same(folder, different if other else [*different, *version_differences(found["versions"])])
    check_root(folder, found["root"], root)


def _no_restarts(function: Any) -> dict[str, Any]:
    """For Rays that can be told so: an actor that is lost ends the run, and ``extract`` plans another one for the nodes that are left.

    Ray itself would start the actor again, without end, and its tasks would wait for it: for ever where the node is lost on which it
    had room.
    """
    parameters = inspect.signature(function).parameters
    others = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return {name: 0 for name in ("max_restarts", "max_task_retries") if others or name in parameters}


@contextmanager
def _context(folder: Path) -> Iterator[None]:
    """Checkpoints in this context; and a task for each file of inputs, which Ray's newer reader would put together, for they are small."""
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    checkpoints = CheckpointConfig(
        id_column="path",
        checkpoint_path=str(folder / "run" / "checkpoints"),
        delete_checkpoint_on_success=False,
        checkpoint_manager_cls=_listed_already(),
    )
    context = DataContext.get_current()
    asked = {"checkpoint_config": checkpoints, "use_datasource_v2": False}
    before = {name: getattr(context, name) for name in asked if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, asked[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _listed_already() -> type:
    """A manager of checkpoints that adds no actor that leaves rows out: they are not listed."""
    from ray.data.checkpoint.checkpoint_filter import IdColumnCheckpointManager

    class ListedAlready(IdColumnCheckpointManager):  # type: ignore[misc]
        def load_checkpoint(
            self, data_file_dir: str | None = None, data_file_filesystem: Any = None
        ) -> tuple[None, int]:
            return None, 0

    return ListedAlready


def _gathered(folder: Path) -> set[str]:
    """The paths that have a result, after what runs have committed was moved to ``features``; a path is there once.

    The checkpoint moves last, so that a kill in between does no harm.
    """
    import pyarrow.parquet as pq
    from ray.data.checkpoint.checkpoint_writer import PENDING_CHECKPOINT_SUFFIX

    def paths(checkpoint: Path) -> list[str]:
        return pq.read_table(checkpoint, columns=["path"])["path"].to_pylist()  # type: ignore[no-any-return]

    for name in ("features", "checkpoints"):
        (folder / name).mkdir(exist_ok=True)
    found: set[str] = set()
    for checkpoint in (folder / "checkpoints").glob("*.parquet"):
        found.update(paths(checkpoint))
    for checkpoint in sorted((folder / "run" / "checkpoints").glob("*.parquet")):
        if checkpoint.name.endswith(f"{PENDING_CHECKPOINT_SUFFIX}.parquet"):
            continue
        held = paths(checkpoint)
        if found.isdisjoint(held):
            for file in (folder / "run" / "features").glob(f"{checkpoint.stem}*"):
                os.replace(file, folder / "features" / file.name)
            os.replace(checkpoint, folder / "checkpoints" / checkpoint.name)
            found.update(held)
        else:
            # The same task once more, whose first results count; or one of which a kill has left half here, half there.
            gathered = (folder / "checkpoints" / checkpoint.name).exists()
            for place in (folder / "run" / "features", *(() if gathered else (folder / "features",))):
                for file in place.glob(f"{checkpoint.stem}*"):
                    file.unlink()
            checkpoint.unlink()
    return found


def _write_inputs(folder: Path, listing: InputList, done: set[str], block: int) -> tuple[int, int]:
    """Write the images that are not done, ``block`` to a file; how many there are in all, and how many are written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    seen: set[str] = set()
    left: list[tuple[str, str]] = []
    written = 0

    def write() -> None:
        names, items = zip(*left, strict=True)
        pq.write_table(pa.table({"path": names, "item": items}), folder / f"{written // block:06d}.parquet")

    for item in listing:
        name = shown_path(item.path)
        if name in seen:
            raise UsageError(f"inputs: {name!r} is among them twice; a path stands for one image on a cluster")
        seen.add(name)
        if name in done:
            continue
        left.append((name, replace(item, file=os.path.join(listing.root, item.file)).line()))
        if len(left) == block:
            write()
            written += block
            left.clear()
    if left:
        write()
    return len(seen), written + len(left)


def _outcome(folder: Path, total: int, computed: int, seconds: float) -> Outcome:
    import pyarrow.dataset as ds

    errors: Counter[str] = Counter()
    rows = 0
    results = ds.dataset(folder / "features", format="parquet")
    for batch in results.to_batches(columns=["status", "error"]):
        for status, error in zip(batch["status"].to_pylist(), batch["error"].to_pylist(), strict=True):
            rows += status == "ok"
            if status != "ok":
                errors[error] += 1
    return Outcome(folder, total, rows, sum(errors.values()), computed, seconds, dict(errors.most_common()))
