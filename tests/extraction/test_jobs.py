"""A job from beginning to end: killed, taken up again, shared out, changed, extended, repaired; always the same bits."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import npresnet
from npresnet.errors import ImageError, UsageError
from npresnet.extraction.checks import merge, verify
from npresnet.extraction.decoder import FORMATS, MOST_PIXELS
from npresnet.extraction.inputs import InputList, parse_sources
from npresnet.extraction.job import Job
from npresnet.extraction.locks import JobLock
from npresnet.extraction.opening import preparation_of, settings_of
from tests.support.pictures import good_pictures

USUAL = {"size": "32x32", "images_per_shard": 5}


@pytest.fixture(scope="module")
def reference(photos, net, tmp_path_factory):
    """The summary of a run that nothing has disturbed."""
    return npresnet.extract(photos, net, tmp_path_factory.mktemp("reference"), decoders=2, **USUAL)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".part")]


def test_rows_are_the_networks(reference, photos, net):
    features = npresnet.open_features(reference.folder)
    assert (reference.total, reference.rows, reference.failed, reference.computed) == (24, 24, 0, 24)
    assert reference.complete
    assert features.complete
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.*"))
    assert features.paths == names
    for name in names[::7]:
        c5 = net(net.prepare(photos / name, "32x32")).c5
        np.testing.assert_array_equal(features[name], c5[0].mean(axis=(0, 1), dtype=np.float64).astype(np.float32))


@pytest.mark.parametrize(("batch", "threads", "decoders"), [(1, 1, 3), (7, 2, 1), (32, 2, 3)])
def test_the_same_bits_however_the_work_is_cut(reference, photos, weights, tmp_path, batch, threads, decoders):
    found = npresnet.extract(
        photos,
        weights,
        tmp_path,
        size="32x32",
        images_per_shard=batch + 2,
        batch=batch,
        threads=threads,
        decoders=decoders,
    )
    assert found.sha256 == reference.sha256


def test_what_is_done_is_not_done_again(reference, photos, net):
    before = {path: path.stat().st_mtime_ns for path in (reference.folder / "shards").iterdir()}
    found = npresnet.extract(photos, net, reference.folder, **USUAL)
    assert (found.computed, found.sha256) == (0, reference.sha256)
    assert {path: path.stat().st_mtime_ns for path in (reference.folder / "shards").iterdir()} == before


def started(photos: Path, weights: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "npresnet",
        "extract",
        photos,
        "--weights",
        weights,
        "--out",
        out,
        "--size",
        "32x32",
    ]
    return subprocess.Popen(
        [*map(str, command), "--images-per-shard", "5", "--decoders", "1", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def test_killed_and_taken_up_again(reference, photos, weights, net, tmp_path):
    """The process group is killed once a shard is there; ``tests/extract_at_scale.py`` does so twenty times, at any moment."""
    for shard in ("00000", "00002"):
        process = started(photos, weights, tmp_path, "--batch", "1")
        wait_for(tmp_path / "shards" / f"{shard}.jsonl", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    found = npresnet.extract(photos, net, tmp_path, **USUAL)
    assert found.computed <= 24 - 3 * 5
    assert found.sha256 == reference.sha256
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(photos, weights, tmp_path, number, status):
    process = started(photos, weights, tmp_path, "--batch", "1")
    wait_for(tmp_path / "shards" / "00000.jsonl", process)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == status
    assert said.startswith("npresnet: interrupted\nnpresnet: to go on with it: npresnet extract ")
    assert str(tmp_path) in said
    assert leftovers(tmp_path) == []
    assert json.loads((tmp_path / "status.json").read_bytes())["state"] == "stopped"


@pytest.mark.usefixtures("inline")
def test_shares(reference, photos, net, tmp_path):
    for k in (2, 1, 3):
        found = npresnet.extract(photos, net, tmp_path, shard=(k, 3), **USUAL)
        assert found.complete == bool(found.sha256) == (k == 3)
    assert found.sha256 == reference.sha256
    assert (tmp_path / "status-2-of-3.json").exists()


@pytest.mark.usefixtures("inline")
def test_another_job_is_refused_and_the_difference_named(reference, photos, net, tmp_path, monkeypatch):
    for name, value, words in (
        ("pool", "max", "pool: mean there, max now"),
        ("dtype", "f16", "dtype: f32 there, f16 now"),
        ("layers", "c4", "layers: c5 there, c4 now"),
        ("orient", True, "orient: False there, True now"),
        ("size", "16x16", "size: 32x32 there, 16x16 now"),
    ):
        with pytest.raises(UsageError, match=words):
            npresnet.extract(photos, net, reference.folder, **{**USUAL, name: value})
    with pytest.raises(UsageError, match=f"inputs: {photos} there, {photos / '000'} now"):
        npresnet.extract(photos / "000", net, reference.folder, **USUAL)
    monkeypatch.setattr(np, "__version__", "0.1")
    with pytest.raises(UsageError, match=r"numpy: .* there, 0\.1 now"):
        npresnet.extract(photos, net, reference.folder, **USUAL)
    assert npresnet.extract(photos, net, reference.folder, other_versions=True, **USUAL).sha256 == reference.sha256


def test_two_at_once(photos, net, tmp_path, run_python):
    """Another process holds shards; when it is killed, it holds them no longer."""
    code = f"""
