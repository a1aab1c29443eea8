from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import integers, lists
from numpy.typing import NDArray

from model.core import metrics
from model.core.metrics import (
    PairRanks,
    RankSummaries,
    RankSummary,
    Recalls,
    best_true_ranks,
    first_true,
    ranks_of_pairs,
)

small_numbers = arrays(np.int8, (7, 9), elements=integers(-2, 2))
owner_lists = lists(integers(0, 6), min_size=9, max_size=9)
GOLDEN = Path(__file__).parents[2] / "golden" / "recall.npz"


def test_recalls_and_ranks_agree_with_the_papers_code() -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    owners = np.arange(250) // 5
    i2t, t2i = ranks_of_pairs(golden["similarities"], owners)
    recalls = Recalls.of(i2t, t2i)
    for ranks, found, expected in (
        (i2t, recalls.i2t, golden["i2t"]),
        (t2i, recalls.t2i, golden["t2i"]),
    ):
        assert found == pytest.approx(tuple(expected[:3]))
        summary = RankSummary.of(ranks)
        assert [summary.median, summary.mean] == pytest.approx(expected[3:])
    assert recalls.rsum == pytest.approx(golden["i2t"][:3].sum() + golden["t2i"][:3].sum())


def test_image_to_text_takes_the_best_of_the_true_captions() -> None:
    similarities = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    i2t, t2i = ranks_of_pairs(similarities, np.array([0, 1, 0]))
    assert i2t.tolist() == [1, 1]  # image 0: caption 2 is second; image 1: caption 1 is second
    assert t2i.tolist() == [1, 1, 0]


def test_a_query_without_a_listed_match_ranks_behind_the_list() -> None:
    assert first_true(np.array([[False, True], [False, False]])).tolist() == [1, 2]


def test_the_mean_over_folds_is_taken_measure_by_measure() -> None:
    one = Recalls.of(np.array([0], np.int32), np.array([0, 12], np.int32))
    two = Recalls.of(np.array([7], np.int32), np.array([0, 0], np.int32))
    mean = Recalls.mean([one, two])
    assert mean.i2t == (50.0, 50.0, 100.0)
    assert mean.t2i == (75.0, 75.0, 75.0)
    assert mean.rsum == 425.0


@given(data=small_numbers, owners=owner_lists)
def test_counting_what_stands_above_gives_the_rank_of_a_stable_sort(
    data: NDArray[np.int8], owners: list[int]
) -> None:
    similarities = data.astype(np.float32)  # many equal values
    is_true = np.array(owners) == np.arange(7)[:, None]
    order = np.argsort(-similarities, axis=1, kind="stable")
    expected = first_true(np.take_along_axis(is_true, order, axis=1))
    assert best_true_ranks(similarities, is_true).tolist() == expected.tolist()


def test_ranks_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    similarities = np.random.default_rng(3).standard_normal((11, 40)).astype(np.float32)
    owners = np.sort(np.random.default_rng(4).integers(11, size=40))  # zero to many captions
    whole = ranks_of_pairs(similarities, owners)
    monkeypatch.setattr(metrics, "BLOCK_VALUES", 80)
    for one, other in zip(whole, ranks_of_pairs(similarities, owners), strict=True):
        assert one.tolist() == other.tolist()


def test_rank_summaries_are_averaged_over_folds() -> None:
    one = PairRanks(np.array([0, 0, 5], np.int32), np.array([0, 1, 2, 3], np.int32))
    two = PairRanks(np.array([9, 9, 9], np.int32), np.array([7], np.int32))
    found = RankSummaries.average([one, two])
    # By hand: medians 1 and 10, means 8/3 and 10; medians 1.5 down to 1, plus 1, and 8.
    assert found.i2t.median == 5.5
    assert found.i2t.mean == pytest.approx((8 / 3 + 10) / 2)
    assert (found.t2i.median, found.t2i.mean) == (5.0, 5.25)
