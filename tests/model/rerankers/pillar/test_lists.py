import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.core.errors import CodeShapeError
from model.core.vectors import l2_normalised
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.lists import (
    Lists,
    Surroundings,
    pillar_lists,
    shared_counts,
    sparse_graph,
)
from model.rerankers.pillar.neighbours import MISSING, PillarSide, nearest

CONFIG = PillarConfig(
    width=4, heads=1, pillars=6, neighbours=3, list_image_to_text=5, list_text_to_image=4
)
SHORTLIST = 4
seeds = st.integers(0, 2**32 - 1)


def units(rng: np.random.Generator, count: int) -> np.ndarray:
    return l2_normalised(rng.standard_normal((count, 5)).astype(np.float32))


def ranked(query: np.ndarray, items: dict[str, np.ndarray], first: str = "") -> list[str]:
    """Names of the items by cosine, `first` leading; written for reading, not for speed."""
    return sorted(items, key=lambda name: (name != first, -float(items[name] @ query)))


def oracle(query: np.ndarray, candidates: np.ndarray, background: np.ndarray) -> Lists:
    """Tokens and graph of one outside query, by sets and loops over names."""
    gallery = {f"c{i}": row for i, row in enumerate(candidates)}
    pool = {f"b{i}": row for i, row in enumerate(background)} | {"q": query}
    everything = gallery | pool
    inter = ["q", *ranked(query, gallery)[: CONFIG.pillars - 1]]
    intra = ranked(query, pool, first="q")[: CONFIG.pillars]
    samples = ["q", *ranked(query, gallery)[:SHORTLIST]]
    tokens = [[everything[s] @ everything[p] for p in inter + intra] for s in samples]

    def friends(sample: str) -> set[str]:
        vector = everything[sample]
        both = [ranked(vector, kind, first=sample)[: CONFIG.neighbours] for kind in (gallery, pool)]
        return {*both[0], *both[1]}

    graph = []
    for sample in samples:
        row = [float(len(friends(sample) & friends(other))) for other in samples]
        row = [weight / sum(row) for weight in row]
        row = [w if w > CONFIG.threshold / len(samples) else 0.0 for w in row]
        graph.append([weight / sum(row) for weight in row])
    return Lists(torch.tensor(np.array([tokens])), torch.tensor([graph]))


def from_outside(queries: np.ndarray, side: PillarSide) -> Lists:
    inter = nearest(queries, side.candidates, CONFIG.pillars - 1).rows
    intra = nearest(queries, side.background, CONFIG.pillars - 1).rows
    return pillar_lists(queries, Surroundings(inter[:, :SHORTLIST], inter, intra), side, CONFIG)


@settings(max_examples=30)
@given(seed=seeds)
def test_lists_of_an_outside_query_are_the_oracles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, candidates, background = units(rng, 3), units(rng, 9), units(rng, 12)
    found = from_outside(queries, PillarSide.of(candidates, background, CONFIG.neighbours))
    for place, query in enumerate(queries):
        expected = oracle(query, candidates, background)
        np.testing.assert_allclose(found.tokens[place], expected.tokens[0], atol=1e-6)
        np.testing.assert_allclose(found.adjacency[place], expected.adjacency[0], atol=1e-6)


@settings(max_examples=30)
@given(seed=seeds, row=st.integers(0, 9))
def test_a_query_of_the_background_sees_what_it_would_see_from_outside(seed: int, row: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, background = units(rng, 8), units(rng, 10)
    inside = PillarSide.of(candidates, background, CONFIG.neighbours)
    outside = PillarSide.of(candidates, np.delete(background, row, 0), CONFIG.neighbours)
    query = background[row : row + 1]
    inter = nearest(query, candidates, CONFIG.pillars - 1).rows
    intra = nearest(query, background, CONFIG.pillars, np.array([row])).rows[:, 1:]
    around = Surroundings(inter[:, :SHORTLIST], inter, intra, np.array([row]))
    found, expected = pillar_lists(query, around, inside, CONFIG), from_outside(query, outside)
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-6)
    np.testing.assert_allclose(found.adjacency, expected.adjacency, atol=1e-6)


def test_a_pool_with_too_few_pillars_leaves_their_similarities_at_zero() -> None:
    rng = np.random.default_rng(0)
    query, candidates, background = units(rng, 1), units(rng, 4), units(rng, 2)
    side = PillarSide.of(candidates, background, CONFIG.neighbours)
    assert (side.other[:, 2] == MISSING).all()
    lists = from_outside(query, side)
    tokens = lists.tokens[0].numpy()
    assert np.count_nonzero(tokens, axis=1).tolist() == [5 + 3] * 5
    assert not tokens[:, 5].any()
    assert not tokens[:, 9:].any()
    np.testing.assert_allclose(lists.adjacency.sum(dim=2), 1.0, atol=1e-6)


def test_shared_neighbours_by_hand() -> None:
    ids = torch.tensor([[[0, 5, 9], [9, 5, 7], [-1, 3, -1], [3, -1, 0]]])
    expected = [[3, 2, 0, 1], [2, 3, 0, 0], [0, 0, 1, 1], [1, 0, 1, 2]]
    assert shared_counts(ids)[0].tolist() == expected


def test_the_graph_by_hand() -> None:
    # Rows of 20 + 4 + 1 = 25 and of 24: a share must exceed 0.6 / 3 = 0.2 or 0.45 / 3 = 0.15.
    counts = torch.tensor([[[0.0, 4.0, 1.0], [4.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    loose, strict = (sparse_graph(counts, 20, threshold)[0] for threshold in (0.45, 0.6))
    expected = [[20 / 24, 4 / 24, 0.0], [4 / 24, 20 / 24, 0.0], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(loose, expected, atol=1e-6)
    np.testing.assert_allclose(strict, np.eye(3), atol=1e-6)


@given(seed=seeds, count=st.integers(1, 12), block=st.integers(1, 10))
def test_nearest_rows_are_in_the_one_order_with_oneself_first(
    seed: int, count: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(-1, 2, (9, 3)).astype(np.float32)  # many ties
    found = nearest(items, items, count, np.arange(9), block_items=block)
    for row, item in enumerate(items):
        scores = items @ item
        expected = sorted(range(9), key=lambda other: (other != row, -scores[other], other))
        expected = [*expected, *[MISSING] * count][:count]
        assert found.rows[row].tolist() == expected
        np.testing.assert_array_equal(
            found.cosines[row], [scores[n] if n != MISSING else 0 for n in expected]
        )


def test_neighbours_in_a_large_gallery_take_no_more_memory_than_in_a_small_one() -> None:
    rng, peaks = np.random.default_rng(0), []
    for count in (20_000, 80_000):
        items = rng.standard_normal((count, 4)).astype(np.float16)
        tracemalloc.start()
        try:
            nearest(items[:256], items, 10)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_parts_of_a_side_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    items = units(rng, 6)
    side = PillarSide.of(items, items, 3)
    with pytest.raises(CodeShapeError, match=r"one width, got \[3, 5\]"):
        PillarSide(items, items[:, :3], side.own, side.other, side.reach)
    with pytest.raises(CodeShapeError, match=r"a row per candidate, 6, .* got \(5, 3\)"):
        PillarSide(items, items, side.own[:5], side.other, side.reach)
