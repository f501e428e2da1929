"""Files that are no pictures, processes that die of them: each costs its own row, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import npresnet
from npresnet.errors import MissingExtraError, NpResNetError
from npresnet.extraction import decoder, decoders
from npresnet.extraction.decoder import Preparation
from npresnet.extraction.decoders import Decoders
from npresnet.extraction.inputs import Item
from npresnet.images.prepare import prepare
from tests.support.pictures import bad_pictures, encoded, noise, odd_pictures

USUAL = {"size": "32x32", "images_per_shard": 9}
HOW = Preparation("caffe", "32x32", 3)


def items(folder: Path) -> list[Item]:
    return [Item(name, str(folder / name)) for name in sorted(os.listdir(folder))]


def test_bad_images_cost_their_own_rows(photos, net, tmp_path):
    mixed = Path(shutil.copytree(photos / "000", tmp_path / "mixed"))
    odd = odd_pictures(mixed)
    good = npresnet.extract(mixed, net, tmp_path / "good", decoders=1, **USUAL)
    assert (good.rows, good.failed) == (8 + len(odd), 0)
    expected = bad_pictures(mixed, bomb_side=12_000)
    found = npresnet.extract(mixed, net, tmp_path / "out", decoders=2, most_pixels=10_000_000, **USUAL)
    features = npresnet.open_features(tmp_path / "out")
    kinds = {name: text.split(":")[0] for name, text in features.errors.items()}
    assert set(kinds) == set(expected)
    assert {name: kind for name, kind in kinds.items() if kind not in expected[name]} == {}
    assert (found.rows, found.failed) == (good.rows, len(expected))
    assert found.sha256 == good.sha256  # the rows of the good ones, in their order, bit for bit


def test_a_decoder_that_dies_costs_one_image(photos, net, tmp_path, monkeypatch):
    """The pool's processes are killed while they work; each time the image that was being decoded is recorded."""
    killed = []
    original = Decoders._take

    def take(self, child, answer):
        original(self, child, answer)
        if len(killed) < 3 and len(child.tasks) > 1 and child.ready:
            killed.append(child.process.pid)
            os.kill(child.process.pid, signal.SIGSEGV)

    monkeypatch.setattr(Decoders, "_take", take)
    found = npresnet.extract(photos, net, tmp_path, decoders=1, batch=4, **USUAL)
    assert found.complete
    assert 1 <= found.failed <= 3
    errors = set(npresnet.open_features(tmp_path).errors.values())
    assert errors == {"crash: its decoder ended with SIGSEGV"}
    monkeypatch.undo()
    assert npresnet.extract(photos, net, tmp_path, decoders=1, retry_failed=True, **USUAL).failed == 0


def test_an_image_may_not_keep_the_others_waiting(photos, tmp_path):
    """The decoder is halted, as one that loops would be, and ended when its time is over."""
    with Decoders(1, HOW, batch=2, deadline=1.0) as pool:
        windows = pool.windows(iter(items(photos / "000")))
        first = next(windows)
        while pool._children[0].tasks:  # it answers all it has, before it is halted
            pool._read(1)
        os.kill(pool.pids[0], signal.SIGSTOP)
        rest = [decoded for window in windows for decoded in window.decoded]
    assert all(decoded.image is not None for decoded in first.decoded)
    late = [decoded for decoded in rest if decoded.error]
    assert [decoded.error for decoded in late] in ([], ["timeout"])
    assert len(rest) == 6


def test_decoders_that_cannot_start(photos, monkeypatch):
    monkeypatch.setattr(decoders, "settings", lambda *_: '{"path": []}')
    with Decoders(1, HOW, batch=2) as pool, pytest.raises(NpResNetError, match="decoders cannot be started"):
        list(pool.windows(iter(items(photos / "000"))))


