"""Row-wise sums of many queries are the bits of one query's, whatever the shapes."""

import numpy as np
import pytest

from model.ann.faiss_door import HammingIndex
from model.core.types import Modality
from model.core.vectors import cosines, l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig, ModalityHead
from model.heads.product_quantiser import adc_scores, lookup_tables
from model.rerankers.pairs import PairBank
from model.rerankers.relationship import DirectionWeights, hubness, rank_term, relationship
from model.reverse_lists.compute import PADDING, reverse_ranks, valid_counts

DIMS = [1, 2, 7, 8, 31, 64, 100, 256, 513, 1024]
COUNTS = [1, 2, 3, 8, 33]


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("n_queries", COUNTS)
def test_hash_spaces_and_cosines(dim: int, n_queries: int) -> None:
    rng = np.random.default_rng(dim)
    queries = rng.standard_normal((n_queries, dim)).astype(np.float32)
    for n_bits in (8, 24, 64, 72):
        weight = rng.standard_normal((n_bits, dim)).astype(np.float32)
        bias = rng.standard_normal(n_bits).astype(np.float32)
        head = ModalityHead(weight, bias, np.zeros((1, 1, n_bits), np.float32))
        alone = np.stack([head.query_hash_space(query) for query in queries])
        np.testing.assert_array_equal(head.query_hash_space(queries), alone)
    for n_candidates in (1, 2, 5, 64):
        vectors = rng.standard_normal((n_queries, n_candidates, dim)).astype(np.float32)
        found = cosines(vectors, queries)
        shared = cosines(vectors[0], queries)  # as a bank's are
        for place, query in enumerate(queries):
            np.testing.assert_array_equal(found[place], cosines(vectors[place], query))
            np.testing.assert_array_equal(shared[place], cosines(vectors[0], query))
            one_by_one = [cosines(vector[None], query)[0] for vector in vectors[place]]
            np.testing.assert_array_equal(found[place], one_by_one)
    np.testing.assert_allclose(shared, queries @ vectors[0].T, atol=1e-5 * dim)


@pytest.mark.parametrize("n_queries", COUNTS)
@pytest.mark.parametrize("n_subspaces", [1, 2, 8, 32])
def test_scores_of_codes(n_queries: int, n_subspaces: int) -> None:
    rng = np.random.default_rng(n_subspaces)
    for sub_width, n_centroids, n_candidates in ((1, 1, 1), (2, 16, 5), (8, 256, 400)):
        books = rng.standard_normal((n_subspaces, n_centroids, sub_width)).astype(np.float32)
        spaces = rng.standard_normal((n_queries, n_subspaces * sub_width)).astype(np.float32)
        codes = rng.integers(0, n_centroids, (n_queries, n_candidates, n_subspaces), np.uint8)
        nothing = np.zeros((1, 1), np.float32)
        laid_out = ModalityHead(nothing, nothing[0], books).scoring_books
        np.testing.assert_array_equal(laid_out, books)
        tables = lookup_tables(laid_out, spaces)
        np.testing.assert_allclose(tables, lookup_tables(books, spaces), atol=1e-5)
        found = adc_scores(tables, codes)
        for place, space in enumerate(spaces):
            [table] = lookup_tables(laid_out, space[None])
            np.testing.assert_array_equal(tables[place], table)
            in_order = np.zeros(n_candidates, np.float32)
            for m in range(n_subspaces):
                in_order += table[m, codes[place, :, m]]
            np.testing.assert_array_equal(found[place], in_order)


@pytest.mark.parametrize("lowest", [-9, 0])
@pytest.mark.parametrize("z", [1, 9, 128, 255, 256, 700])
def test_ranks_and_hubness_of_lists(z: int, lowest: float) -> None:
    """Lists longer than a byte counts too, with values below zero and without."""
    rng = np.random.default_rng(z)
    values = np.maximum(rng.standard_normal((70, z)), lowest)
    lists = -np.sort(-values, axis=1).astype(np.float16)
    lists[5] = 0.0 * lowest  # both zeros, which are equal
    lists[-4, z // 2 :] = [-0.0, 0.0, *[0.0] * z][: z - z // 2]
    near = np.concatenate([rng.standard_normal(66), [-9, 9, 0, -0.0]]).astype(np.float32)
    ranks, hubs = reverse_ranks(lists, near), hubness(lists, 0.1)
    padded = lists.copy()
    padded[::3, z // 2 :] = PADDING
    for some in (lists, padded):
        related = relationship(near, some, DirectionWeights(complementarity=1.0, hubness=0.0))
        by_rank = rank_term(reverse_ranks(some, near), valid_counts(some))
        np.testing.assert_array_equal(related.complementarity, by_rank)
    for row, cosine in enumerate(near):
        assert ranks[row] == sum(value > np.float16(cosine) for value in lists[row])
        np.testing.assert_array_equal(hubness(lists[row : row + 1], 0.1), hubs[row : row + 1])


@pytest.mark.parametrize("entries", [1, 3, 15, 300])
def test_expansions(entries: int) -> None:
    rng = np.random.default_rng(entries)
    images, texts = (
        l2_normalised(rng.standard_normal((count, 16)).astype(np.float32))
        for count in (entries, 2 * entries)
    )
    config = HeadsConfig(embedding_dim=16, n_bits=16, n_subspaces=2, n_centroids=8)
    heads = fit_heads(config, {Modality.IMAGE: images, Modality.TEXT: texts}, 0)
    owners = rng.integers(-1, entries, 2 * entries)
    bank = PairBank({Modality.IMAGE: images, Modality.TEXT: texts}, owners, heads)
    queries = l2_normalised(rng.standard_normal((11, 16)).astype(np.float32))
    for modality in Modality:
        spaces = heads.heads[modality].query_hash_space(queries)
        every = bank.expansions(modality, queries, spaces)
        for place, query in enumerate(queries):
            for mine, alone in zip(every, bank.expand(modality, query, spaces[place]), strict=True):
                np.testing.assert_array_equal(mine[place], alone)


def test_one_query_is_scanned_as_many_are() -> None:
    rng = np.random.default_rng(0)
    index = HammingIndex.from_codes(rng.integers(0, 3, (500, 8), np.uint8))
    codes = rng.integers(0, 3, (40, 8), np.uint8)
    distances, rows = index.search(codes, 90)
    for place in range(len(codes)):
        alone = index.search(codes[place : place + 1], 90)
        np.testing.assert_array_equal(alone[0][0], distances[place])
        np.testing.assert_array_equal(alone[1][0], rows[place])
