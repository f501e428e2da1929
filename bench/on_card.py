"""One script for a card: is it right there, and how fast beside PyTorch with cuDNN?

    python -m bench.on_card                  everything, in 7 minutes at most
    python -m bench.on_card --quick          the least of each
    NUMBA_ENABLE_CUDASIM=1 python -m bench.on_card --simulate --out /tmp/card    a dry run, without a card

It runs unattended and without a network: the tests of ``tests/cuda`` on the card, the memory checker where it is
installed, whole networks beside recordings of TensorFlow, repeatability to the last bit, and times beside PyTorch's with
the same images on the card. Each section is a process of its own, so that one that crashes or hangs takes nothing with it;
the most important come first, and what there is no time for is left out, which is said; where the first kernel fails nothing
else is tried. ``--limit tuning=90`` gives a section other seconds than its own. Results are saved case by case as
``card-<name of the card>.json`` in ``bench/results``; ``python -m bench.report`` makes tables and pictures of them.

Exit status: 0 if nothing failed and something was run; 1 if not; 2 for wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import store

_GRACE = 3.0  # seconds that a section gets for its last words
_LEAST = 5.0  # seconds without which none is begun


class Outcome:
    """What came of all sections: {case: result}, saved as they come."""

    def __init__(self, folder: Path) -> None:
        self.cases: dict[str, dict[str, Any]] = {}
        self._folder = folder
        self._machine = ("unknown", "an unknown card")
        self.path: Path | None = None

    def add(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep one case's result."""
        self.cases[key] = dict(result)
        if key == "environment" and "card" in result:
            self._machine = machine(result)
        if self.path is None:  # a file is what one run has found
            (self._folder / f"card-{self._machine[0]}.json").unlink(missing_ok=True)
        self.path = store.save("card", key, dict(result), self._folder, self._machine)

    def failed(self) -> list[str]:
        return [key for key, result in self.cases.items() if result["status"] == "failed"]

    def left_out(self) -> list[str]:
        return [key for key, result in self.cases.items() if result["status"] == "left out"]


def machine(environment: Mapping[str, Any]) -> tuple[str, str]:
    """(name for a file, description) of the card."""
    name = "-".join(re.findall(r"[a-z0-9]+", environment["card"].lower()))
    versions = ", ".join(f"{package} {version}" for package, version in environment["versions"].items() if version)
    driver = environment.get("driver", {}).get("driver_version")
    return name, f"{environment['card']}{f', driver {driver}' if driver else ''}, {versions}"


def run_sections(
    names: Sequence[str], limits: Mapping[str, float], orders: Mapping[str, Any], outcome: Outcome, budget: float
) -> None:
    """Run sections one after the other, each in a process of its own; none after an environment in which no kernel runs.

    limits  seconds that each may take
    orders  what a ``Job`` is made of, but its deadline
    budget  seconds for all
    """
    end = time.monotonic() + budget
    with tempfile.TemporaryDirectory(prefix="npresnet-card-") as folder:
        for name in names:
            seconds = min(limits[name], end - time.monotonic())
            useless = outcome.cases.get("environment", {}).get("status") == "failed"
            if useless or seconds < _LEAST:
                reason = "no kernel runs" if useless else f"no time: the budget of {budget:.0f} s is spent"
                outcome.add(name, {"status": "left out", "reason": reason})
                print(f"{name}: left out: {reason}", flush=True)
                continue
            print(f"{name}, at most {seconds:.0f} s", flush=True)
            results = Path(folder, f"{name}.jsonl")
            wrong = _in_a_process(_command(name, {**orders, "seconds": seconds}, results), seconds)
            lines = results.read_text().splitlines() if results.exists() else []
            for line in lines:
                entry = json.loads(line)
                outcome.add(entry["case"], entry["result"])
            if wrong or not lines:
                reason = f"its process {wrong or 'reported nothing'}"
                key = f"{name}/process" if name in outcome.cases else name
                outcome.add(key, {"status": "failed", "reason": reason})
                print(f"  {key}: failed: {reason}", flush=True)


