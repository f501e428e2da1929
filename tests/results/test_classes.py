"""``run --top``: what a classifier makes of pictures, by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from npresnet.errors import UsageError
from npresnet.results.classes import most_probable, read_names

from ..cli.test_cli import cli, weight_file, written
from ..network.test_digits import DATA, WEIGHTS

Image = pytest.importorskip("PIL.Image")

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COUNT = 4


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with 0.png to 3.png, digits.keras, and nine.txt to go wrong with."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.keras").symlink_to(WEIGHTS)
    with np.load(DATA / "digits.npz") as found:
        for number, picture in enumerate(found["pictures"][:COUNT]):
            Image.fromarray(picture).save(f"{number}.png")
    return tmp_path


def recorded() -> np.ndarray:
    with np.load(DATA / "digits.npz") as found:
        return found["predictions"][:COUNT]


RUN = ("run", *(f"{number}.png" for number in range(COUNT)), "--weights", "digits.keras")  # at the size that it says


def test_top(folder):
    Path("digits.txt").write_text("\n".join(WORDS) + "\n")
    status, output = cli(*RUN, "--top", 3, "--classes", "digits.txt")
    assert status == 0
    table = output.split("\n\n")[1].splitlines()
    assert table[0].split() == ["image", "class", "name", "probability"]
    predictions = recorded()
    expected = [
        [f"{number}.png", str(one), WORDS[one], f"{row[one]:.4f}"]
        for number, row in enumerate(predictions)
        for one in np.argsort(-row)[:3]
    ]
    assert [line.split()[:3] for line in table[1:]] == [row[:3] for row in expected]
    for line, row in zip(table[1:], expected, strict=True):
        assert abs(float(line.split()[3]) - float(row[3])) <= 1.01e-4  # a last digit may be rounded the other way
    with np.load("features.npz") as saved:
        assert saved.files == ["about", "C1", "C2", "C3", "C4", "C5", "probabilities"]
        np.testing.assert_allclose(saved["probabilities"], predictions, atol=1e-5)
        assert json.loads(str(saved["about"]))["layers"]["probabilities"] == "fc1000"


def test_top_without_names(folder):
    """Numbers alone; with --layers the features saved are those."""
    status, output = cli(*RUN, "--top", 1, "--layers", "res2a")
    assert status == 0
    assert re.search(r"^image  class  probability$", output, re.MULTILINE)
    assert re.findall(r"^(\d)\.png +(\d)", output, re.MULTILINE) == [
        (str(number), str(one)) for number, one in enumerate(recorded().argmax(axis=1))
    ]
    with np.load("features.npz") as saved:
        assert saved.files == ["about", "res2a", "probabilities"]


def test_names_alone_imply_five(folder):
    Path("names.json").write_text(json.dumps({str(n): [f"n{n:08}", word] for n, word in enumerate(WORDS)}))
    status, output = cli(*RUN, "--classes", "names.json")
    assert status == 0
    assert len(re.findall(r"^\d\.png ", output, re.MULTILINE)) == 5 * COUNT
    assert WORDS[int(recorded()[0].argmax())] in output


def test_images_without_files_of_their_own(folder):
    np.save("several.npy", np.zeros((2, 32, 32, 3), np.float32))
    status, output = cli("run", "several.npy", "--weights", "digits.keras", "--top", 1)
    assert status == 0
    assert re.findall(r"^(image \d) ", output, re.MULTILINE) == ["image 0", "image 1"]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("logits", r"^image +class +score$"),
        ("sigmoid", r"^image +class +probability$"),
        ("pooled", r"--top: the weights of custom/own hold no classifier"),
    ],
)
def test_networks_of_their_own(tf, folder, head, words):
    """What comes out is called a probability only where it is one; means of channels are no classes."""
    keras = pytest.importorskip("keras")
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", name="first")(image)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 3, padding="same", name="second")(x)])
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    if head != "pooled":
        x = keras.layers.Dense(3, activation="sigmoid" if head == "sigmoid" else None, name="last")(x)
    keras.Model(image, x, name="own").save("own.keras")
    status, output = cli("run", "0.png", "--weights", "own.keras", "--top", 3)
    assert status == (2 if head == "pooled" else 0)
    assert re.search(words, output, re.MULTILINE), output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--top", "11"], "--top: got 11, but the classifier has 10 classes; give 1 to 10"),
        (["--top", "0"], "--top"),
        (["--top", "2", "--classes", "nine.txt"], "nine.txt: holds 9 names, but the classifier has 10 classes"),
        (["--classes", "missing.txt"], r"missing.txt: cannot be read \(No such file"),
        (["--classes", "0.png"], "0.png: no names of classes"),
        (["--top", "2", "--weights", "headless.h5"], "--top: the weights of matterport/resnet50.* hold no classifier"),
    ],
)
def test_wrong_use(folder, arguments, words):
    Path("nine.txt").write_text("\n".join(WORDS[:9]))
    weight_file(folder / "headless.h5")
    before = written(folder)
    status, output = cli(*RUN, *arguments)
    assert status == 2
    assert re.search(words, output)
    assert written(folder) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\r\ngrey dog\r\nhen\r\n\r\n"),
        ("bom.txt", "\ufeffcat\ngrey dog\nhen"),
        ("list.json", '["cat", "grey dog", "hen"]'),
        ("dict.JSON", '{"2": "hen", "0": "cat", "1": "grey dog"}'),
        ("keras.json", '{"0": ["n1", "cat"], "1": ["n2", "grey dog"], "2": ["n3", "hen"]}'),
    ],
)
def test_read_names(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_names(tmp_path / name, 3) == ["cat", "grey dog", "hen"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no names of classes"),
        ("3", "it holds a int, not a list or a dict"),
        ('{"1": "a", "2": "b"}', "its keys are not the numbers 0 to 1"),
        ('["a", 2]', "entry 1 is no name"),
        ('["a", []]', "entry 1 is no name"),
        ("[" * 100_000, "no names of classes"),
        ('["a", "b", "c"]', "holds 3 names, but the classifier has 2 classes"),
    ],
)
def test_bad_json(tmp_path, text, words):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        read_names(tmp_path / "names.json", 2)


def test_most_probable():
    """In order; of equals the lower class first; NaN last."""
    rows = np.array([[0.1, 0.6, 0.1, 0.2], [0.25, 0.25, 0.25, 0.25], [np.nan, 0.1, np.nan, 0.9]], np.float32)
    found = [[one for one, _ in best] for best in most_probable(rows, 3)]
    assert found == [[1, 3, 0], [0, 1, 2], [3, 1, 0]]
    assert most_probable(rows, 1)[0] == [(1, pytest.approx(0.6))]
