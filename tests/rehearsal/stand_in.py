"""Building ``driver.c``, letting a process find it in the place of NVIDIA's driver, and reading what it wrote down."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("driver.c")
LOG = "REHEARSAL_LOG"


def compiler() -> str | None:
    """A C compiler; None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)


def build(folder: Path) -> None:
    """Make the driver in ``folder``, by the names under which Numba and NVIDIA's bindings look for it."""
    made = folder / "libcuda.so.1"
    options = ("-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-pthread")
    subprocess.run([compiler() or "cc", *options, "-o", made, SOURCE], check=True)
    (folder / "libcuda.so").symlink_to(made.name)


def environment(folder: Path, log: Path | None = None) -> dict[str, str]:
    """That of a process which finds the driver in ``folder`` before any other, and lets it write ``log``."""
    found = {name: value for name, value in os.environ.items() if name not in (LOG, "NUMBA_ENABLE_CUDASIM")}
    found["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    return found if log is None else {**found, LOG: str(log)}


class Line(NamedTuple):
    """A call of the driver: of which thread, and its values as text, addresses too."""

    thread: int
    name: str
    values: dict[str, str]

    @property
    def bytes(self) -> int:
        return int(self.values["bytes"])

    @property
    def kernel(self) -> str:
        """The name of a launched kernel, as in Python: the last of the names that Numba has put together, each after its length."""
        name, rest = "", self.values["kernel"].removeprefix("_ZN")
        while digits := re.match(r"\d+", rest):
            end = digits.end() + int(digits[0])
            name, rest = rest[digits.end() : end], rest[end:]
        return name.lstrip("_")


class Log:
    """What the driver of this process has written down so far."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._lines: list[Line] = []

    def all(self) -> Sequence[Line]:
        with self._path.open() as file:
            file.seek(self._read)
            text = file.read()
        self._read += len(text)
        for line in text.splitlines():
            thread, name, *values = line.split()
            self._lines.append(Line(int(thread), name, dict(value.split("=", 1) for value in values)))
        return self._lines

    def held(self) -> Counter[str]:
        """What is alive: bytes on the card, bytes of page-locked memory, and graphs."""
        found: Counter[str] = Counter()
        for line in self.all():
            match line.name:
                case "cuMemAlloc" if line.values["at"] != "0":
                    found["card"] += line.bytes
                case "cuMemFree":
                    found["card"] -= line.bytes
                case "cuMemHostAlloc":
                    found["host"] += line.bytes
                case "cuMemFreeHost":
                    found["host"] -= line.bytes
                case "cuGraphInstantiate":
                    found["graphs"] += 1
                case "cuGraphExecDestroy":
                    found["graphs"] -= 1
        return found
