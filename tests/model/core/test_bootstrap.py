from time import perf_counter

import numpy as np
import pytest

from model.core.bootstrap import (
    Interval,
    image_weights,
    paired_difference,
    rsum_draws,
    weighted_rsums,
)
from model.core.errors import InputError
from model.core.metrics import PairRanks, Recalls
from model.core.types import RowArray

CAPTIONS = (5, 1, 3, 7, 5, 2)  # of six images
OWNERS = np.repeat(np.arange(6), CAPTIONS)


def drawn_ranks(seed: int) -> PairRanks:
    rng = np.random.default_rng(seed)
    i2t, t2i = (rng.integers(0, 15, n).astype(np.int32) for n in (6, len(OWNERS)))
    return PairRanks(i2t, t2i)


def repeated(ranks: PairRanks, weights: RowArray) -> Recalls:
    """Recalls of a split that holds each image, with its captions, as often as it was drawn."""
    images = [image for image, times in enumerate(weights) for _ in range(times)]
    t2i = np.concatenate([ranks.t2i[image == OWNERS] for image in images])
    return Recalls.of(ranks.i2t[images], t2i)


def test_a_draw_is_the_split_with_its_images_repeated() -> None:
    rankings = [drawn_ranks(0), drawn_ranks(1)]
    weights = image_weights(6, 40, np.random.default_rng(2))
    found = weighted_rsums(rankings, OWNERS, weights)
    assert found.shape == (2, 40)
    for row, ranks in zip(found, rankings, strict=True):
        expected = [repeated(ranks, one).rsum for one in weights]
        assert row == pytest.approx(expected)


def test_every_draw_takes_as_many_images_as_there_are_and_each_as_often_as_the_others() -> None:
    weights = image_weights(6, 20_000, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 6).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.03)
    assert weights.var(axis=0) == pytest.approx(np.full(6, 5 / 6), abs=0.03)  # multinomial


def test_every_image_drawn_once_gives_the_figure_itself() -> None:
    ranks = drawn_ranks(3)
    (found,) = weighted_rsums([ranks], OWNERS, np.ones((1, 6), np.int64))
    assert found[0] == pytest.approx(Recalls.of(*ranks).rsum)


def test_where_every_query_hits_no_draw_differs() -> None:
    ranks = PairRanks(np.zeros(6, np.int32), np.zeros(len(OWNERS), np.int32))
    found = rsum_draws([ranks], OWNERS, 50, 0)
    assert Interval.of(600.0, found[0]) == Interval(value=600.0, low=600.0, high=600.0)


def test_the_difference_of_a_ranking_from_itself_is_nothing() -> None:
    ranks = drawn_ranks(4)
    found = paired_difference(ranks, ranks, OWNERS)
    assert found == Interval(value=0.0, low=0.0, high=0.0)


def test_a_difference_that_every_image_shares_has_no_width_though_the_figures_have() -> None:
    """Each image's caption moves from rank 1 to 0, which adds R@1 of text to image, 100."""
    owners = np.arange(6)
    i2t = drawn_ranks(5).i2t
    better, worse = (PairRanks(i2t, np.full(6, rank, np.int32)) for rank in (0, 1))
    found = paired_difference(better, worse, owners)
    assert [found.value, found.low, found.high] == pytest.approx([100.0] * 3)
    alone = rsum_draws([better], owners, 100, 0)
    assert np.ptp(alone) > 0


def test_an_interval_lies_between_the_percentiles_of_its_draws() -> None:
    found = Interval.of(7.0, np.arange(1001) / 10)
    assert [found.value, found.low, found.high] == pytest.approx([7.0, 2.5, 97.5])


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    """One caption an image, half of them hits: rSum is 6 times the mean of a fair coin."""
    n_images = 400
    ranks = np.tile(np.array([0, 99], np.int32), n_images // 2)
    draws = rsum_draws([PairRanks(ranks, ranks)], np.arange(n_images), 4000, 1)[0]
    found = Interval.of(300.0, draws)
    width = 2 * 1.96 * 600 * 0.5 / np.sqrt(n_images)
    assert found.high - found.low == pytest.approx(width, rel=0.06)


def test_a_seed_makes_it_repeat_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rankings = [drawn_ranks(6), drawn_ranks(7)]
    first, again, other = (rsum_draws(rankings, OWNERS, 30, seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    monkeypatch.setattr("model.core.bootstrap.BLOCK_VALUES", 24)
    assert rsum_draws(rankings, OWNERS, 30, 1).tolist() == first.tolist()


def test_no_draws_are_refused() -> None:
    with pytest.raises(InputError, match="needs 1 draw or more, got 0"):
        rsum_draws([drawn_ranks(0)], OWNERS, 0, 0)


def test_a_thousand_draws_of_a_thousand_images_take_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    i2t, t2i = (rng.integers(0, 50, n).astype(np.int32) for n in (1000, 5000))
    ranks, owners = PairRanks(i2t, t2i), np.arange(5000) // 5
    took = []
    for _ in range(3):  # a shared machine may be slow at any moment
        began = perf_counter()
        rsum_draws([ranks, ranks], owners, 1000, 0)
        took.append(perf_counter() - began)
    assert min(took) < 1.0
