"""Do the reader's tests notice if a check is missing? Removes each check of the reader in turn, and sees.

    python -m tests.remove_checks [--file hdf5/headers.py] [--line 120] [--mutants 4000]

A check is a ``raise``, which is taken out, so that what it refuses passes; one of several conditions joined by ``or``
under which something is raised; a call of a function that only checks or charges a budget; or a refusal that is
returned. It counts as noticed if a test fails, crashes, or does not come to an end. Without TensorFlow, whose start
would take longer than all else: what needs it is left out. The reader is what opens a file and finds the tensors in it:
``READERS`` of ``npresnet/files``, and all of ``npresnet/files/hdf5``. Exit status 1 if less than 95 % are noticed.
"""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILES = Path("npresnet") / "files"
READERS = ("archive.py", "contained.py", "h5py_child.py", "impostors.py", "opening.py", "shards.py")
TESTS = Path("tests") / "files"
TARGET = 0.95

_GUARDS = frozenset(
    [
        "step",
        "charge",
        "reserve",
        "limit",
        "allow",
        "expect",
        "at_most",
        "_check",
        "_checked",
        "_check_characters",
        "_refuse_dense",
        "_limit",
        "_sizes",
    ]
)
_REFUSALS = frozenset({"Refused", "Unreadable", "_not_numbers"})

# (file, a part of the line): why no test can notice that this check is missing
NEEDLESS: dict[tuple[str, str], str] = {}

# those that are meant for a file are tried first where it is changed
_BY_FILE = {
    "archive.py": "test_archive.py",
    "impostors.py": "test_bad_files.py",
    "contained.py": "test_contained.py",
    "h5py_child.py": "test_contained.py",
    "shards.py": "test_shards.py",
    "opening.py": "test_shards.py",
}
_QUICK = ("test_archive.py", "test_bad_files.py", "test_shards.py", "test_hdf5.py", "test_contained.py")
_SLOW = "eight_thousand or fuzzer_notices or two_thousand or million"
_SECONDS = 900  # for all but the fuzzer, which take 30 on a machine that is not busy
_ONE_TEST = 120  # seconds, which none of them needs
_MEMORY = 6 * 2**30


@dataclass(frozen=True)
class Check:
    """One check: the bytes from ``start`` to ``end`` of a file, and what is put in their place."""

    file: str
    line: int
    text: str
    start: int
    end: int
    instead: str


def checks(file: str, source: bytes) -> list[Check]:
    """All checks of a module, in order."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def check(node: ast.expr | ast.stmt, instead: str) -> Check:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        return Check(file, node.lineno, " ".join(source[start:end].decode().split()), start, end, instead)

    def found() -> Iterator[Check]:
        for node in ast.walk(ast.parse(source)):
            if (isinstance(node, ast.Raise) and node.exc is not None) or (
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _name(node.value) in _GUARDS
            ):
                yield check(node, "pass")
            elif isinstance(node, ast.If):
                last = node.body[-1]
                if (
                    isinstance(last, ast.Raise)
                    and isinstance(node.test, ast.BoolOp)
                    and isinstance(node.test.op, ast.Or)
                ):
                    yield from (check(operand, "False") for operand in node.test.values)
                if isinstance(last, ast.Return) and _refuses(last.value):
                    yield check(node.test, "False")

    return sorted(set(found()), key=lambda check: (check.start, check.end))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _refuses(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "refused" for key in value.keys)
    return isinstance(value, ast.Call) and _name(value) in _REFUSALS


# Trying --------------------------------------------------------------------------------------------------------------


class _FirstFailure:
    """A plug-in of pytest that keeps the name of the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        self.pytest_runtest_logreport(report)


def _tests(*names: str, only: str = f"not ({_SLOW})") -> str:
    """The first of these tests that fails, or nothing."""
    import pytest

    plugin = _FirstFailure()
    places = [f"{TESTS}/{name}" for name in names]
    how = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", f"--timeout={_ONE_TEST}"]
    status = pytest.main([*how, "-k", only, *places], plugins=[plugin])
    return plugin.name or (f"pytest ends with {status}" if status else "")


