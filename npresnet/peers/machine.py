"""What a measurement was made on: the machine in one line, and the memory that a process needed."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ..kernels.threads import available_threads

__all__ = ["describe", "peak_memory", "processor", "restart_peak_memory"]


def processor() -> str:
    """The processor's own name, or the architecture where it does not tell."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def describe() -> str:
    """Processor, cores, Python and the versions that matter."""
    name, info = processor(), Path("/proc/cpuinfo")
    flags = info.read_text() if info.exists() else ""
    widths = [width for width in ("avx512f", "avx2", "asimd") if re.search(rf"\b{width}\b", flags)]
    name += f" ({widths[0]})" if widths else ""
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("numpy", "numba"))
    return f"{name}, {available_threads()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes, since its start or the last ``restart_peak_memory``.

    0 where the system does not tell (Windows).
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(found[1]) * 1024 if found else 0
    try:
        import resource
    except ImportError:
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if platform.system() == "Darwin" else used * 1024


def restart_peak_memory() -> None:
    """Let ``peak_memory`` count from now on, and from what is in use now; does nothing where that cannot be (all but
    Linux)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
