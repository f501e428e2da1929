"""One thin network and one folder of tiny pictures for all tests of extraction."""

from __future__ import annotations

from pathlib import Path

import pytest

import npresnet
from npresnet.errors import ImageError
from npresnet.extraction import run
from npresnet.extraction.decoder import Preparation, prepared
from npresnet.extraction.decoders import Decoded, DecodedWindow
from npresnet.extraction.inputs import Item, file_state
from npresnet.model import ResNet
from tests.support.pictures import good_pictures
from tests.support.thin import thin_file

pytest.importorskip("PIL.Image")


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return thin_file(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def net(weights) -> ResNet:
    return npresnet.load(weights, threads=1)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """24 pictures in 3 folders."""
    folder = tmp_path_factory.mktemp("photos")
    good_pictures(folder, 24, folders=3)
    return folder


class InlineDecoders:
    """As ``Decoders``, in this process: where what is tested is something else, and there are many runs."""

    def __init__(self, count: int, how: Preparation, batch: int) -> None:
        self._how, self._batch = how, batch

    def __enter__(self) -> InlineDecoders:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def windows(self, items):
        while window := [self._decoded(item) for _, item in zip(range(self._batch), items, strict=False)]:
            yield DecodedWindow(window, None)

    def _decoded(self, item: Item) -> Decoded:
        state = file_state(item.file)
        try:
            found = prepared(item, self._how)
        except ImageError as error:
            return Decoded(item, None, (0, 0), *state, error.kind, str(error))
        return Decoded(item, found.image, found.stored, *state)


@pytest.fixture
def inline(monkeypatch) -> None:
    monkeypatch.setattr(run, "Decoders", InlineDecoders)
