"""Weights that Keras has split over several files: read as one, and nothing but their own parts is ever opened."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.files import open_files
from npresnet.files.hdf5 import source
from npresnet.files.hdf5.reader import read_tree
from npresnet.files.opening import open_weights
from npresnet.network.weights import inspect
from npresnet.verify import oracle

from .. import fuzz_hdf5
from ..support import networks

NETWORK = networks.thin("keras.applications", 50)


@pytest.fixture(scope="module")
def pair(tf, tmp_path_factory) -> tuple[Path, Path]:
    """The same weights in one file and in parts."""
    folder = tmp_path_factory.mktemp("shards")
    model = networks.shared(NETWORK)
    model.save_weights(folder / "whole.weights.h5")
    largest = max(variable.value.numpy().nbytes for variable in model.variables)
    model.save_weights(folder / "net.weights.json", max_shard_size=largest / 2**30)  # so that its bias goes to the next
    return folder / "whole.weights.h5", folder / "net.weights.json"


def contents(path: Path) -> fuzz_hdf5.Contents:
    found = fuzz_hdf5.Contents()

    def collect(group: Any) -> None:
        found.attributes[group.path] = dict(group.attributes)
        for tensor in group.datasets().values():
            found.tensors[tensor.path] = tensor.shape, tensor.read().tobytes()
        for below in group.groups().values():
            collect(below)

    with open_weights(path) as file:
        collect(file)
    return found


def test_parts_are_read_as_one_file(pair):
    whole, index = pair
    places = json.loads(index.read_text())["weight_map"]
    parts = sorted(index.parent.glob("net_*.weights.h5"))
    assert len(parts) > 5
    assert any(len(names) > 1 for names in places.values())  # a layer in two parts
    assert contents(index) == contents(whole)
    one, other = inspect(whole), inspect(index)
    assert other.layout == "Keras 3 weights in shards"
    assert other.bytes == index.stat().st_size + sum(part.stat().st_size for part in parts)
    assert (other.architecture, other.matched, other.problems) == (one.architecture, one.matched, [])
    images = np.ones((1, 64, 64, 3), np.float32)
    for a, b in zip(npresnet.load(whole)(images), npresnet.load(index)(images), strict=True):
        assert a.tobytes() == b.tobytes()


def test_keras_as_the_oracle_reads_them_too(pair):
    model = NETWORK.build()
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    oracle.load_file(model, pair[1])
    for one, other in zip(model.variables, networks.shared(NETWORK).variables, strict=True):
        assert np.array_equal(one.value, other.value)


def test_one_part_alone(pair, tmp_path):
    _, index = pair
    part = index.with_name("net_00001.weights.h5")
    with pytest.raises(WeightsError, match=r"one part of several; .* give 'net\.weights\.json'$"):
        inspect(part)
    alone = tmp_path / part.name
    alone.write_bytes(part.read_bytes())
    with pytest.raises(WeightsError, match=r"; one part of sharded weights .* give 'net\.weights\.json'$"):
        npresnet.load(alone)


def test_one_part_that_is_recognised(pair, tmp_path):
    """It lacks its last layer only."""
    with h5py.File(pair[0]) as old, h5py.File(tmp_path / "net_00000.weights.h5", "w") as new:
        old.copy("layers", new)
        del new["layers/conv2d_52/vars/0"]
    with pytest.raises(WeightsError, match=r"the file lacks .* give 'net\.weights\.json'$"):
        npresnet.load(tmp_path / "net_00000.weights.h5")


def test_a_whole_file_of_such_a_name(pair, tmp_path):
    """As training writes them: ``{epoch:05}.weights.h5``."""
    path = tmp_path / "epoch_00010.weights.h5"
    path.write_bytes(pair[0].read_bytes())
    assert not inspect(path).problems


# Made by hand --------------------------------------------------------------------------------------------------------

PARTS: list[dict[str, Any]] = [
    {"layers/a/vars/0": np.arange(6.0), "layers/b/vars/0": np.arange(4.0)},
    {"layers/b/vars/1": np.arange(3.0), "layers/c/vars/0": np.arange(2.0)},
]


def written(folder: Path, parts: list[dict[str, Any]] = PARTS, **changes: Any) -> Path:
    """Parts and their index; ``changes`` replace entries of the index."""
    places: dict[str, list[str]] = {}
    for number, part in enumerate(parts):
        name = f"x_{number:05}.weights.h5"
        with h5py.File(folder / name, "w") as file:
            for path, array in part.items():
                file[path] = array
                group = "/" + path.rpartition("/")[0]
                places.setdefault(group, [])
                if name not in places[group]:
                    places[group].append(name)
    index = folder / "x.weights.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places} | changes))
    return index


def test_by_hand(tmp_path):
    found = contents(written(tmp_path)).tensors
    assert found.keys() == {path for part in PARTS for path in part}


def test_a_part_beside_its_index(tmp_path):
    written(tmp_path)
    with pytest.raises(WeightsError, match="one part of several"), open_weights(tmp_path / "x_00000.weights.h5"):
        pass


def test_a_single_name_instead_of_a_list(tmp_path):
    """As earlier releases write it."""
    index = written(tmp_path, PARTS[:1])
    text = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": {path: names[0] for path, names in text["weight_map"].items()}}))
    assert contents(index).tensors.keys() == PARTS[0].keys()


BAD_NAMES: list[Any] = [
    "../x_00000.weights.h5", "/etc/passwd", "sub/x_00000.weights.h5", "..\\x_00000.weights.h5", "y_00000.weights.h5",
    "x_0000.weights.h5", "x_000000.weights.h5", "x_00000.weights.h5\n", "x_00000.weights.h5\0", "x.weights.json",
    "x_\N{ARABIC-INDIC DIGIT ONE}0000.weights.h5", "", 3, None, {"a": 1}, True,
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
@pytest.mark.parametrize("nested", [False, True])
def test_names_that_are_not_the_index_s_own(tmp_path, monkeypatch, name, nested):
    index = written(tmp_path, weight_map={"/layers/a/vars": [name] if nested else name})
    opened = []
    monkeypatch.setattr("npresnet.files.open_files.regular_file", _spy(opened))
    with pytest.raises(WeightsError, match=r"the index says .*'x_00000\.weights\.h5' and so on"), open_weights(index):
        pass
    assert opened == [index]


def _spy(opened: list[Path]) -> Any:
    real = open_files.regular_file

    def stream(path: Path) -> Any:
        opened.append(path)
        return real(path)

    return stream


INDEXES = {
    "a model's config": ('{"class_name": "Functional"}', "no index of sharded weights"),
    "an empty map": ('{"weight_map": {}}', "no index of sharded weights"),
    "a list for a map": ('{"weight_map": ["x_00000.weights.h5"]}', "no index of sharded weights"),
    "cut short": ('{"weight_map": {', "index of sharded weights is no JSON text"),
    "deep": ('{"weight_map": ' + "[" * 100 + "]" * 100 + "}", "nested more than 64 deep"),
    "megabytes": ('{"weight_map": "' + " " * 7 * 2**20 + '"}', "no Keras file has more than"),
    "a list": ("[1]", "this is not an HDF5 file"),
    "many parts": (
        json.dumps({"weight_map": {"/a/vars": [f"x_{i:05}.weights.h5" for i in range(101)]}}),
        "names 101 parts",
    ),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_a_bad_index(tmp_path, kind):
    text, words = INDEXES[kind]
    index = written(tmp_path)
    index.write_text(text)
    with pytest.raises(WeightsError, match=words), open_weights(index):
        pass


def replaced(folder: Path, number: int, data: bytes) -> None:
    (folder / f"x_{number:05}.weights.h5").write_bytes(data)


def test_a_part_that_is_missing(tmp_path):
    index = written(tmp_path)
    (tmp_path / "x_00001.weights.h5").unlink()
    with pytest.raises(WeightsError, match=r"'x_00001\.weights\.h5' is not there; all 2 parts"), open_weights(index):
        pass


@pytest.mark.parametrize("target", ["elsewhere", "x_00000.weights.h5", "nowhere"])
def test_a_part_that_is_a_link(tmp_path, target):
    index = written(tmp_path)
    part = tmp_path / "x_00001.weights.h5"
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(target)
    with pytest.raises(WeightsError, match=r"'x_00001\.weights\.h5' is a link"), open_weights(index):
        pass


def test_a_part_that_is_a_folder(tmp_path):
    index = written(tmp_path)
    (tmp_path / "x_00001.weights.h5").unlink()
    (tmp_path / "x_00001.weights.h5").mkdir()
    with pytest.raises(WeightsError, match="this is a directory"), open_weights(index):
        pass


def test_a_part_that_is_cut_short(tmp_path):
    index = written(tmp_path)
    replaced(tmp_path, 1, (tmp_path / "x_00001.weights.h5").read_bytes()[:-8])
    with (
        pytest.raises(WeightsError, match=r"in its part 'x_00001\.weights\.h5': the file ends after"),
        open_weights(index),
    ):
        pass


def test_a_part_beyond_the_subset(tmp_path):
    """A hundred processes of h5py would be too many, and Keras writes no such part."""
    index = written(tmp_path)
    with h5py.File(tmp_path / "x_00001.weights.h5", "w", libver="latest") as file:
        file.create_dataset("layers/b/vars/1", data=np.arange(3.0), compression="lzf")
    with (
        pytest.raises(WeightsError, match=r"'x_00001\.weights\.h5' uses .*, which Keras does not"),
        open_weights(index),
    ):
        pass


def test_parts_of_another_saving(tmp_path):
    """More than the index says, less, and elsewhere."""
    for changed in ({"layers/d/vars/0": np.zeros(1)}, {}, {"layers/b/vars/0": np.zeros(1)}):
        index = written(tmp_path, [PARTS[0], {"layers/b/vars/1": np.zeros(3), "layers/c/vars/0": np.zeros(2)}])
        with h5py.File(tmp_path / "x_00001.weights.h5", "a") as file:
            if not changed or "layers/b/vars/0" in changed:
                del file["layers/c"]
            for path, array in changed.items():
                file[path] = array
        with (
            pytest.raises(WeightsError, match=r"disagree on whether '/layers/[cd]/vars' is in it"),
            open_weights(index),
        ):
            pass


@pytest.mark.parametrize(
    ("first", "second"),
    [("layers/a/vars/0", "layers/a/vars/0"), ("layers/a/vars/0", "layers/a/vars/0/deeper/0")],
    ids=["a tensor twice", "a group where a tensor is"],
)
def test_parts_that_contradict_each_other(tmp_path, first, second):
    index = written(tmp_path, [{first: np.zeros(2)}, {second: np.zeros(2)}])
    with pytest.raises(WeightsError, match="'layers/a/vars/0' is in two parts"), open_weights(index):
        pass


def test_two_names_for_one_layer(tmp_path):
    index = written(tmp_path)
    for number, name in enumerate(("one", "other")):
        with h5py.File(tmp_path / f"x_{number:05}.weights.h5", "a") as file:
            file["layers/b/vars"].attrs["name"] = name
    with pytest.raises(WeightsError, match="'name' of 'layers/b/vars/' differs"), open_weights(index):
        pass


@pytest.mark.parametrize("limit", ["_STEPS", "_METADATA"])
def test_all_parts_share_one_budget(tmp_path, monkeypatch, limit):
    """What one part may cost is not to be had a hundred times."""
    index = written(tmp_path, [{f"layers/l{i}{j}/vars/0": np.zeros(1) for j in range(9)} for i in range(9)])
    data = (tmp_path / "x_00000.weights.h5").read_bytes()
    budget = source.Budget(0)
    read_tree(source.Source(io.BytesIO(data), 0, len(data), budget))
    spent = getattr(source, limit) - getattr(budget, limit.lower())
    for parts, enough in ((10, True), (3, False)):
        monkeypatch.setattr(source, limit, parts * spent)
        if enough:
            assert len(contents(index).tensors) == 81
        else:
            with (
                pytest.raises(WeightsError, match=r"in its part 'x_0000[34].*the file holds more than"),
                open_weights(index),
            ):
                pass


def test_all_parts_share_the_memory_for_numbers(tmp_path):
    """64 MB of zeros in each, packed."""
    index = written(tmp_path, [{f"layers/l{i}/vars/0": np.zeros(1)} for i in range(5)])
    for i in range(5):
        with h5py.File(tmp_path / f"x_{i:05}.weights.h5", "w") as file:
            made = file.create_dataset(f"layers/l{i}/vars/0", (2**24,), "f4", chunks=(2**24,), compression="gzip")
            made.id.write_direct_chunk((0,), zlib.compress(bytes(2**26)))
    with open_weights(index) as file:
        tensors = list(file.tensors())
        assert [tensor.read().shape for tensor in tensors[:3]] == [(2**24,)] * 3
        with pytest.raises(WeightsError, match="made to exhaust memory"):
            tensors[3].read()
