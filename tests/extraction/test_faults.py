"""The disk fails, or the machine stops, at any operation: what is there is whole, and the same command goes on with it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

import npresnet
from npresnet.errors import NpResNetError, OutputError
from npresnet.extraction.locks import JobLock
from npresnet.extraction.shards import ShardFiles
from tests.support.faulty_files import Crash, FaultyFiles

USUAL = {"size": "32x32", "images_per_shard": 9, "batch": 8}

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def few(photos, tmp_path_factory) -> Path:
    """20 pictures."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(photos.rglob("*.*"))[:20]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def reference(few, net, tmp_path):
    return npresnet.extract(few, net, tmp_path / "reference", **USUAL).sha256


def whole(folder: Path) -> bool:
    """Whether every shard that is there can be read to its end."""
    for path in (folder / "shards").glob("*.jsonl"):
        files = ShardFiles(folder, int(path.stem))
        trailer = files.trailer()
        assert trailer is not None
        assert len(files.rows(trailer, check=True)) == trailer.rows
    return True


@pytest.mark.parametrize("kind", ["crash", "ENOSPC"])
def test_every_operation_on_files(few, net, reference, tmp_path, kind):
    number, computed = 0, []
    while True:
        number += 1
        out = tmp_path / str(number)
        out.mkdir()
        with FaultyFiles(out, number, kind) as disk, contextlib.suppress(Crash if kind == "crash" else NpResNetError):
            npresnet.extract(few, net, out, **USUAL)
        if disk.count < number:
            break
        assert whole(out)
        found = npresnet.extract(few, net, out, **USUAL)
        computed.append(found.computed)
        assert found.sha256 == reference, number
        assert [path.name for path in out.rglob("*.part")] == [], number
        assert [path.name for path in (out / "shards").glob("*-*.npy")] == [], number
    assert number > 40  # there is something to fail
    assert set(computed) == {0, 2, 11, 20}
    if kind == "crash":
        assert computed == sorted(computed, reverse=True), computed


def test_every_operation_of_a_repair(few, net, tmp_path):
    """A shard that is written again: the old one is there until the new one is."""
    copy = Path(shutil.copytree(few, tmp_path / "few"))
    bad = sorted(copy.iterdir())[4]
    good = bad.read_bytes()
    bad.write_bytes(b"")
    npresnet.extract(copy, net, tmp_path / "before", **USUAL)
    bad.write_bytes(good)
    expected = npresnet.extract(copy, net, tmp_path / "expected", **USUAL).sha256
    number = 0
    while True:
        number += 1
        out = Path(shutil.copytree(tmp_path / "before", tmp_path / str(number)))
        with FaultyFiles(out, number, "crash") as disk, contextlib.suppress(Crash):
            npresnet.extract(copy, net, out, retry_failed=True, **USUAL)
        if disk.count < number:
            break
        assert whole(out)
        assert len(npresnet.open_features(out)) in (19, 20)
        assert npresnet.extract(copy, net, out, retry_failed=True, **USUAL).sha256 == expected, number
        assert len(list((out / "shards").iterdir())) == 6, number


def test_a_full_disk_is_told(few, net, reference, tmp_path):
    with FaultyFiles(tmp_path) as disk:
        npresnet.extract(few, net, tmp_path / "counted", **USUAL)
    with FaultyFiles(tmp_path, disk.count - 35, "ENOSPC"), pytest.raises(OutputError) as raised:
        npresnet.extract(few, net, tmp_path / "out", **USUAL)
    said = str(raised.value)
    assert "cannot be written, which takes" in said
    assert "the disk is full, or a quota is used up; make room and give the same command again" in said
    assert npresnet.extract(few, net, tmp_path / "out", **USUAL).sha256 == reference


def test_locks_are_free_after_an_error(few, net, tmp_path):
    with FaultyFiles(tmp_path, 25, "EIO"), pytest.raises(NpResNetError):
        npresnet.extract(few, net, tmp_path, **USUAL)
    with JobLock.held(tmp_path) as lock:
        lock.shards(0, 3)
