"""Standings of items against a search that ranks everything by sorting lists."""

import math
from collections import Counter

import pytest

from model.cascade import SearchOptions
from model.core.types import WAYS, Fate, RerankMode, Way
from model.why_not import Standing, standings
from tests.model.test_cascade import (
    BUDGET,
    COUNTS,
    SECOND,
    Stages,
    World,
    make_queries,
    make_world,
    slow_search,
)

K = 10


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def modes(way: Way) -> list[RerankMode]:
    return SECOND.modes if way in (WAYS[0], WAYS[1]) else [RerankMode.NONE]


def expected(slow: Stages, row: int) -> dict[str, object]:
    """What the slow search says of a row, apart from its score."""
    whole = sorted(slow.distances, key=lambda one: (slow.distances[one], one))
    told: dict[str, object] = {
        "fate": Fate.HASH,
        "hamming_distance": slow.distances[row],
        "rank_after_hash": whole.index(row),
        "kept_by_hash": len(slow.after_hash),
        "kept_by_pq": len(slow.after_pq),
    }
    if row in slow.after_hash:
        order = sorted(slow.pq_scores, key=lambda one: (-slow.pq_scores[one], one))
        told |= {"fate": Fate.PQ, "rank_after_pq": order.index(row)}
    if row in slow.final:
        rank = slow.final.index(row)
        fate = Fate.FOUND if rank < K else Fate.RERANK
        told |= {"fate": fate, "rank_after_rerank": rank}
    return told


def said(standing: Standing) -> dict[str, object]:
    shown = {name: value for name, value in vars(standing).items() if value is not None}
    return {name: value for name, value in shown.items() if name not in ("pq_score", "score")}


@pytest.mark.parametrize(
    ("way", "mode"), [(way, mode) for way in WAYS for mode in modes(way)], ids=str
)
def test_every_item_stands_where_the_slow_search_has_it(
    world: World, way: Way, mode: RerankMode
) -> None:
    [query] = make_queries(1, seed=7)
    rows = list(range(COUNTS[way.candidate]))
    options = SearchOptions(K, mode, BUDGET)
    found = standings(world.cascade, way, query, options, rows)
    slow = slow_search(world, way, query, mode)
    assert [said(one) for one in found] == [expected(slow, row) for row in rows]
    for row, one in zip(rows, found, strict=True):
        near = slow.pq_scores.get(row)
        assert one.pq_score == (None if near is None else pytest.approx(near, abs=1e-5))
    count = Counter(one.fate for one in found)
    assert set(count) == {Fate.FOUND, Fate.RERANK, Fate.PQ, Fate.HASH}
    assert count[Fate.FOUND] == K


@pytest.mark.parametrize("mode", SECOND.modes)
def test_a_hit_stands_as_its_explanation_says(world: World, mode: RerankMode) -> None:
    [query] = make_queries(1, seed=8)
    options = SearchOptions(K, mode, BUDGET, explain=True)
    [ranking] = world.cascade.search(WAYS[0], query[None], options)
    shown = ranking.explanation
    assert shown is not None
    found = standings(world.cascade, WAYS[0], query, options, ranking.rows.tolist())
    for rank, one in enumerate(found):
        assert one.fate is Fate.FOUND
        assert math.isclose(one.score or 0, ranking.scores[rank])
        for name in ("hamming_distance", "pq_score"):
            assert getattr(one, name) == vars(shown)[name][rank]
        for name in ("rank_after_hash", "rank_after_pq", "rank_after_rerank"):
            assert getattr(one, name) == vars(shown)[name][rank]


def test_nothing_asked_is_nothing_told(world: World) -> None:
    [query] = make_queries(1)
    assert standings(world.cascade, WAYS[0], query, SearchOptions(K), []) == []