def test_without_pillow(photos, tmp_path, monkeypatch):
    """Said once, for all images; arrays need none."""
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    start = decoders.settings
    monkeypatch.setattr(decoders, "settings", lambda *given: start(*given[:3], [str(tmp_path), *given[3]]))
    np.save(tmp_path / "one.npy", np.zeros((32, 32, 3), np.float32))
    with Decoders(1, HOW, batch=2) as pool:
        (window,) = pool.windows(iter([Item("one.npy", str(tmp_path / "one.npy"))]))
        assert window.decoded[0].image is not None
    with Decoders(1, HOW, batch=2) as pool, pytest.raises(MissingExtraError, match="needs Pillow"):
        list(pool.windows(iter(items(photos / "000"))))


def test_images_of_any_size(tmp_path):
    """Where nothing makes them alike, each has its own shape, and memory of its own."""
    sides = [(20, 30), (64, 8), (20, 30), (5, 5)]
    for n, (height, width) in enumerate(sides):
        (tmp_path / f"{n}.png").write_bytes(encoded(noise(height, width, n), "PNG"))
    with Decoders(2, Preparation("none", "none", 3), batch=3) as pool:
        found = []
        for window in pool.windows(iter(items(tmp_path))):
            assert sum(len(group) for group, _ in window.batches()) == len(window.decoded)
            found += [(decoded.item.path, decoded.image.copy()) for decoded in window.decoded]
    assert [image.shape[:2] for _, image in found] == sides
    for name, image in found:
        np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / name), np.float32))


@pytest.mark.parametrize("size", ["20x30", "31x7", "64x64"])
def test_pixels_are_those_of_prepare(tmp_path, size):
    """A decoder resizes before it makes an array; whatever the mode of a picture, as the network's own ``prepare`` does."""
    names = odd_pictures(tmp_path)
    for mode in ("1", "L", "LA", "P", "PA", "RGBA", "I;16", "I"):
        data = np.random.default_rng(6).integers(0, 65536, (40, 50))
        stored = data.astype(np.uint16 if mode == "I;16" else np.int32)
        picture = Image.fromarray(stored) if mode.startswith("I") else noise(40, 50, 6).convert(mode)
        names.append(f"{mode.replace(';', '-')}.{'tif' if mode in ('I', 'PA') else 'png'}")
        (tmp_path / names[-1]).write_bytes(encoded(picture, "TIFF" if mode in ("I", "PA") else "PNG"))
    for name in names:
        found = decoder.prepared(Item(name, str(tmp_path / name)), Preparation("caffe", size, 3)).image
        np.testing.assert_array_equal(found, prepare(tmp_path / name, "caffe", size)[0], name)


def test_orientation_and_fast_decoding(tmp_path):
    picture = noise(300, 400, 5).resize((25, 19)).resize((400, 300), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(encoded(picture, "JPEG", exif=exif.tobytes(), quality=95))
    item = Item("turned.jpg", str(tmp_path / "turned.jpg"))
    plain = decoder.prepared(item, Preparation("none", "none", 3))
    turned = decoder.prepared(item, Preparation("none", "none", 3, orient=True))
    assert plain.stored == turned.stored == (400, 300)
    np.testing.assert_array_equal(turned.image, np.rot90(plain.image, 3))
    exact = decoder.prepared(item, Preparation("none", "50x50", 3)).image
    fast = decoder.prepared(item, Preparation("none", "50x50", 3, fast_decode=True)).image
    assert fast.shape == exact.shape
    assert 0 < np.abs(fast - exact).mean() < 8  # of 255: other pixels, and the same picture


def test_images_that_the_network_does_not_take(net, tmp_path):
    """An array of another size than the others is recorded, with what to do."""
    np.save(tmp_path / "a.npy", np.zeros((32, 32, 3), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((2, 40, 16, 3), np.float32))
    np.save(tmp_path / "c.npy", np.zeros((32, 32, 4), np.float32))
    npresnet.extract(tmp_path, net, tmp_path / "out", decoders=1, **USUAL)
    errors = npresnet.open_features(tmp_path / "out").errors
    assert set(errors) == {"b.npy#0", "b.npy#1", "c.npy"}
    assert errors["b.npy#1"].startswith("size: an image of 16x40 pixels, where all have 32x32")
    assert errors["b.npy#1"].endswith("--size 16x40")
