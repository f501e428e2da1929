"""``npresnet extract`` as a user meets it."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest

import npresnet

testing = pytest.importorskip("typer.testing")
pytest.importorskip("PIL.Image")

from npresnet.cli.app import app  # noqa: E402 (it needs typer)
from npresnet.extraction.decoder import FORMATS, MOST_PIXELS  # noqa: E402
from tests.support.pictures import good_pictures  # noqa: E402
from tests.support.thin import thin_file  # noqa: E402


def cli(*arguments: object) -> tuple[int, str]:
    result = testing.CliRunner().invoke(app, ["extract", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert all(c.isprintable() or c == "\n" for c in result.output), repr(result.output)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    thin_file(folder)
    good_pictures(folder / "photos" / "a", 5)
    (folder / "photos" / "a" / "Thumbs.db").touch()
    (folder / "photos" / "two\nlines.jpg").write_bytes(b"no picture")
    return folder


USUAL = ("photos", "--weights", "thin.h5", "--out", "features", "--size", "32x32", "--decoders", 1)


def test_extract(folder):
    status, output = cli(*USUAL)
    assert status == 1
    lines = output.splitlines()
    assert lines[:5] == [
        "network       keras-resnet/resnet18, stem 4 and stages 4/8/16/32 channels wide",
        "images        6 in 1 shard",
        "              passed over: 1 x file that is no picture by its name",
        "row           c5 (res5b1_relu), mean: float32 32, 128 bytes",
        lines[4],
    ]
    assert re.fullmatch(r"disk          1\.67 kB still to be written, \d.* free", lines[4])
    assert "job           5 rows and 1 failure of 6 images\nsaved         features\n" in output
    assert re.search(r"^sha256        [0-9a-f]{64}$", output, re.MULTILINE)
    assert re.search(
        r"^not a picture +1  two\\nlines\.jpg +not a picture in any format that is allowed", output, re.MULTILINE
    )
    features = npresnet.open_features("features")
    assert (len(features), list(features.errors)) == (5, ["two\nlines.jpg"])

    status, output = cli(*USUAL, "--pool", "max")
    assert status == 2
    assert "features: another job is there already; pool: mean there, max now" in output

    status, output = cli("--status", "features")
    assert status == 0
    assert (
        "images        6 of 6 done, 1 of them failed\n              1 x not a picture\nstatus        6 of 6 images; done"
        in output
    )

    assert cli("--verify", "features", "--sample", "50%") == (
        0, "rows          5, all of them whole; 3 computed again, 0 differ\n"
    )  # fmt: skip
    status, output = cli("--merge", "features", "all.npy")
    assert (status, output) == (0, "5 rows in all.npy, and what became of each image in all.jsonl\n")
    np.testing.assert_array_equal(np.load("all.npy"), features.array)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "INPUT: not given"),
        (("photos",), "--weights: not given"),
        (("photos", "--weights", "thin.h5"), "--out: not given"),
        (("--status", "a", "--verify", "b"), "--status and --verify: one at a time"),
        (("photos", "--status", "a"), "--status: no INPUT goes with it"),
        (("--status", "photos"), "there is no job.json"),
        ((*USUAL, "--shard", "3/2"), "shard: got (3, 2)"),
        ((*USUAL, "--shard", "all"), "--shard: got 'all'"),
        ((*USUAL, "--size", "none", "--pool", "none"), "rows must be alike"),
    ],
)
def test_wrong_use(folder, arguments, words):
    status, output = cli(*arguments)
    assert status == 2
    assert words in output
    assert not Path("features/job.json").exists()


def test_stopping_at_the_first_failure(folder):
    status, output = cli(*USUAL, "--on-error", "stop")
    assert status == 1
    assert "npresnet: two\\nlines.jpg: not a picture" in output


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOMEM, "Cannot allocate memory"), OSError("Could not find/load shared object file"), MemoryError()],
)
def test_no_memory_is_not_told_as_the_disks(folder, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("npresnet.extraction.run.Decoders", fail)
    status, output = cli(*USUAL)
    assert status == 2
    assert output.startswith(f"npresnet: out of memory ({error}); ")


def test_help_says_what_is_read():
    text = " ".join(cli("--help")[1].split())
    assert f"else {','.join(FORMATS)}." in text
    assert f"else {MOST_PIXELS:,}." in text