import sys; from pathlib import Path; from npresnet.extraction.locks import JobLock
with JobLock.held(Path({str(tmp_path)!r})) as lock:
    lock.shards(3, 4)
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=r"another process is at work on these shards \(0 to 4\)"):
        npresnet.extract(photos, net, tmp_path, **USUAL)
    with JobLock.held(tmp_path) as lock, pytest.raises(UsageError, match="another process is at work there"):
        lock.whole()
    other.kill()
    other.communicate()
    with JobLock.held(tmp_path), pytest.raises(UsageError, match="another thread of this process"):
        npresnet.extract(photos, net, tmp_path, **USUAL)


@pytest.mark.usefixtures("inline")
def test_only_what_failed_is_computed_again(photos, net, tmp_path):
    copy = Path(shutil.copytree(photos, tmp_path / "photos"))
    names = sorted(copy.rglob("*.*"))
    good = {place: names[place].read_bytes() for place in (2, 6, 7, 21)}
    for place in good:
        names[place].write_bytes(b"no picture")
    out = tmp_path / "out"
    first = npresnet.extract(copy, net, out, **USUAL)
    assert (first.rows, first.failed, first.errors) == (20, 4, {"not a picture": 4})
    before = {path.name: path.stat().st_ino for path in (out / "shards").iterdir()}

    repaired = names[6], names[21]
    for place in (6, 21):
        names[place].write_bytes(good[place])
    found = npresnet.extract(copy, net, out, retry_failed=True, **USUAL)
    assert (found.computed, found.rows, found.failed) == (4, 22, 2)
    after = {path.name: path.stat().st_ino for path in (out / "shards").iterdir()}
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"00001.npy", "00001-1.npy", "00001.jsonl", "00004.npy", "00004-1.npy", "00004.jsonl"}
    features = npresnet.open_features(out)
    for path in (*repaired, names[8], names[23]):
        name = str(path.relative_to(copy))
        expected = net(net.prepare(path, "32x32")).c5[0].mean(axis=(0, 1), dtype=np.float64)
        np.testing.assert_array_equal(features[name], expected.astype(np.float32))
    assert set(features.errors) == {str(names[place].relative_to(copy)) for place in (2, 7)}

    names[0].write_bytes(good[2])  # a good one that has become another
    for place in (2, 7):
        names[place].write_bytes(good[place])
    found = npresnet.extract(copy, net, out, retry_failed=True, **USUAL)
    assert (found.computed, found.failed) == (3, 0)
    assert found.sha256 == npresnet.extract(copy, net, tmp_path / "anew", **USUAL).sha256


@pytest.mark.usefixtures("inline")
def test_images_are_added(photos, net, tmp_path):
    copy, out = Path(shutil.copytree(photos / "000", tmp_path / "photos")), tmp_path / "out"
    npresnet.extract(copy, net, out, **USUAL)
    good_pictures(copy / "more", 7, seed=50)
    assert npresnet.extract(copy, net, out, **USUAL).total == 8  # what is there later is not seen
    found = npresnet.extract(copy, net, out, extend=True, **USUAL)
    assert (found.computed, found.rows) == (7, 15)
    assert npresnet.extract(copy, net, out, extend=True, **USUAL).computed == 0
    assert npresnet.open_features(out).paths[8:] == sorted(f"more/{path.name}" for path in (copy / "more").iterdir())


