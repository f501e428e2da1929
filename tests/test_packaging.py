"""What is shipped and how it is found: the wheel, a bare clone, a read-only tree; what an import costs."""

from __future__ import annotations

import ast
import email
import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = {"numpy", "numba", "h5py"}


def clone(target: Path) -> Path:
    """The files of the checkout that the package is made of, the link npresnet/kernels included."""
    target.mkdir(exist_ok=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in ("npresnet", "kernels"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture(scope="module")
def backend() -> None:
    """Skips where setuptools is too old to build with."""
    backend = PROJECT["build-system"]["requires"][0]
    version = tuple(map(int, importlib.metadata.version("setuptools").split(".")[:1]))
    if version < tuple(map(int, re.findall(r"\d+", backend.split(";")[0]))):
        pytest.skip(f"building needs {backend}, and without the network it must be installed; found {version[0]}")


@pytest.fixture(scope="module")
def wheel(backend, tmp_path_factory) -> Path:
    """A wheel of the clone, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    done = subprocess.run([*command, clone(folder / "clone")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture
def unpacked(wheel, tmp_path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


WORK = """
import os, sys
import numpy as np
import npresnet
from npresnet import kernels
from npresnet.network.families import FAMILIES
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.data.photograph import photograph
from npresnet.network.seeded import random_weights, write_keras_file

place = os.environ["PLACE"]
for module in (npresnet, kernels):
    assert module.__file__.startswith(place + os.sep), module.__file__
assert kernels.__name__ == "npresnet.kernels" and "kernels" not in sys.modules
assert photograph().is_file() and os.path.isfile(os.path.join(place, "npresnet", "py.typed"))
graph = build_graph(Architecture.standard(FAMILIES["keras-resnet"], 18, width=8, classes=3))
net = npresnet.load(write_keras_file("weights.h5", graph, random_weights(graph)))
assert net.predict(np.ones((1, 20, 20, 3), np.float32)).shape == (1, 3)
print(*(name for name in sys.modules if "." not in name))
"""


def works_from(place: Path, folder: Path, site: Path | None = None) -> None:
    """npresnet is imported from ``place`` alone, and runs a network without any extra; files go to ``folder``.

    site  where what leads to ``place`` has been installed; None: it is on the path itself
    """
    environment = {**os.environ, "PLACE": str(place), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(site or place)}
    code = WORK if site is None else f"import site; site.addsitedir({str(site)!r})\n{WORK}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not set(done.stdout.split()) & {"PIL", "typer", "rich", "keras", "tensorflow", "skimage"}


# What is declared ----------------------------------------------------------------------------------------------------


def test_every_package_is_listed():
    """A folder that is forgotten here works in the checkout and is missing from the wheel."""
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "npresnet").rglob("__init__.py")}
    folders |= {Path("npresnet") / path.parent.relative_to(ROOT) for path in (ROOT / "kernels").rglob("__init__.py")}
    assert {".".join(folder.parts) for folder in folders} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_core_dependencies():
    assert {re.split(r"[^\w-]", text)[0] for text in PROJECT["project"]["dependencies"]} == CORE


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 7, 0)])
def test_a_python_that_is_too_old_is_told_at_once(version):
    """Before pip looks for dependencies, and the user reads it in the first lines of the README."""
    needed = PROJECT["project"]["requires-python"]
    number = needed.removeprefix(">=")
    code = f"import sys, setuptools, runpy; sys.version_info = {version}; runpy.run_path('setup.py')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    said = f"npresnet needs Python {number} or newer; this is Python {version[0]}.{version[1]}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    first, second = PROJECT["build-system"]["requires"]  # one that old Pythons have, too, or they do not get so far
    assert first.endswith(f"; python_version >= '{number}'")
    assert second == f"setuptools; python_version < '{number}'"
    assert f"Python {number} or newer" in (ROOT / "README.md").read_text().split("pip install")[0]


def test_link_to_the_kernels_is_relative():
    link = ROOT / "npresnet" / "kernels"
    if not link.is_symlink():
        pytest.skip("this checkout has no links")
    assert os.readlink(link) == os.path.join("..", "kernels")


def _imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """What runs when a module is imported: not what stands in functions or under TYPE_CHECKING."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(statement.test):
                yield from _imports(statement.body)
            yield from _imports(statement.orelse)
        elif isinstance(statement, ast.Try | ast.With | ast.ClassDef | ast.For):
            yield from _imports(statement.body)


def _sources() -> list[Path]:
    """All modules of the package: those behind the link npresnet/kernels under their own path, whatever rglob makes of links."""
    own = (path for path in (ROOT / "npresnet").rglob("*.py") if "kernels" not in path.relative_to(ROOT).parts)
    return sorted([*own, *(ROOT / "kernels").rglob("*.py")])


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_the_core_alone(path):
    """Whatever an extra brings is imported where it is used; and the kernels know nothing of the rest."""
    allowed = CORE | {"llvmlite", "npresnet"}  # llvmlite comes with Numba, version by version
    if path.parent == ROOT / "npresnet" / "cli":
        allowed |= {"typer", "rich"}
    for statement in _imports(ast.parse(path.read_text()).body):
        if isinstance(statement, ast.ImportFrom) and statement.level:
            names = []
        elif isinstance(statement, ast.ImportFrom):
            names = [statement.module or ""]
        else:
            names = [alias.name for alias in statement.names]
        foreign = {name.split(".")[0] for name in names} - allowed - sys.stdlib_module_names
        assert not foreign, f"{path.name}:{statement.lineno} imports {foreign}"
    if path.is_relative_to(ROOT / "kernels"):
        within = len(path.relative_to(ROOT / "kernels").parts)  # how many dots lead no further up than to the kernels
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= within, f"{path.name}:{node.lineno} imports from above"
                assert (node.module or "").split(".")[0] != "npresnet", f"{path.name}:{node.lineno}"


# The wheel -----------------------------------------------------------------------------------------------------------


def test_contents_of_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    top = {name.split("/")[0] for name in names}
    assert top == {
        "npresnet",
        f"npresnet-{importlib.metadata.version('npresnet')}.dist-info",
    }  # above all, no "kernels"
    within = {path: path.relative_to(ROOT).as_posix() for path in _sources()}
    expected = {name if name.startswith("npresnet/") else f"npresnet/{name}" for name in within.values()}
    assert {name for name in names if name.endswith(".py")} == expected
    assert {"npresnet/py.typed", "npresnet/data/photograph.jpg"} <= set(names)
    assert {f"npresnet/study/templates/{name}" for name in ("page.html", "script.js", "style.css")} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".nbi", ".nbc", ".h5"))]


