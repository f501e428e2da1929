"""Ends at once where Python is too old. pip would find that out as well; old ones only after they have tried every version
of every dependency, which takes a quarter of an hour. Everything else is in pyproject.toml."""

import re
import sys

from setuptools import setup

with open("pyproject.toml", encoding="utf-8") as file:
    needed = re.search(r'^requires-python = ">=(\d+)\.(\d+)"', file.read(), re.MULTILINE).groups()
if sys.version_info < tuple(map(int, needed)):
    sys.exit("npresnet needs Python {}.{} or newer; this is Python {}.{}".format(*needed, *sys.version_info[:2]))
setup()