@pytest.mark.usefixtures("inline")
def test_lists_archives_and_arrays(reference, photos, net, tmp_path, monkeypatch):
    features = npresnet.open_features(reference.folder)
    names = features.paths
    monkeypatch.chdir(photos)
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    assert npresnet.extract(tmp_path / "list.txt", net, tmp_path / "a", **USUAL).sha256 == reference.sha256
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(names).encode())))
    assert npresnet.extract("-", net, tmp_path / "b", **USUAL).sha256 == reference.sha256
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for name in names:
            archive.add(name)
        archive.add(tmp_path / "list.txt", "list.txt")
    npresnet.extract(tmp_path / "some.tar", net, tmp_path / "c", **USUAL)
    found = npresnet.open_features(tmp_path / "c")
    np.testing.assert_array_equal(found.array, features.array)
    assert found.paths[0].endswith(f"some.tar/{names[0]}")
    np.save(tmp_path / "some.npy", net.prepare(names, "32x32"))
    npresnet.extract([tmp_path / "some.npy", names[3]], net, tmp_path / "d", **USUAL)
    found = npresnet.open_features(tmp_path / "d")
    np.testing.assert_array_equal(found.array[:24], features.array)
    np.testing.assert_array_equal(found[names[3]], features.array[3])
    assert found.paths[5].endswith("some.npy#5")


