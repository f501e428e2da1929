"""h5py in a process of its own: whatever becomes of that process, this one gets an error that says so."""

from __future__ import annotations

import json
import sys

import h5py
import numpy as np
import pytest

from npresnet.errors import WeightsError
from npresnet.files import contained
from npresnet.files.opening import open_weights

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
    "an answer of another kind": answer('{"members": {}, "attributes": {}}').replace("b'A'", "b'X'"),
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
    monkeypatch.setattr(contained, "_START", 0.3 if late == RECEIVE else 600)
    monkeypatch.setattr(contained, "_EXCHANGE", 0.3)
    with pytest.raises(WeightsError, match="h5py crashed or did not come to an end"), open_weights(path):
        pass


def tree(*shape: int) -> str:
    """The answer about a file with one tensor, ``a``."""
    return json.dumps(
        {"members": {"a": {"number": 0, "shape": shape, "dtype": "float32", "attributes": {}}}, "attributes": {}}
    )


def process_of(tensor):
    """The child that a tensor comes from."""
    held = (cell.cell_contents for cell in tensor._read.__closure__)
    return next(each for each in held if isinstance(each, contained._Child))._process


def test_no_python_for_the_child(path, monkeypatch):
    for name, value in (("frozen", True), ("executable", "")):
        with monkeypatch.context() as patched:
            patched.setattr(sys, name, value, raising=False)
            with pytest.raises(WeightsError, match="this program cannot start a Python for h5py"), open_weights(path):
                pass


def test_a_child_that_has_gone(path, child):
    child(answer(tree(4)))
    with open_weights(path) as file:
        (tensor,) = file.tensors()
        process_of(tensor).wait()
        with pytest.raises(WeightsError, match="h5py crashed or did not come to an end"):
            tensor.read()


def test_numbers_are_charged(path, child):
    child(answer(tree(2**30)))
    with open_weights(path) as file, pytest.raises(WeightsError, match="made to exhaust memory"):
        next(file.tensors()).read()


def test_numbers_of_another_size(path, child):
    child(answer(tree(4)) + "source.read(8)\nout.write(b'A' + (15).to_bytes(8, 'little') + bytes(15)); out.flush()\n")
    with open_weights(path) as file, pytest.raises(WeightsError, match="answer makes no sense"):
        next(file.tensors()).read()


def test_an_error_of_the_child_is_told(path, child):
    child(READY + "out.write(b'E' + (4).to_bytes(8, 'little') + b'oops'); out.flush()\n")
    with pytest.raises(WeightsError, match=r"weights\.h5: oops$"), open_weights(path):
        pass


_SOFT_LIMITS = (
    "import resource; core, size, files, memory = (resource.getrlimit(kind)[0] for kind in "
    "(resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_AS)); "
    "raise OSError([core, size, files, 0 < memory < 2**31])"
)


@pytest.mark.skipif(sys.platform != "linux", reason="limits are set as Linux has them")
@pytest.mark.parametrize(
    ("deed", "outcome"),
    [
        ("bytearray(2**33)", "MemoryError"),
        ("open('/etc/passwd')", "OSError"),
        ("open('/tmp/npresnet-test-written', 'w')", "OSError"),
        (_SOFT_LIMITS, r"OSError: \[0, 0, 0, True\]"),
        ("while True: pass", "crashed or did not come to an end"),  # some seconds of work are all there is
    ],
    ids=["memory", "read", "write", "limits", "work"],
)
def test_limits(path, child, monkeypatch, deed, outcome):
    """Inside of the real child: no more memory than the file needs, no other file, and no more work than that takes."""
    import resource

    monkeypatch.setattr(contained, "_EXCHANGE", 600)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # or there would be nothing to limit
    real = contained._SCRIPT.read_text()
    child(
        real.replace(
            "        walk = Walk(h5py, np, settings)\n        file =",
            f"        {deed}\n        walk = Walk(h5py, np, settings)\n        file =",
        )
    )
    try:
        with pytest.raises(WeightsError, match=outcome), open_weights(path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_children_do_not_stay(path):
    with open_weights(path) as file:
        process = process_of(file.members["numbers"])
        assert process.poll() is None
    assert process.poll() is not None


def test_links_are_refused(tmp_path):
    path = tmp_path / "latest.h5"
    for link in (h5py.SoftLink("/a"), h5py.ExternalLink("other.h5", "/a")):
        with h5py.File(path, "w", libver="latest") as file:
            for i in range(20):  # so many that they are in a heap
                file[f"group{i}"] = np.zeros(3)
            file["link"] = link
        with pytest.raises(WeightsError, match=r"'link' is .* link.*; Keras writes none"), open_weights(path):
            pass


# What the real child refuses -----------------------------------------------------------------------------------------


def _virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "n", (3,))
    file.create_virtual_dataset("n", layout)


def _external(file):
    file.create_dataset("n", (3,), "f4", external=[("other.raw", 0, 12)])


REFUSED = {
    "deep groups": (lambda file: file.create_group("/".join("g" * 20)), "nested more than 16 deep"),
    "many groups": (lambda file: [file.create_group(f"g{i}") for i in range(60)], "more than 50 groups and datasets"),
    "a virtual dataset": (_virtual, "'n' keeps its numbers in another file"),
    "numbers outside": (_external, "'n' keeps its numbers in another file"),
    "text": (lambda file: file.__setitem__("n", ["a", "b"]), "'n' holds object values"),
    "complex numbers": (lambda file: file.__setitem__("n", np.zeros(3, "c8")), "'n' holds complex64 values"),
    "nothing": (lambda file: file.__setitem__("n", h5py.Empty("f4")), "'n' holds float32 values"),
    "truth values": (lambda file: file.__setitem__("n", np.zeros(3, bool)), "'n' holds bool values"),
    "a type": (lambda file: file.__setitem__("n", np.dtype("f4")), "'n' is neither a group nor a dataset"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_keras_file_holds(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(contained, "_MOST_ENTRIES", 50)
    write, words = REFUSED[kind]
    with h5py.File(tmp_path / "odd.h5", "w", libver="latest") as file:
        file.create_dataset("packed", data=np.arange(4.0), compression="lzf")  # which the strict reader does not know
        write(file)
    with pytest.raises(WeightsError, match=words), open_weights(tmp_path / "odd.h5") as file:
        list(file.tensors())


def test_attributes_that_the_child_cannot_read(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w", libver="latest") as file:
        file.create_dataset("packed", data=np.arange(4.0), compression="lzf")
        file.attrs["odd"], file.attrs["list"] = np.complex64(1j), np.zeros(2, "c8")
        file.attrs["good"], file.attrs["number"] = "text", 2.5
    with open_weights(tmp_path / "odd.h5") as file:
        assert (file.attribute("good"), file.attribute("number")) == ("text", 2.5)
        for name in ("odd", "list"):
            with pytest.raises(WeightsError, match=f"'{name}' holds neither text nor numbers"):
                file.attribute(name)
