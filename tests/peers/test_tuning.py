"""Settings of the processor's kernels: how the best are found, and that processes go by what was kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npresnet.kernels import processor
from npresnet.kernels.processor import Settings, alternatives, usual
from npresnet.peers import tuning
from npresnet.peers.case import Case
from npresnet.peers.process import EngineFailed

CASE = Case("matterport/resnet50", (1, 32, 32), 1)


class Machine:
    """Runs take as long as ``seconds`` says of the settings, or twice that while others are at work."""

    def __init__(self, seconds):
        self.seconds, self.running, self.started, self.random = seconds, 0, [], np.random.default_rng(0)

    def start(self, settings):
        self.started.append(settings)
        if settings.rows > 9 or settings.vectors == 3:
            raise EngineFailed("its kernels cannot be made")
        self.running += 1
        return self.Worker(self, settings)

    class Worker:
        def __init__(self, machine, settings):
            self.machine, self.settings = machine, settings

        def time(self, runs, warmup):
            busy = self.machine.random.random(runs) < 0.6
            return [self.machine.seconds(self.settings) * (2 if slow else 1) for slow in busy]

        def close(self):
            self.machine.running -= 1


@pytest.fixture
def kept(monkeypatch):
    """What was to be kept."""
    everything: list[Settings] = []
    monkeypatch.setattr(tuning, "keep", lambda settings: everything.append(settings) or Path("kept"))
    return everything


def test_the_best_of_each_idea_is_gone_on_with(kept):
    """And one that cannot be made is left out."""
    machine = Machine(lambda s: 0.1 * (0.9 if s.unroll == 8 else 1.0) * (0.8 if s.tiles < usual().tiles else 1.0))
    seen = []
    tuned = tuning.tune_processor(Path("w.h5"), CASE, seen=seen.append, start=machine.start)
    assert tuned.best == usual()._replace(unroll=8, tiles=usual().tiles // 2)
    assert (kept, tuned.kept) == ([tuned.best], Path("kept"))
    assert machine.running == 0
    assert tuned.trials == (tuning.Trial(usual(), 1.0), *seen)
    ratios = {trial.settings: trial.ratio for trial in seen}
    assert ratios[usual()._replace(unroll=8)] == pytest.approx(0.9)
    assert ratios[tuned.best] == pytest.approx(0.8)
    assert not any(settings.vectors == 3 for settings in ratios)
    assert any(settings.vectors == 3 for settings in machine.started)


def test_what_gains_next_to_nothing_is_not_kept(kept):
    machine = Machine(lambda s: 0.1 if s == usual() else 0.098)
    assert tuning.tune_processor(Path("w.h5"), CASE, start=machine.start).best == usual()
    assert kept == [usual()]


def test_what_is_not_seen_again_is_not_kept(kept):
    """A process may be fast because of where its memory lies: the second one of the same settings is not."""
    machine = Machine(lambda s: 0.08 if s.unroll == 8 and machine.started.count(s) == 1 else 0.1)
    tuned = tuning.tune_processor(Path("w.h5"), CASE, start=machine.start)
    assert tuned.best == usual()
    assert any(trial.ratio == pytest.approx(0.8) for trial in tuned.trials)


def test_a_network_that_fails_is_an_error(kept):
    def start(settings):
        raise EngineFailed("no such network")

    with pytest.raises(EngineFailed, match="no such network"):
        tuning.tune_processor(Path("w.h5"), CASE, start=start)
    assert kept == []


@pytest.mark.parametrize("l2", [256, 512, 1024, 2048])
def test_the_table_fits_into_the_cache(monkeypatch, l2):
    monkeypatch.setattr(processor, "l2_bytes", lambda: l2 * 1024)
    settings = usual()
    assert settings.valid
    assert settings.block_bytes <= l2 * 1024 // 4
    channels, columns = 128, 4 * processor.LANES
    assert 36 * 4 * settings.tiles * (channels + columns) <= l2 * 1024
    assert all(other.valid and other != settings for idea in alternatives(settings) for other in idea)


def test_settings_that_no_kernel_can_have():
    for changed in ({"rows": 0}, {"rows": 40}, {"vectors": 9}, {"unroll": 3}, {"unroll": 32}, {"block_bytes": 0}):
        assert not usual()._replace(**changed).valid


SHOW = "from npresnet.kernels.processor import SETTINGS; from npresnet.kernels.tile import NR; print(SETTINGS, NR)"


def shown(folder, code=SHOW, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "NPRESNET_CACHE_DIR": str(folder), **variables},
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr


def test_processes_go_by_what_was_kept(tmp_path):
    lanes = processor.LANES
    chosen = usual()._replace(rows=4, vectors=2)
    keep = f"from npresnet.kernels.processor import *; print(keep(Settings{tuple(chosen)}))"
    before = shown(tmp_path)[0]
    path = Path(shown(tmp_path, keep)[0])
    assert path.is_relative_to(tmp_path)
    assert shown(tmp_path)[0] == f"{chosen} {2 * lanes}"
    assert shown(tmp_path, NPRESNET_SETTINGS=str(usual()))[0] == before == f"{usual()} {usual().vectors * lanes}"
    for text in ("", "{}", "[1]", '"6,2"', '"0,2,4,262144,28"', '"99,99,4,1,1"', "\0"):
        path.write_text(text)
        assert shown(tmp_path)[0] == before, text


@pytest.mark.parametrize("asked", ["", "6", "6,2,4,262144", "6,2,4,262144,-1", "6,2,3,262144,28", "30,2,4,262144,28"])
def test_wrong_settings_are_refused(tmp_path, asked):
    error = shown(tmp_path, NPRESNET_SETTINGS=asked)[1]
    assert f"ValueError: NPRESNET_SETTINGS: got {asked!r}; it must be rows,vectors,unroll,block_bytes,tiles" in error