def test_metadata_of_the_wheel(wheel):
    archive = zipfile.ZipFile(wheel)
    (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    about = email.message_from_string(archive.read(f"{folder}/METADATA").decode())
    needed = [text for text in about.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {re.split(r"[^\w-]", text)[0] for text in needed} == CORE
    assert about["Name"] == "npresnet"
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "MIT"
    assert {"cli", "test", "bench"} <= set(about.get_all("Provides-Extra", []))
    assert about.get_payload().startswith("# npresnet")
    assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert archive.read(f"{folder}/entry_points.txt").decode().split() == [
        "[console_scripts]", "npresnet", "=", "npresnet.__main__:main",
    ]  # fmt: skip


def test_works_from_the_wheel(unpacked, tmp_path):
    works_from(unpacked, tmp_path)


def test_works_from_an_editable_install(backend, tmp_path):
    """Also where a checkout has no links, as on some Windows machines."""
    tree, site = clone(tmp_path / "clone"), tmp_path / "site"
    (tree / "npresnet" / "kernels").unlink()
    code = f"from setuptools.build_meta import build_editable; build_editable({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(site)
    works_from(tree, tmp_path, site)


def test_works_from_a_bare_clone(tmp_path):
    """Nothing installed: the link makes ``npresnet.kernels``."""
    works_from(clone(tmp_path / "clone"), tmp_path)


def test_works_from_a_read_only_tree(tmp_path):
    """Nothing is written beside the sources, whoever would be allowed to."""
    tree = clone(tmp_path / "clone")
    everything = [tree, *(path for path in tree.rglob("*") if not path.is_symlink())]
    for path in everything:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in everything}
    try:
        works_from(tree, tmp_path)
        assert {path: path.stat().st_mtime_ns for path in [tree, *tree.rglob("*")] if not path.is_symlink()} == before
    finally:
        for path in everything:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


# What an import costs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    ["npresnet", "npresnet.network.families", "npresnet.network.operators", "npresnet.model", "npresnet.cli.app"],
)
def test_import_is_light(run_python, module):
    """Nothing heavy before it is used: also not for ``npresnet --help``."""
    code = f"import sys, {module}; print(*sorted(name for name in sys.modules if '.' not in name))"
    loaded = set(run_python(code).split())
    assert "npresnet" in loaded
    assert not loaded & {"numba", "llvmlite", "h5py", "PIL", "keras", "tensorflow", "skimage"}
    if module != "npresnet.cli.app":
        assert not loaded & {"typer", "rich"}


@pytest.mark.parametrize("module", ["", ".cache", ".geometry", ".threads"])
def test_kernels_import_numba_with_the_first_kernel(run_python, module):
    loaded = set(run_python(f"import sys, npresnet.kernels{module}; print(*sys.modules)").split())
    assert not loaded & {"numba", "llvmlite"}
    expected = {"npresnet.kernels", f"npresnet.kernels{module}"}
    assert {name for name in loaded if name.startswith("npresnet.kernels")} == expected


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("relu", "arrays cache compiling jit machine_code numba_later processor relu simd threads"),
        ("gemm", "arrays cache compiling gemm jit machine_code numba_later processor simd threads tile"),
        (
            "maxpool_reference",
            "arrays cache compiling geometry jit machine_code maxpool numba_later processor simd steps steps.intrinsics steps.loop "
            "steps.records threads",
        ),
    ],
)
def test_a_kernel_imports_what_it_needs(run_python, name, modules):
    code = f"import sys; from npresnet.kernels import {name}; print(*sys.modules)"
    prefix = "npresnet.kernels."
    loaded = {module.removeprefix(prefix) for module in run_python(code).split() if module.startswith(prefix)}
    assert loaded == set(modules.split())


def test_nothing_is_compiled_by_an_import(run_python):
    code = """
import pkgutil
import numba
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    import npresnet
    for module in pkgutil.walk_packages(npresnet.__path__, "npresnet."):
        if module.name != "npresnet.__main__":
            __import__(module.name)
    assert not compiled.buffer, compiled.buffer
    numba.njit(lambda x: x)(1)
    assert compiled.buffer, "the recorder records nothing"
print("no compilation")
"""
    assert run_python(code) == "no compilation\n"


def test_folder_imported_by_its_own_name(run_python):
    code = """
try:
    import kernels
except ImportError as error:
    print(error)
"""
    said = run_python(code, folder=ROOT)
    assert "imported as 'kernels'; it must be imported as 'npresnet.kernels'" in said
    assert "use `from npresnet import kernels`" in said
