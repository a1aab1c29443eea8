import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.core.errors import CodeShapeError
from model.core.types import FloatArray, HalfArray
from model.core.vectors import l2_normalised
from model.reverse_lists.compute import (
    BLOCK_ROWS,
    PADDING,
    BankScorer,
    reverse_lists,
    reverse_ranks,
    valid_counts,
)


def exact_vectors(seed: int, count: int) -> HalfArray:
    """Multiples of an eighth: their products and sums carry no rounding anywhere."""
    return (np.random.default_rng(seed).integers(-4, 5, (count, 8)) / 8).astype(np.float16)


def unit_vectors(seed: int, count: int, dim: int = 96) -> HalfArray:
    rng = np.random.default_rng(seed)
    return l2_normalised(rng.standard_normal((count, dim)).astype(np.float32)).astype(np.float16)


def test_a_list_by_hand() -> None:
    bank = np.array([[1, 0], [0, 1], [0.5, 0.5], [-1, 0]], dtype=np.float16)
    candidates = np.array([[1, 0], [0, 2]], dtype=np.float16)
    assert reverse_lists(candidates, bank, 3).tolist() == [[1, 0.5, 0], [2, 1, 0]]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 2 * BLOCK_ROWS + 3),
    n_bank=st.integers(0, 40),
    z=st.integers(1, 20),
)
def test_lists_are_the_sorted_products_cut_and_padded(
    seed: int, count: int, n_bank: int, z: int
) -> None:
    candidates, bank = exact_vectors(seed, count), exact_vectors(seed + 1, n_bank)
    products = candidates.astype(np.float64) @ bank.T.astype(np.float64)
    expected = np.full((count, z), PADDING)
    top = -np.sort(-products, axis=1)[:, :z]
    expected[:, : top.shape[1]] = top
    lists = reverse_lists(candidates, bank, z)
    assert lists.dtype == np.float16
    np.testing.assert_array_equal(lists, expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300))
def test_some_rows_alone_give_the_bits_they_have_in_the_whole_table(seed: int, count: int) -> None:
    candidates, bank = unit_vectors(0, 700), unit_vectors(1, 1500)
    table = reverse_lists(candidates, bank, 64)
    rows = np.random.default_rng(seed).permutation(700)[:count]
    alone = BankScorer(bank, 64).lists(candidates[rows])
    np.testing.assert_array_equal(alone.view(np.uint16), table[rows].view(np.uint16))


def test_progress_is_told_every_row_once() -> None:
    told: list[int] = []
    reverse_lists(
        exact_vectors(0, 2 * BLOCK_ROWS + 5), exact_vectors(1, 9), 3, progress=told.append
    )
    assert told == [BLOCK_ROWS, BLOCK_ROWS, 5]


def test_a_bank_of_another_width_is_refused() -> None:
    with pytest.raises(CodeShapeError, match=r"D=8 .*\(3, 5\)"):
        reverse_lists(np.zeros((3, 5), np.float16), exact_vectors(0, 4), 2)


def test_ranks_by_hand_count_only_values_above_the_cosine() -> None:
    lists = np.array([[0.75, 0.5, 0.25], [0.75, 0.5, PADDING]], dtype=np.float16)
    for cosine, expected in [(1.0, [0, 0]), (0.75, [0, 0]), (0.5, [1, 1]), (0.1, [3, 2])]:
        cosines = np.full(2, cosine, dtype=np.float32)
        assert reverse_ranks(lists, cosines).tolist() == expected


@given(seed=st.integers(0, 2**32 - 1))
def test_a_query_that_is_in_the_bank_never_ranks_behind_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores: FloatArray = rng.uniform(-1, 1, (20, 30)).astype(np.float32)
    lists = -np.sort(-scores.astype(np.float16), axis=1)
    columns = rng.integers(30, size=20)
    cosines = scores[np.arange(20), columns]
    rounded = scores.astype(np.float16)
    own = rounded[np.arange(20), columns]
    expected = [(row > value).sum() for row, value in zip(rounded, own, strict=True)]
    assert reverse_ranks(lists, cosines).tolist() == expected


def test_valid_counts_leave_padding_out() -> None:
    lists = np.array([[1, -1, -1], [0.5, PADDING, PADDING], [PADDING] * 3], dtype=np.float16)
    assert valid_counts(lists).tolist() == [3, 1, 0]
    assert valid_counts(lists[:1]).tolist() == [3]
