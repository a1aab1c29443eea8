import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ann import selection
from model.ann.selection import along, top_positions
from model.core.vectors import best_rows


def test_equal_scores_at_the_cut_go_to_the_lower_row() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.5], dtype=np.float32)
    rows = np.array([30, 10, 7, 20])
    assert top_positions(scores, rows, 3).tolist() == [1, 2, 3]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(0, 70), st.randoms())
def test_top_positions_are_those_of_a_full_sort(
    values: list[int], count: int, random: "np.random.RandomState"
) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    scores, rows = np.array(values, dtype=np.float32), np.array(order, dtype=np.int64)
    by_hand = sorted(range(len(values)), key=lambda i: (-values[i], order[i]))[:count]
    assert top_positions(scores, rows, count).tolist() == by_hand
    assert best_rows(scores, rows, count).tolist() == by_hand


@pytest.mark.parametrize("sorted_whole", [0, 512])
@pytest.mark.parametrize("highest", [60, 2**32, 2**40])
@given(data=st.data())
def test_many_queries_have_the_positions_that_each_has(
    sorted_whole: int, highest: int, data: st.DataObject
) -> None:
    """Ties, both zeros, infinities and rows of any size; sorted whole, or parted first."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    n_queries, width = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 40))
    count = data.draw(st.integers(0, 45), label="count")
    values = np.array([-np.inf, -2.5, -1e-40, -0.0, 0.0, 1e-40, 0.25, 3.0, np.inf], np.float32)
    scores = rng.choice(values, (n_queries, width))
    rows = highest - 1 - np.stack([rng.permutation(60)[:width] for _ in range(n_queries)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SORTED_WHOLE", sorted_whole)
        found = top_positions(scores, rows, count)
    for mine, own, numbers in zip(found, scores.tolist(), rows.tolist(), strict=True):
        by_hand = sorted(range(width), key=lambda i: (-own[i], numbers[i]))[:count]
        assert mine.tolist() == by_hand
    np.testing.assert_array_equal(along(scores, found), np.take_along_axis(scores, found, axis=1))