def _fuzzer(mutants: int) -> str:
    """The first finding, or nothing."""
    from tests import fuzz_hdf5

    findings = fuzz_hdf5.run(7, range(mutants)).findings
    return f"fuzzer: {findings[0]}" if findings else ""


def _attempt(folder: Path, file: str, mutants: int, pipe: Connection) -> None:
    """In a process of its own: everything is imported from the changed copy."""
    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = bool(file)  # what was changed leaves none behind
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "npresnet")]:
        del sys.modules[name]
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # as if it were not installed
    import npresnet

    assert Path(npresnet.__file__).is_relative_to(folder)
    for stage in (
        lambda: _tests(_BY_FILE.get(file, "test_hdf5.py::test_one_wrong_field")),
        lambda: _tests(*_QUICK),
        lambda: _fuzzer(mutants),
        lambda: _tests("test_hdf5.py", only="million"),
    ):
        noticed = stage()
        if noticed:
            break
    pipe.send(noticed)


def attempt(folder: Path, file: str, mutants: int) -> str:
    """What notices that ``file`` in the copy at ``folder`` has been changed, or nothing."""
    context = multiprocessing.get_context("fork")  # the imports below need not be made again
    ours, others = context.Pipe()
    process = context.Process(target=_attempt, args=(folder, file, mutants, others))
    process.start()
    others.close()
    assert process.pid is not None
    try:
        if not ours.poll(_SECONDS + mutants / 50):
            return "does not come to an end"
        return str(ours.recv())
    except EOFError:
        return "crashes"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
        process.join()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Remove each check of the reader in turn; see whether a test notices.")
    parser.add_argument(
        "--file", action="append", help="only this file, as in hdf5/heaps.py; may be given several times"
    )
    parser.add_argument("--line", action="append", type=int, help="only the checks of this line")
    parser.add_argument("--mutants", type=int, default=4000, help="of the fuzzer, where the tests notice nothing")
    options = parser.parse_args(arguments)
    import h5py  # noqa: F401  # once, not in each process
    import numpy as np  # noqa: F401
    import pytest  # noqa: F401

    began = time.monotonic()
    tried, missed, needless = 0, [], []
    with tempfile.TemporaryDirectory(prefix="npresnet-") as name:
        folder = Path(name).resolve()
        for part in ("npresnet", "kernels", "tests"):
            shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        inner = sorted(path.name for path in (folder / FILES / "hdf5").glob("*.py"))
        files = [*READERS, *(f"hdf5/{name}" for name in inner)]
        unchanged = attempt(folder, "", options.mutants)
        if unchanged:
            print(f"the tests fail without any change: {unchanged}")
            return 1
        for file in options.file or files:
            path = folder / FILES / file
            source = path.read_bytes()
            for check in checks(file, source):
                if options.line and check.line not in options.line:
                    continue
                path.write_bytes(source[: check.start] + check.instead.encode() + source[check.end :])
                noticed = attempt(folder, file, options.mutants)
                reason = next((why for (f, text), why in NEEDLESS.items() if f == file and text in check.text), "")
                print(f"{file}:{check.line}: {check.text[:90]}  <-  {noticed or reason or 'NOT NOTICED'}", flush=True)
                tried += 1
                if reason and not noticed:
                    needless.append(check)
                elif not noticed:
                    missed.append(check)
            path.write_bytes(source)
    share = 1 - (len(missed) + len(needless)) / max(1, tried)
    print(
        f"{tried} checks removed one by one in {(time.monotonic() - began) / 60:.0f} minutes; noticed {share:.1%}, "
        f"{len(needless)} cannot be, {len(missed)} were not:"
    )
    for check in missed:
        print(f"  {check.file}:{check.line}: {check.text}")
    return 0 if share >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