def test_memory_does_not_grow_with_the_list(net, tmp_path):
    """Images are listed, and read again by shards, without all of them in memory at once."""
    how = preparation_of(net, "32x32", FORMATS, MOST_PIXELS, False, False)
    settings = settings_of(net, {"c5": net.graph.features["C5"]}, "mean", "f32", how)
    peaks = []
    for count in (1000, 8000):
        names = tmp_path / f"{count}.txt"
        names.write_text("".join(f"folder/picture-{number:06d}.jpg\n" for number in range(count)))
        sources, _ = parse_sources([names])
        job = Job(tmp_path, settings, "", "/", [], {}, tuple(sources))
        tracemalloc.start()
        job = job.with_more(InputList(sources, b"", tmp_path), 100, known=False)
        assert sum(len(items) for _, items in job.items(job.shards)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.usefixtures("inline")
def test_an_archive_that_is_replaced(photos, net, tmp_path):
    """Between two shares, by one with the same members in another order: no row is another member's."""
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.*"))

    def write(order):
        with tarfile.open(tmp_path / "some.tar", "w") as archive:
            for name in order:
                archive.add(photos / name, name)

    write(names)
    npresnet.extract(tmp_path / "some.tar", net, tmp_path / "whole", **USUAL)
    npresnet.extract(tmp_path / "some.tar", net, tmp_path / "out", shard=(1, 2), **USUAL)
    write(names[:18] + names[:17:-1])
    found = npresnet.extract(tmp_path / "some.tar", net, tmp_path / "out", shard=(2, 2), **USUAL)
    assert (found.rows, found.errors) == (18, {"unreadable": 6})
    whole, features = npresnet.open_features(tmp_path / "whole"), npresnet.open_features(tmp_path / "out")
    np.testing.assert_array_equal(features.array, whole.array[:18])
    assert all("another archive than the one that was listed" in text for text in features.errors.values())


@pytest.mark.usefixtures("inline")
def test_what_is_no_input(net, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").touch()
    (tmp_path / "empty" / ".hidden.jpg").touch()
    (tmp_path / "empty" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "short.tar").write_bytes(b"x" * 700)
    for given, words in (
        (tmp_path / "nothing", ["no such file"]),
        (
            tmp_path / "empty",
            ["no pictures among them", "1 x file that is no picture by its name", "1 x hidden", "1 x link"],
        ),
        (tmp_path / "short.tar", ["not a whole tar archive"]),
        ([], ["none given"]),
        ([3], ["got int"]),
    ):
        with pytest.raises(UsageError) as raised:
            npresnet.extract(given, net, tmp_path / "out", **USUAL)
        assert all(part in str(raised.value) for part in words), raised.value
    for options, words in (
        ({"pool": "median"}, "pool"),
        ({"dtype": "f64"}, "dtype"),
        ({"layers": "c9"}, "layer 'c9'"),
        ({"shard": (0, 2)}, "shard"),
        ({"on_error": "ignore"}, "on_error"),
        ({"decoders": 0}, "decoders"),
        ({"formats": ["XYZ"]}, "formats"),
        ({"pool": "none", "size": "none"}, "rows must be alike"),
        ({"fast_decode": True, "size": "square"}, "fast_decode"),
    ):
        with pytest.raises(UsageError, match=words):
            npresnet.extract(photos, net, tmp_path / "out", **{**USUAL, **options})
    assert not (tmp_path / "out" / "job.json").exists()


@pytest.mark.usefixtures("inline")
def test_several_layers_pools_and_types(photos, net, tmp_path):
    names = ["c3", "c5"]
    npresnet.extract(photos, net, tmp_path / "records", layers=names, pool="max", dtype="f16", **USUAL)
    found = npresnet.open_features(tmp_path / "records")
    assert found.array.dtype.names == ("c3", "c5")
    name = found.paths[7]
    maps = net(net.prepare(photos / name, "32x32"))
    for field, array in (("c3", maps.c3), ("c5", maps.c5)):
        expected = array[0].max(axis=(0, 1)).astype(np.float16)
        np.testing.assert_array_equal(found[name][field], expected)
        np.testing.assert_array_equal(found.array[field][7], expected)
    npresnet.extract(photos, net, tmp_path / "maps", layers="c4", pool="none", **USUAL)
    np.testing.assert_array_equal(npresnet.open_features(tmp_path / "maps")[name], maps.c4[0])
    npresnet.extract(photos, net, tmp_path / "gem", pool="gem", **{**USUAL, "size": "none"})
    cubes = np.maximum(maps.c5[0].astype(float), 1e-6) ** 3
    np.testing.assert_allclose(
        npresnet.open_features(tmp_path / "gem")[name], cubes.mean(axis=(0, 1)) ** (1 / 3), rtol=1e-6
    )


def test_features_are_read_lazily(reference, tmp_path):
    features = npresnet.open_features(reference.folder)
    whole = np.asarray(features.array)
    assert features.array.shape == whole.shape == (24, 32)
    assert repr(features.array) == "<rows float32 [24, 32], read where they are asked for>"
    assert features.array.dtype == np.float32
    assert len(features) == 24
    assert [len(block) for block in features.array.blocks()] == [5, 5, 5, 5, 4]
    for key in (3, -1, slice(4, 17), slice(None, None, 5), slice(20, 3), [1, 20, 3], np.arange(24) % 2 == 0):
        np.testing.assert_array_equal(features.array[key], whole[key])
    assert not features.array[3:4].flags.writeable
    with pytest.raises(IndexError):
        features.array[24]
    with pytest.raises(KeyError, match="not among the images"):
        features["none.jpg"]
    with pytest.raises(UsageError, match=r"no job\.json"):
        npresnet.open_features(tmp_path)


def test_verify_and_merge(reference, net, tmp_path):
    found = verify(reference.folder, 0.2)
    assert (found.rows, found.computed, found.changed, found.wrong) == (24, 5, [], {})
    assert merge(reference.folder, tmp_path / "all.npy") == 24
    features = npresnet.open_features(reference.folder)
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), features.array)
    notes = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [(note["row"], note["path"]) for note in notes] == list(enumerate(features.paths))

    copy = Path(shutil.copytree(reference.folder, tmp_path / "copy"))
    rows = np.load(copy / "shards" / "00001.npy")
    rows[0, 0] += 1
    np.save(copy / "shards" / "00001.npy", rows)
    with pytest.raises(UsageError, match=r"00001\.npy: damaged \(its rows are not those"):
        verify(copy, 1.0, net)


@pytest.mark.usefixtures("inline")
def test_on_error_stop(photos, net, tmp_path):
    copy = Path(shutil.copytree(photos, tmp_path / "photos"))
    bad = sorted(copy.rglob("*.*"))[13]
    bad.write_bytes(b"")
    with pytest.raises(ImageError, match=f"{bad.relative_to(copy)}: the file is empty"):
        npresnet.extract(copy, net, tmp_path / "out", on_error="stop", **USUAL)
    assert len(npresnet.open_features(tmp_path / "out")) == 10
