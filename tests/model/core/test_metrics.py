from pathlib import Path

import numpy as np
import pytest

from model.core.metrics import Recalls, first_true, ranks_of_pairs

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
        assert [np.floor(np.median(ranks)) + 1, ranks.mean() + 1] == pytest.approx(expected[3:])
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
