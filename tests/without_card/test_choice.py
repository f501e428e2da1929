"""Which kernel a convolution on a card gets: what the model must be right about, and that the documentation shows it."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

pytest.importorskip("numba_cuda")  # which test_cuda.py asserts to be there

from bench import card_wgmma, predict_card
from npresnet.cuda.choice import Apart, convolutions, stems
from npresnet.kernels.cuda.fused import Convolution
from npresnet.kernels.cuda.implicit import TILES
from npresnet.kernels.cuda.stem import STEMS, Stem
from npresnet.kernels.cuda.tensor import TENSOR_TILES
from npresnet.kernels.cuda.wgmma import WARPGROUP_TILES, WarpgroupTile

SMS = 132


def choose(*arguments):
    return convolutions(*arguments)[0]


def square(n, side, ci, co, kernel=1, stride=1):
    """A convolution with padding "same" on square images."""
    pad, out = kernel // 2, -(-side // stride)
    return Convolution(n, side, side, ci, kernel, kernel, stride, stride, pad, pad, out, out, co)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "3xtf32"])
def test_a_full_card_has_large_tiles_and_no_parts(precision):
    choice = choose(SMS, square(64, 56, 256, 512), precision, True)
    tiles = TILES if precision == "fp32" else [t for t in TENSOR_TILES if t.exact == (precision == "3xtf32")]
    assert choice.tile.bm * choice.tile.bn >= max(t.bm * t.bn for t in tiles) // 2
    assert choice.splits == 1
    assert not choice.winograd


def test_a_single_small_image_is_split():
    """49 x 512 results have 16 tiles at most; 132 SMs want more to do."""
    choice = choose(SMS, square(1, 7, 2048, 512), "fp32", True)
    assert choice.splits > 4
    assert choose(1, square(1, 7, 2048, 512), "fp32", True).splits == 1


def test_a_block_alone_on_its_multiprocessor_has_many_tiles_on_their_way():
    """No other block has anything to multiply while a copy is awaited."""
    for size in (square(1, 14, 1024, 256), square(8, 14, 1024, 256)):
        alone = choose(SMS, size, "tf32", False)
        assert alone.tile.stages > 2
        assert alone.prediction.limit != "latency"


def test_winograd_where_it_pays_and_may_be():
    large = square(64, 28, 128, 128, kernel=3)
    assert choose(SMS, large, "fp32", True).winograd
    assert not choose(SMS, large, "fp32", False).winograd
    for other in (
        large._replace(sh=2, sw=2, ho=14, wo=14),
        square(64, 28, 128, 128),
        square(64, 28, 16, 128, kernel=3),
    ):
        assert not choose(SMS, other, "fp32", True).winograd
    for precision in ("tf32", "3xtf32"):
        assert not choose(SMS, large, precision, True).winograd


def test_winograd_in_parts_that_stay_in_the_cache():
    few = choose(SMS, square(1, 28, 128, 128, kernel=3), "fp32", True)
    size = square(64, 28, 128, 128, kernel=3)
    many = choose(SMS, size, "fp32", True)
    assert few.winograd
    assert few.splits == 1
    assert many.splits > 1
    assert str(many).endswith(f" / {many.splits}")
    assert 4 * sum(many.workspace(size)) <= 24e6 < 4 * sum(many._replace(splits=1).workspace(size))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "3xtf32"])
def test_form_of_the_weights(precision):
    form = choose(SMS, square(8, 14, 256, 256), precision, True).form
    assert form == {"fp32": "direct", "tf32": "tf32", "3xtf32": "transposed"}[precision]


def test_warp_groups_where_they_are_expected_to_pay():
    """In tf32, where there is enough to do for their large tiles; which come out of the L2 no faster than others."""
    for precision in ("fp32", "tf32", "3xtf32"):
        choice = choose(SMS, square(64, 28, 512, 512), precision, True, True)
        assert isinstance(choice.tile, WarpgroupTile) == (precision == "tf32")
    assert choose(SMS, square(64, 28, 512, 512), "tf32", True, True).prediction.limit == "cache"
    assert not isinstance(choose(SMS, square(1, 7, 512, 512), "tf32", True, True).tile, WarpgroupTile)


@pytest.mark.parametrize("size", card_wgmma.SIZES.values(), ids=card_wgmma.SIZES)
def test_what_is_timed_of_warp_groups(size):
    """Each tile once."""
    ways = [way.tile for way in card_wgmma.best_of_each(SMS, size)]
    assert set(ways) == {*WARPGROUP_TILES, *(tile for tile in TENSOR_TILES if not tile.exact)}
    assert len(ways) == len(set(ways))


def choose_stem(n, side, precision):
    """For the stem of a ResNet."""
    size = Stem(n, side, side, 3, 3, side // 2, side // 2, 0, 0, side // 4, side // 4, 64, False)
    convolution = square(n, side, 4, 64, 7, 2)
    return stems(SMS, size, convolution, choose(SMS, convolution, precision, False))[0]


def test_a_stem_in_one_step():
    """Where there is enough to do for all, and tensor cores are not faster, three times as fast as they are."""
    assert choose_stem(64, 224, "fp32").width == max(STEMS)
    assert choose_stem(1, 1024, "fp32").width == min(STEMS)
    assert isinstance(choose_stem(1, 64, "fp32"), Apart)
    assert isinstance(choose_stem(64, 224, "tf32"), Apart)
    rows = [choose_stem(n, 224, "fp32").rows for n in (8, 64, 256)]
    assert rows == sorted(rows)


def test_no_batch_is_expected_to_take_longer_image_by_image():
    """A larger batch is never thought to cost more per image, but for a tile that is not quite full."""
    for size in (square(1, 56, 64, 256), square(1, 14, 256, 256, 3), square(1, 7, 512, 2048)):
        costs = [choose(SMS, size._replace(n=n), "fp32", True).prediction.cycles / n for n in (1, 4, 16, 64, 256)]
        assert all(more <= 1.1 * less for less, more in pairwise(costs)), costs


def test_limits_are_named():
    assert choose(SMS, square(1, 1, 64, 64), "fp32", True).prediction.limit == "start"
    assert choose(SMS, square(256, 56, 64, 256), "tf32", True).prediction.limit == "memory"
    assert choose(SMS, square(256, 28, 512, 512), "fp32", False).prediction.limit == "arithmetic"


def test_the_documentation_shows_the_predictions():
    text = predict_card.DOCUMENT.read_text()
    for name, expected in predict_card.tables().items():
        found = re.search(rf"<!-- card: {name} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
        assert found, name
        assert found[1] == expected, (
            f"run `python -m bench.predict_card`: the table {name!r} is not what the model says"
        )
