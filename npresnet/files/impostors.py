"""What a file is that is not a weight file: people hand over many things under that name, and each has a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["archive_name", "directory_name", "name_of"]

_CONVERT = "load the model where it was made, and save it with Keras as `model.save('name.keras')`"
_AGAIN = "download the file again"

# first bytes, and what to say
_STARTS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"version https://git-lfs",), "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`"),
    (
        (b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",),
        "a PyTorch checkpoint, and as such a Python pickle, which is never opened because it can run code; "
        "npresnet reads Keras files: give the Keras `.h5` or `.keras` file",
    ),
    (
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "a Python pickle (a PyTorch checkpoint?), which is never opened because it can run code; give the Keras `.h5` "
        "or `.keras` file",
    ),
    ((b"\x93NUMPY",), "a NumPy array, not HDF5; give the Keras `.h5` file"),
    (
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"),
        "a compressed file; unpack it and give what is inside",
    ),
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF"), "a picture; give the weight file"),
    ((b"%PDF",), "a PDF document; give the weight file"),
    ((b"\x08\x01\x12", b"\x08\x01\x1a"), f"a TensorFlow SavedModel; {_CONVERT}"),
    ((b"<",), f"a web page or XML, probably an error page saved under the file's name; {_AGAIN}"),
    ((b"{",), f"JSON text, probably an error message saved under the file's name; {_AGAIN}"),
)

_ONNX = tuple(bytes([8, version]) for version in range(3, 20))  # field 1, the version of the format; it began with 3
_TABLE_END = bytes.fromhex("57fb808b247547db")  # the last bytes of TensorFlow's (LevelDB's) tables


def name_of(path: Path, head: bytes, tail: bytes) -> str | None:
    """What a file is, and what to do, from its name, its first 512 bytes and its last 8; None if nothing is known."""
    stripped = head.lstrip()
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**32:
        return f"a safetensors file, which holds no Keras layer names; {_CONVERT}"
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model, whose weights are changed for its own use; {_CONVERT}"
    for starts, what in _STARTS:
        if stripped.startswith(starts):
            return what
    if head.startswith(_ONNX) and any(name in head for name in (b"onnx", b"pytorch", b"keras", b"\x12")):
        return f"an ONNX model, which holds a converted graph without Keras's layers; {_CONVERT}"
    if tail == _TABLE_END or ".ckpt" in path.name or ".data-0000" in path.name:
        return f"a part of a TensorFlow checkpoint; {_CONVERT}"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it and give the weight file inside"
    if head and not head.strip(b"\0"):
        return f"nothing but zeros at its beginning, as broken downloads leave it; {_AGAIN}"
    return None


def directory_name(path: Path) -> str:
    """What a directory is."""
    try:
        if (path / "saved_model.pb").exists():
            return f"a TensorFlow SavedModel; {_CONVERT}"
        if (path / "checkpoint").exists():
            return f"a directory of TensorFlow checkpoints; {_CONVERT}"
    except OSError:
        pass
    return "a directory; give the weight file itself (`.h5` or `.keras`)"


def archive_name(members: Iterable[str]) -> str:
    """What a zip archive is that is no ``.keras`` file."""
    names = list(members)
    if any(name.endswith("data.pkl") for name in names):
        return (
            "a PyTorch checkpoint, which holds a Python pickle and is never opened because that can run code; npresnet "
            "reads Keras files: give the `.h5` or `.keras` file"
        )
    if any(name.endswith("saved_model.pb") for name in names):
        return "a zip archive with a TensorFlow SavedModel inside; unpack it, load it in Keras and save it as `.keras`"
    if names and all(name.endswith(".npy") for name in names):
        return f"a NumPy `.npz` archive, which holds no Keras layers; {_CONVERT}"
    if "model.weights.npz" in names:
        return (
            "a `.keras` archive with its weights in NumPy's format; save it again with a Keras that has h5py installed"
        )
    inside = next((name for name in names if name.endswith((".h5", ".hdf5", ".keras"))), None)
    if inside is not None:
        return f"a zip archive with {inside!r} inside; unpack it and give that file"
    return f"a zip archive, but no `.keras` file: it lacks 'config.json' or 'model.weights.h5'; {_CONVERT}"
