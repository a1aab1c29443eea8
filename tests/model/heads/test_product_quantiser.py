from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ann.faiss_door import HammingIndex
from model.ann.selection import top_positions
from model.core.errors import CodeShapeError
from model.core.types import Direction, FloatArray
from model.core.vectors import pack_signs
from model.heads import product_quantiser as pq

GOLDEN = Path(__file__).parents[2] / "golden" / "stage_one.npz"


def codebooks(seed: int, m: int = 3, n_centroids: int = 5, s: int = 2) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((m, n_centroids, s)).astype(np.float32)


def test_codes_and_scores_of_two_subspaces_by_hand() -> None:
    books = np.array([[[0.0], [1.0]], [[-1.0], [2.0]]], dtype=np.float32)  # M=2, L=2, S=1
    codes = pq.assign(books, np.array([[0.9, -3.0], [0.5, 0.6]], dtype=np.float32))
    assert codes.tolist() == [[1, 0], [0, 1]]  # 0.5 is as near to 0 as to 1: the lower index
    assert pq.decode(books, codes).tolist() == [[1, -1], [0, 2]]
    table = pq.lookup_tables(books, np.array([[10.0, 3.0]], dtype=np.float32))[0]
    assert table.tolist() == [[0, 10], [-3, 6]]
    assert pq.adc_scores(table, codes).tolist() == [7, 6]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 20))
def test_adc_score_equals_dot_product_with_the_decoded_vector(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    books, queries = codebooks(seed), rng.standard_normal((2, 6)).astype(np.float32)
    codes = rng.integers(0, 5, (count, 3)).astype(np.uint8)
    tables = pq.lookup_tables(books, queries)
    for query, table in zip(queries, tables, strict=True):
        expected = pq.decode(books, codes) @ query
        np.testing.assert_allclose(pq.adc_scores(table, codes), expected, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_each_code_names_the_nearest_centroid(seed: int) -> None:
    books = codebooks(seed)
    vectors = np.random.default_rng(seed + 1).standard_normal((11, 6)).astype(np.float32)
    apart = vectors.reshape(11, 3, 1, 2) - books[None]  # (N, M, L, S)
    nearest = np.square(apart).sum(axis=-1).argmin(axis=-1)
    np.testing.assert_array_equal(pq.assign(books, vectors), nearest)


def test_decoding_the_codes_of_centroids_gives_them_back() -> None:
    books = codebooks(7)
    vectors = books[np.arange(3), [[0, 4, 2], [3, 3, 1]]].reshape(2, 6)
    np.testing.assert_array_equal(pq.decode(books, pq.assign(books, vectors)), vectors)


def test_the_256th_centroid_fits_its_byte() -> None:
    books = np.arange(256, dtype=np.float32).reshape(1, 256, 1)
    assert pq.assign(books, np.array([[255.0]], dtype=np.float32)).tolist() == [[255]]


def test_vectors_of_another_width_are_refused_with_the_rule() -> None:
    with pytest.raises(CodeShapeError, match="K=6, got K=5"):
        pq.assign(codebooks(0), np.zeros((1, 5), dtype=np.float32))


@pytest.mark.parametrize("direction", list(Direction))
def test_both_searches_of_stage_one_keep_what_the_released_code_keeps(direction: Direction) -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    short = "t2i" if direction is Direction.TEXT_TO_IMAGE else "i2t"
    queries = golden[f"{direction.query}_hash_space"]
    items = golden[f"{direction.candidate}_hash_space"]
    kept_hash, kept_pq = golden[f"hamming_kept_{short}"], golden[f"pq_kept_{short}"]
    index = HammingIndex.from_codes(pack_signs(items))
    _, rows = index.search(pack_signs(queries), kept_hash.shape[1])
    np.testing.assert_array_equal(rows, kept_hash)
    tables = pq.lookup_tables(golden[f"{direction.candidate}_codebooks"], queries)
    codes = golden[f"{direction.candidate}_codes"]
    for table, candidates, expected in zip(tables, rows, kept_pq, strict=True):
        scores = pq.adc_scores(table, codes[candidates])
        best = candidates[top_positions(scores, candidates, len(expected))]
        np.testing.assert_array_equal(best, expected)
