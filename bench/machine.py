"""One line that describes the machine, and where a machine's results are kept."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from npresnet.kernels.threads import available_threads

RESULTS = Path(__file__).parent / "results"


def describe() -> str:
    """Processor, cores, Python and the versions that matter."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        found = re.search(r"model name\s*: (.+)", text)
        name = found[1] if found else name
        widths = [w for w in ("avx512f", "avx2", "asimd") if re.search(rf"\b{w}\b", text)]
        name += f" ({widths[0]})" if widths else ""
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("numpy", "numba"))
    return f"{name}, {available_threads()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def save(name: str, results: dict[str, Any]) -> Path:
    """Write results as ``bench/results/<name>.json``, with the machine's description."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": describe(), **results}, indent=1) + "\n")
    return path


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if platform.system() == "Darwin" else used * 1024


def quiet() -> bool:
    """Whether nothing much else seems to be running."""
    return os.getloadavg()[0] < 0.7 * available_threads()
