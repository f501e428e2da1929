"""Where measurements are kept: one JSON file per script and machine, ``bench/results/<script>-<machine>.json``.

Every file has the same frame, so that ``report.py`` can read them all:

    {"machine": one line, "cases": {case: {"measured": date, ...}}}

A case that is measured again takes the place of its former self; the others stay.
"""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

from npresnet.files.safe_write import replaced
from npresnet.kernels.threads import available_threads
from npresnet.peers.machine import describe, processor

RESULTS = Path(__file__).parent / "results"


def machine_name() -> str:
    """A short name of this machine that can be part of a file name: amd-epyc-9r14-2."""
    words = re.sub(r"\(.*?\)|@.*|\b(CPU|processor|\d+-core)\b", " ", processor(), flags=re.IGNORECASE)
    return "-".join([*re.findall(r"[a-z0-9]+", words.lower()), str(available_threads())])


def load(path: Path) -> dict[str, Any]:
    """A file of results; an empty frame if there is none yet."""
    return json.loads(path.read_text()) if path.exists() else {"machine": describe(), "cases": {}}


def save(
    script: str,
    case: str,
    result: dict[str, Any],
    folder: Path | None = None,
    machine: tuple[str, str] | None = None,
) -> Path:
    """Keep one case's result among the others of ``script`` on this machine. Returns the file's path.

    machine  (name, description) of what was measured, where that is not this machine's processor
    """
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    name, described = machine or (machine_name(), describe())
    path = folder / f"{script}-{name}.json"
    contents = load(path)
    contents["machine"] = described
    contents["cases"][case] = {"measured": datetime.datetime.now(datetime.UTC).date().isoformat(), **result}
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(contents, indent=1) + "\n")
    return path
