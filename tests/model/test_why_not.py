"""Standings of items against a search that ranks everything by sorting lists."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.cascade import Cascade, SearchOptions
from model.core.filters import Filter
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
    scores = ("pq_score", "score", "calibrated")
    shown = {name: value for name, value in vars(standing).items() if value is not None}
    return {name: value for name, value in shown.items() if name not in scores}


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


CHOICES: dict[str, dict[str, Any]] = {
    "page": {"offset": 7},
    "exact": {"exact": True},
    "filter": {"filter": Filter.of({"even": True})},
    "filtered page": {"filter": Filter.of({"even": True}), "offset": 4, "exact": True},
    "least score": {"min_score": 0.9, "calibrate": True},
    "collapsed": {"collapse": 4},
    "collapsed page": {"collapse": 4, "offset": 3, "min_score": 0.5, "calibrate": True},
}


@dataclass(frozen=True)
class Even:
    """Knows which items have an even row, whatever it is asked."""

    count: int

    def mask(self, _: Filter) -> NDArray[np.bool_]:
        return np.equal(np.arange(self.count) % 2, 0)


@pytest.fixture(scope="module")
def choosy(world: World) -> Cascade:
    """The same world with a matcher and a bank, each modality the other's."""
    sides = {
        modality: replace(side, matcher=Even(len(side)))
        for modality, side in world.cascade.sides.items()
    }
    return Cascade(world.heads, sides, SECOND, world.embeddings)


@pytest.mark.parametrize("chosen", CHOICES)
@pytest.mark.parametrize("way", WAYS[::3], ids=str)
def test_what_was_chosen_decides_the_fates(choosy: Cascade, way: Way, chosen: str) -> None:
    [query] = make_queries(1, seed=9)
    options = SearchOptions(K, budget=BUDGET, explain=True, **CHOICES[chosen])
    rows = list(range(COUNTS[way.candidate]))
    found = standings(choosy, way, query, options, rows)
    [page] = choosy.search(way, query[None], options)
    fates = {row: one.fate for row, one in zip(rows, found, strict=True)}
    assert {row for row in rows if fates[row] is Fate.FOUND} == set(page.rows.tolist())
    [before] = choosy.search(way, query[None], replace(options, k=max(1, options.offset), offset=0))
    earlier = before.rows.tolist() if options.offset else []
    assert {row for row in rows if fates[row] is Fate.EARLIER} == set(earlier)
    hidden = {row for row in rows if row % 2} if options.filter else set()
    assert {row for row in rows if fates[row] is Fate.FILTER} == hidden
    for row in rows:
        stands_for = found[row].represented_by
        assert (stands_for is not None) == (fates[row] is Fate.COLLAPSED)
        assert stands_for is None or fates[stands_for] in (Fate.FOUND, Fate.EARLIER)
        if fates[row] is Fate.MIN_SCORE:
            assert (found[row].calibrated or 0) < CHOICES[chosen]["min_score"]
    duplicates = page.duplicates or []
    for hit, others in zip(page.rows.tolist(), duplicates, strict=False):
        assert all(found[row].represented_by == hit for row in others.tolist())
    if options.exact:
        assert not {Fate.HASH, Fate.PQ} & set(fates.values())
    ranks = [one.rank_after_hash for one in found if one.fate is not Fate.FILTER]
    assert sorted(rank for rank in ranks if rank is not None) == list(range(len(ranks)))
