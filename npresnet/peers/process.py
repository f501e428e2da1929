"""An engine in a process of its own, and what is asked of it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import NpResNetError
from .case import Case

__all__ = ["EngineFailed", "Process", "Worker"]

Array = npt.NDArray[Any]
_PATIENCE = 900.0  # seconds after which an engine that does not answer is given up


class EngineFailed(NpResNetError):
    """An engine that could not do what it was told, and why; the others go on without it."""


class Worker(Protocol):
    """One engine, ready to run one case. All methods raise EngineFailed."""

    @property
    def ready(self) -> Mapping[str, Any]:
        """What is known of it: version, settings, chosen, start_seconds and what they went to, peak_bytes."""

    def features(self) -> Mapping[str, Array]:
        """{"C1": float32[n, h', w', c], ...} of the images."""

    def time(self, runs: int, warmup: int) -> list[float]:
        """Seconds of each of so many runs, after so many that are not timed."""

    def close(self) -> None:
        """Stop in any case; may be called again."""


class Process:
    """An engine in a process of its own, with ``variables`` added to its environment."""

    def __init__(self, engine: str, weights: Path, case: Case, variables: Mapping[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed with the process)
        count = str(case.threads)
        environment = {
            **os.environ,
            # whatever pool of threads an engine brings along, it has this many
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **(variables or {}),
        }
        # the same modules as here, wherever they were found
        code = f"import sys; sys.path[:] = {sys.path!r}; from npresnet.peers.worker import main; main()"
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment,
        )  # fmt: skip
        self._answers: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        job = {"engine": engine, "weights": str(weights), "architecture": case.network, "batch": case.batch}
        try:
            ready = self._ask({**job, "threads": case.threads})
        except BaseException:
            self.close()
            raise
        self.ready = {**ready, "start_seconds": time.perf_counter() - start - ready["convert_seconds"]}

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=_PATIENCE)
        except queue.Empty:
            raise EngineFailed(f"no answer within {_PATIENCE:g} s") from None
        except OSError:  # it has gone; what it said before that may still be there
            line = ""
        if not line:
            raise EngineFailed(f"its process ended{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailed(answer["error"])
        return answer

    def _last_words(self) -> str:
        """How the process ended, and the last line that it wrote."""
        status = self._process.wait(10)
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        return f" with status {status}" + (f" ({lines[-1]})" if lines else "")

    def features(self) -> Mapping[str, Array]:
        with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder:
            path = Path(folder, "features.npz")
            self._ask({"do": "features", "to": str(path)})
            with np.load(path, allow_pickle=False) as file:
                return dict(file)

    def time(self, runs: int, warmup: int) -> list[float]:
        seconds: list[float] = self._ask({"do": "time", "runs": runs, "warmup": warmup})["seconds"]
        return seconds

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
