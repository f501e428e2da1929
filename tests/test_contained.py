"""h5py in a process of its own: whatever becomes of that process, this one gets an error that says so."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from npresnet.errors import WeightsError
from npresnet.hdf5 import contained, open_weights

pytestmark = pytest.mark.timeout(60)

RECEIVE = "import sys\nsource, out = sys.stdin.buffer, sys.stdout.buffer\nsize = int.from_bytes(source.read(8), 'little')\nsource.read(size)\n"
READY = RECEIVE + "out.write(b'R'); out.flush()\n"


def answer(text: str) -> str:
    return READY + f"text = {text!r}.encode()\nout.write(b'A' + len(text).to_bytes(8, 'little') + text); out.flush()\n"


@pytest.fixture
def path(tmp_path):
    """A file that the strict reader leaves to h5py."""
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("numbers", data=np.arange(12, dtype=np.float32).reshape(3, 4), compression="lzf")
        file.attrs["layer_names"] = ["a", "b"]
    return path


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Put another program in the child's place."""

    def replace(code: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(code)
        monkeypatch.setattr(contained, "_SCRIPT", script)

    return replace


def test_a_file_beyond_the_subset(path):
    with open_weights(path) as file:
        assert file.names("layer_names") == ["a", "b"]
        (tensor,) = file.tensors()
        for _ in range(2):
            assert tensor.read().tobytes() == np.arange(12, dtype=np.float32).tobytes()
        assert (tensor.shape, tensor.dtype) == ((3, 4), np.float32)


BAD = {
    "crash at once": "import os\nos.abort()\n",
    "crash after the file": READY + "import os\nos.abort()\n",
    "end without an answer": READY,
    "no JSON": answer("{"),
    "another JSON": answer("[1, 2]"),
    "deep JSON": answer("[" * 100_000),
    "a tree with holes": answer('{"members": {"a": {"number": 0}}, "attributes": {}}'),
    "a negative shape": answer(
        '{"members": {"a": {"number": 0, "shape": [-1], "dtype": "float32", "attributes": {}}}, "attributes": {}}'
    ),
    "an impossible shape": answer(
        '{"members": {"a": {"number": 0, "shape": [0, 4611686018427387904], "dtype": "float32", "attributes": {}}}, '
        '"attributes": {}}'
    ),
    "a type that can hold code": answer(
        '{"members": {"a": {"number": 0, "shape": [1], "dtype": "object", "attributes": {}}}, "attributes": {}}'
    ),
    "an attribute that is null": answer('{"members": {}, "attributes": {"layer_names": null}}'),
    "an answer of any length": READY + "out.write(b'A' + b'\\xff' * 8)\nwhile True: out.write(bytes(2**20))\n",
    "another protocol": READY + "out.write(b'hello world'); out.flush()\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_child_that_misbehaves(path, child, kind):
    child(BAD[kind])
    words = (
        "the file uses filter 32000, which is left to h5py, and h5py('s answer makes no sense| crashed or did not)"
        "|'a' claims the impossible shape"
    )
    with pytest.raises(WeightsError, match=words), open_weights(path):
        pass


@pytest.mark.parametrize("late", [RECEIVE, READY], ids=["before", "after"])
def test_a_child_that_does_not_come_back(path, child, monkeypatch, late):
    child(late + "while True: pass\n")
    monkeypatch.setattr(contained, "_START", 0.3 if late == RECEIVE else 30)
    monkeypatch.setattr(contained, "_EXCHANGE", 0.3)
    with pytest.raises(WeightsError, match="h5py crashed or did not come to an end"), open_weights(path):
        pass


def test_numbers_of_another_size(path, child):
    tree = '{"members": {"a": {"number": 0, "shape": [4], "dtype": "float32", "attributes": {}}}, "attributes": {}}'
    child(answer(tree) + "source.read(8)\nout.write(b'A' + (15).to_bytes(8, 'little') + bytes(15)); out.flush()\n")
    with open_weights(path) as file, pytest.raises(WeightsError, match="answer makes no sense"):
        next(file.tensors()).read()


def test_an_error_of_the_child_is_told(path, child):
    child(READY + "out.write(b'E' + (4).to_bytes(8, 'little') + b'oops'); out.flush()\n")
    with pytest.raises(WeightsError, match=r"weights\.h5: oops$"), open_weights(path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="limits are set as Linux has them")
@pytest.mark.parametrize(
    ("deed", "outcome"),
    [
        ("bytearray(2**33)", "MemoryError"),
        ("open('/etc/passwd')", "OSError"),
        ("open('/tmp/npresnet-test-written', 'w')", "OSError"),
    ],
)
def test_limits(path, child, deed, outcome):
    """Inside of the real child: no more memory than the file needs, and no other file."""
    real = contained._SCRIPT.read_text()
    child(
        real.replace(
            "        walk = Walk(h5py, np, settings)\n        file =",
            f"        {deed}\n        walk = Walk(h5py, np, settings)\n        file =",
        )
    )
    with pytest.raises(WeightsError, match=outcome), open_weights(path):
        pass


def test_children_do_not_stay(path):
    with open_weights(path) as file:
        process = file.members["numbers"]._read.__closure__  # held by the reader of each tensor
        child = next(c.cell_contents for c in process if isinstance(c.cell_contents, contained._Child))
        assert child._process.poll() is None
    assert child._process.poll() is not None


def test_links_are_refused(tmp_path):
    path = tmp_path / "latest.h5"
    for link in (h5py.SoftLink("/a"), h5py.ExternalLink("other.h5", "/a")):
        with h5py.File(path, "w", libver="latest") as file:
            for i in range(20):  # so many that they are in a heap
                file[f"group{i}"] = np.zeros(3)
            file["link"] = link
        with pytest.raises(WeightsError, match=r"'link' is .* link.*; Keras writes none"), open_weights(path):
            pass
