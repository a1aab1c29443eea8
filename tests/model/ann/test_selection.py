import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.ann.selection import top_positions
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
