"""The exact search against a cascade whose stages keep everything."""

from dataclasses import replace

import numpy as np
import pytest

from model import exact
from model.cascade import Cascade, SearchOptions
from model.core.types import CandidateBudget, Direction, FloatArray, Modality, RerankMode, RowArray
from model.exact import ExactSearch
from model.reverse_lists.compute import BLOCK_ROWS
from model.reverse_lists.layers import ComputedLists, LayeredLists, MemoryLayer
from tests.model import test_cascade, test_cascade_learned, test_cascade_pillar

EVERYTHING = CandidateBudget(at_least=10**6)
K = 10
WORLD = test_cascade.make_world()
LEARNED = test_cascade_learned.cascade(own_bank=False)
PILLAR = test_cascade_pillar.cascade_over(test_cascade_pillar.SPLIT, None)
CASES = [
    *((WORLD.cascade, mode) for mode in ("relationship", "reference", "none")),
    (LEARNED, "learned"),
    (PILLAR, "pillar"),
    (PILLAR, "relationship"),  # without lists: by cosine alone
]


def queries(over: Cascade, direction: Direction, count: int = 6) -> FloatArray:
    rows = np.asarray(over.sides[direction.query].embeddings[:count], np.float32)
    noise = np.random.default_rng(4).standard_normal(rows.shape).astype(np.float32)
    mixed = rows + 0.1 * noise
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))


def found(
    over: Cascade, direction: Direction, query: FloatArray, options: SearchOptions
) -> tuple[RowArray, int]:
    """The exact rows, and in how many steps they were found."""
    search, steps = ExactSearch(direction, query, options), 1
    while not search.advance(over):
        steps += 1
    return search.rows, steps


@pytest.mark.parametrize("chunk", [7, exact.CHUNK_ROWS])
@pytest.mark.parametrize(("over", "mode"), CASES, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("direction", list(Direction))
def test_it_is_the_cascade_with_stages_that_keep_everything(
    monkeypatch: pytest.MonkeyPatch, over: Cascade, mode: str, direction: Direction, chunk: int
) -> None:
    monkeypatch.setattr(exact, "CHUNK_ROWS", chunk)
    options = SearchOptions(k=K, rerank=RerankMode(mode), budget=EVERYTHING)
    asked = queries(over, direction)
    whole = over.search(direction, asked, options)
    narrow = replace(options, budget=CandidateBudget(at_least=1, keep_hash=0.1, keep_pq=0.1))
    for query, expected in zip(asked, whole, strict=True):
        rows, steps = found(over, direction, query, narrow)
        assert rows.tolist() == expected.rows.tolist()
        items = len(over.sides[direction.candidate])
        assert steps in (np.ceil(items / chunk), np.ceil(items / chunk) + 1)


def lazy(over: Cascade, room: int = 1 << 20) -> Cascade:
    """The world's cascade with lists that are computed."""
    sides = {}
    for modality, side in over.sides.items():
        bank = WORLD.embeddings[modality.other]
        computed = ComputedLists(WORLD.embeddings[modality], bank, test_cascade.Z)
        memory = MemoryLayer(len(side), test_cascade.Z, room)
        lists = LayeredLists([memory], computed, test_cascade.Z)
        sides[modality] = replace(side, lists=lists)
    return Cascade(over.heads, sides, over.second)


def test_lists_that_are_computed_are_neither_counted_nor_kept() -> None:
    over, direction = lazy(WORLD.cascade), Direction.TEXT_TO_IMAGE
    options = SearchOptions(k=K, rerank=RerankMode.RELATIONSHIP)
    query = queries(over, direction)[0]
    rows, steps = found(over, direction, query, options)
    assert rows.tolist() == found(WORLD.cascade, direction, query, options)[0].tolist()
    assert steps == np.ceil(test_cascade.COUNTS[Modality.IMAGE] / BLOCK_ROWS)
    source = over.sides[Modality.IMAGE].lists
    assert isinstance(source, LayeredLists)
    assert not source.lookups
    source.lists(rows)
    assert source.lookups == {"memory": 0, "computed": K}


def test_of_too_many_lists_to_compute_those_of_the_nearest_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "MOST_COMPUTED", 30)
    over, direction = lazy(WORLD.cascade), Direction.IMAGE_TO_TEXT
    for query in queries(over, direction):
        options = SearchOptions(k=K, rerank=RerankMode.RELATIONSHIP)
        nearest = np.argsort(-(WORLD.embeddings[Modality.TEXT].astype(np.float32) @ query))[:30]
        everything = replace(options, k=330, budget=EVERYTHING)
        [ranking] = over.search(direction, query[None], everything)
        expected = [row for row in ranking.rows.tolist() if row in set(nearest.tolist())][:K]
        assert found(over, direction, query, options)[0].tolist() == expected


@pytest.mark.parametrize("direction", list(Direction))
def test_what_stage_one_keeps_is_what_a_search_ranks(direction: Direction) -> None:
    budget = CandidateBudget(at_least=5, keep_hash=0.3, keep_pq=0.1)
    options = SearchOptions(k=K, rerank=RerankMode.NONE, budget=budget)
    over = WORLD.cascade
    first, second = budget.counts(len(over.sides[direction.candidate]))
    for query in queries(over, direction):
        kept = over.kept(direction, query, options)
        assert (len(kept.by_hash), len(kept.by_pq)) == (first, second)
        assert set(kept.by_pq) <= set(kept.by_hash)
        wide = replace(options, k=second)
        [ranking] = over.search(direction, query[None], wide)
        assert set(ranking.rows.tolist()) == set(kept.by_pq.tolist())
