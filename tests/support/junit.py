"""What another process of pytest has done, by the file that it leaves."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

__all__ = ["passed"]


def passed(path: Path) -> Counter[str]:
    """How many tests of each file have passed. No other may be there: none that failed, and none that was skipped."""
    (suite,) = ElementTree.parse(path).getroot().iter("testsuite")
    counts = {kind: int(suite.attrib[kind]) for kind in ("tests", "errors", "failures", "skipped")}
    assert counts == {"tests": counts["tests"], "errors": 0, "failures": 0, "skipped": 0}, path.name
    found = Counter(f"{case.attrib['classname'].split('.')[-1]}.py" for case in suite.iter("testcase"))
    assert found.total() == counts["tests"]
    return found
