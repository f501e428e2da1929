"""``npresnet.kernels`` imports what it is asked for, and its names are the functions whatever was imported before."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from npresnet import kernels

TWOFOLD = [name for name in kernels.__all__ if (Path(kernels.__file__).parent / f"{name}.py").exists()]
"""Names of a function and of the module that it is in."""

# Each begins in a new process.
ORDERS = {
    "the function": "from npresnet.kernels import {0}",
    "the module, then the function": "import npresnet.kernels.{0}\nfrom npresnet.kernels import {0}",
    "a name of the module": "from npresnet.kernels.{0} import {0}_reference",
    "the function, then the module": "from npresnet.kernels import {0}\nimport npresnet.kernels.{0}",
    "what imports the module": "import npresnet.kernels.steps, npresnet.kernels.conv2d, npresnet.kernels.dense",
    "by name": "import importlib\nimportlib.import_module('npresnet.kernels.{0}')",
    "the function, then another's": "from npresnet.kernels import {0}\nfrom npresnet.kernels import conv2d, gemm",
    "everything": "from npresnet.kernels import *\nfunction = {0}",
    "the ladder": "from npresnet.kernels import LADDER",
    "as": "import npresnet.kernels.{0} as function",
    "again": "import importlib, npresnet.kernels.{0}\nimportlib.reload(sys.modules['npresnet.kernels.{0}'])",
}

CHECK = """
import inspect
import npresnet.kernels
import npresnet.kernels as package
found = [npresnet.kernels.{0}, getattr(package, "{0}")]
from npresnet.kernels import {0} as imported
found += [imported, npresnet.kernels.{0}] + [value for name, value in globals().items() if name == "function"]
assert all(inspect.isfunction(one) and one.__module__ == "npresnet.kernels.{0}" for one in found), found
module = sys.modules["npresnet.kernels.{0}"]
assert inspect.ismodule(module) and module.{0}.__module__ == module.__name__
"""


def test_there_are_such_names():
    assert {"add", "conv2d", "gemm", "maxpool", "relu", "softmax"} <= set(TWOFOLD)


@pytest.mark.parametrize("order", ORDERS)
def test_a_function_is_never_its_module(run_python, order):
    """No other kernel imports relu.py, and several import gemm.py."""
    run_python("import sys\n" + "".join(f"{ORDERS[order]}\n{CHECK}".format(name) for name in ("relu", "gemm")))


def test_every_function_after_every_module(run_python):
    """In one process: all modules first, in the order of their names, then all names of the package."""
    code = """
import inspect, pkgutil
import npresnet.kernels
for module in pkgutil.iter_modules(npresnet.kernels.__path__, "npresnet.kernels."):
    if not module.ispkg:
        __import__(module.name)
names = set(npresnet.kernels.__all__) - {"LADDER", "CHOOSING"}
assert all(inspect.isfunction(getattr(npresnet.kernels, name)) for name in names)
assert inspect.ismodule(npresnet.kernels.threads) and inspect.ismodule(npresnet.kernels.geometry)
print(len(names))
"""
    assert int(run_python(code)) == len(kernels.__all__) - 2


def test_a_function_can_be_replaced(monkeypatch):
    monkeypatch.setattr(kernels, "relu", max)
    assert kernels.relu is max
    monkeypatch.undo()
    assert kernels.relu is kernels.relu_cpu


def test_names():
    assert set(kernels.__all__) <= set(dir(kernels))
    for name in kernels.__all__:
        assert getattr(kernels, name) is not None
    for versions in kernels.LADDER.values():
        assert {version.__name__ for version in versions} <= set(kernels.__all__)
    with pytest.raises(AttributeError, match=r"module 'npresnet\.kernels' has no attribute 'max_pool'"):
        kernels.max_pool  # noqa: B018


def test_type_checkers_see_the_same():
    """What stands under TYPE_CHECKING says where each name is, and so does the table that is used."""
    tree = ast.parse(Path(kernels.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.level and statement.module
        for alias in statement.names
    }
    assert seen == kernels._MODULES