def _command(name: str, orders: Mapping[str, Any], results: Path) -> list[str]:
    """What runs one section in a process of its own."""
    return [sys.executable, "-m", "bench.on_card", "--section", name, json.dumps(orders), str(results)]


def _in_a_process(command: Sequence[str], seconds: float) -> str | None:
    """Run a command; returns what was wrong with its end, or None."""
    # one image fills no card, which Numba would remark on at every kernel
    environment = {**os.environ, "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS": "0"}
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], env=environment, start_new_session=True)
    try:
        status = process.wait(seconds + _GRACE)
    except subprocess.TimeoutExpired:
        return f"was stopped after {seconds:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
            process.wait()
    return None if status == 0 else f"ended with status {status}"


def _section(name: str, orders: str, results: str) -> None:
    """A section's own process."""
    from bench.card_sections import Job, run_section

    given = json.loads(orders)
    deadline = time.monotonic() + given.pop("seconds")
    run_section(name, Job(**given, deadline=deadline), Path(results))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--section"]:
        _section(*arguments[1:])
        return 0
    from bench.card_sections import SECTIONS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer networks, fewer cases")
    parser.add_argument(
        "--simulate", action="store_true", help="a dry run in Numba's simulator, with next to nothing to do"
    )
    parser.add_argument("--budget", type=float, default=420, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="folder for the results; default: bench/results")
    parser.add_argument("--sanitizer", help="path of compute-sanitizer, where it is not found by itself")
    parser.add_argument(
        "--limit", action="append", default=[], type=_limit, metavar="SECTION=SECONDS",
        help=f"how long a section may take, again for others; {', '.join(f'{n}={s.seconds:g}' for n, s in SECTIONS.items())}",
    )  # fmt: skip
    for name in SECTIONS:
        if name != "environment":
            parser.add_argument(f"--skip-{name}", action="store_true")
    options = parser.parse_args(arguments)
    simulator = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    if options.simulate != simulator:
        parser.error("--simulate and NUMBA_ENABLE_CUDASIM=1 go together: give both, or neither for a card")
    if options.simulate and (options.out is None or options.out.resolve() == store.RESULTS.resolve()):
        parser.error("--simulate measures nothing: give a folder of its own with --out")
    start = time.monotonic()
    outcome = Outcome(options.out or store.RESULTS)
    scale = "simulated" if options.simulate else "quick" if options.quick else "full"
    chosen = [name for name in SECTIONS if not getattr(options, f"skip_{name}", False)]
    limits = {name: section.seconds for name, section in SECTIONS.items()} | dict(options.limit)
    run_sections(
        chosen, limits, {"scale_name": scale, "sanitizer": options.sanitizer}, outcome, options.budget
    )  # fmt: skip
    return finish(outcome, time.monotonic() - start)


def _limit(text: str) -> tuple[str, float]:
    """A section and its seconds, as ``--limit`` has them."""
    from bench.card_sections import SECTIONS

    name, _, seconds = text.partition("=")
    if name not in SECTIONS or not re.fullmatch(r"\d+(\.\d+)?", seconds):
        raise argparse.ArgumentTypeError(f"got {text!r}; it must be SECTION=SECONDS, with one of {', '.join(SECTIONS)}")
    return name, float(seconds)


def finish(outcome: Outcome, seconds: float) -> int:
    """Draw the picture, say what came of it; returns the exit status."""
    print(f"\n{len(outcome.cases)} cases in {seconds:.0f} s")
    for key in outcome.left_out():
        print(f"left out: {key}: {outcome.cases[key]['reason']}")
    for key in outcome.failed():
        print(f"FAILED: {key}: {outcome.cases[key]['reason']}")
    if outcome.path is not None:
        print(f"saved in {outcome.path}")
        _draw(outcome.path)
    passed = any(result["status"] == "ok" for result in outcome.cases.values())
    return 0 if passed and not outcome.failed() else 1


def _draw(path: Path) -> None:
    """The picture beside the results, as ``bench.report`` draws it."""
    from bench import report

    try:
        print(f"drawn: {report.draw_one('card', path)}")
    except ImportError:
        print("left out: the picture: matplotlib is not installed")


if __name__ == "__main__":
    sys.exit(main())
