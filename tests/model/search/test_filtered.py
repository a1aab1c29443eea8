"""A filtered search is the cascade over an index of the matching items alone."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.ann import oracle
from model.ann.faiss_door import HammingIndex
from model.cascade import CandidateSide, Cascade, Ranking, SearchOptions
from model.core.errors import FilterRejectedError
from model.core.filters import Filter
from model.core.types import CandidateBudget, Direction, HalfArray, Modality, RerankMode, RowArray
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.serving import PillarMode
from model.rerankers.second_stage import SecondStage
from model.search.selection import SELECTIVE, Selection, Selections
from model.training.evaluation import TableLists
from tests.model import test_cascade as plain
from tests.model import test_cascade_learned as learned
from tests.model import test_cascade_pillar as pillar
from tests.model.search.masks import Masks, with_masks

BUDGET = CandidateBudget(keep_hash=0.3, keep_pq=0.1, at_least=5)
SHARES = [0.0, 0.02, 0.1, SELECTIVE - 0.05, SELECTIVE + 0.05, 0.8, 1.0]


class World(NamedTuple):
    cascade: Cascade
    modes: tuple[RerankMode, ...]
    banks: dict[Modality, HalfArray]


@cache
def worlds() -> dict[str, World]:
    few = (RerankMode.NONE, RerankMode.RELATIONSHIP, RerankMode.REFERENCE)
    made = plain.make_world()
    halves = {m: e.astype(np.float16) for m, e in learned.BANK.embeddings.items()}
    return {
        "lists": World(made.cascade, few, dict(made.embeddings)),
        "pairs": World(
            learned.cascade(own_bank=False), (RerankMode.RELATIONSHIP, RerankMode.LEARNED), halves
        ),
        "pillars": World(
            pillar.cascade_over(pillar.SPLIT, pillar.BANKS["one that was given"]),
            (RerankMode.PILLAR,),
            halves,
        ),
    }


def alone(world: World, modality: Modality, rows: RowArray) -> Cascade:
    """An index of some items alone, with the same heads and banks."""
    whole = world.cascade.sides[modality]
    embeddings = np.asarray(whole.embeddings[rows])
    codes = world.cascade.heads.encode(modality, embeddings)
    lists = None
    if whole.lists is not None:
        lists = TableLists(whole.lists.lists(np.arange(len(whole)))[rows])
    index = HammingIndex.from_codes(codes.hash_codes)
    side = CandidateSide(index, codes.pq_codes, embeddings, lists)
    second = _second_alone(world.cascade.second, modality, rows)
    return Cascade(world.cascade.heads, {modality: side}, second, world.banks)


def _second_alone(second: SecondStage, modality: Modality, rows: RowArray) -> SecondStage:
    parts = second.learned
    if parts is not None:
        parts = replace(parts, contexts={modality: parts.contexts[modality][rows]})
    return SecondStage(
        second.stage_two,
        second.pairs,
        own_bank=second.own_bank,
        learned=parts,
        pillar=None if second.pillar is None else _pillar_alone(second.pillar, modality, rows),
    )


def _pillar_alone(mode: PillarMode, modality: Modality, rows: RowArray) -> PillarMode:
    """Tables of some items; who their neighbours are was found in the whole gallery.

    Neighbours that are not among these items keep numbers of their own.
    """
    [direction] = [d for d in Direction if d.candidate is modality]
    whole = mode.sides[direction]
    numbers = len(rows) + np.arange(len(whole.candidates))
    numbers[rows] = np.arange(len(rows))
    side = PillarSide(
        whole.candidates[rows],
        whole.background,
        numbers[whole.own[rows]],
        whole.other[rows],
        whole.reach[rows],
    )
    return replace(mode, sides={direction: side})


def assert_same(found: Ranking, expected: Ranking, rows: RowArray) -> None:
    """Equal in everything but the numbers of the rows."""
    np.testing.assert_array_equal(found.rows, rows[expected.rows])
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.rerank is expected.rerank
    assert (found.calibrated is None) is (expected.calibrated is None)
    if found.calibrated is not None and expected.calibrated is not None:
        np.testing.assert_array_equal(found.calibrated, expected.calibrated)
    assert (found.duplicates is None) is (expected.duplicates is None)
    for one, other in zip(found.duplicates or (), expected.duplicates or (), strict=True):
        np.testing.assert_array_equal(one, rows[other])
    assert found.explanation is not None
    assert expected.explanation is not None
    for name, values in vars(expected.explanation).items():
        np.testing.assert_array_equal(getattr(found.explanation, name), values)


@pytest.mark.parametrize("kind", ["lists", "pairs", "pillars"])
@pytest.mark.parametrize("direction", list(Direction))
@settings(max_examples=25)
@given(data=st.data())
def test_a_filtered_search_is_the_cascade_over_the_matching_items_alone(
    kind: str, direction: Direction, data: st.DataObject
) -> None:
    world, modality = worlds()[kind], direction.candidate
    n_items = len(world.cascade.sides[modality])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    mask = rng.random(n_items) < data.draw(st.sampled_from(SHARES), label="share")
    mask[rng.integers(n_items)] = True
    masks = Masks()
    options = SearchOptions(
        k=data.draw(st.sampled_from([1, 3, 10, 60, 1000]), label="k"),
        offset=data.draw(st.sampled_from([0, 0, 1, 7, 50]), label="offset"),
        rerank=data.draw(st.sampled_from(world.modes), label="mode"),
        budget=BUDGET,
        explain=True,
        exact=data.draw(st.booleans(), label="exact"),
        calibrate=data.draw(st.booleans(), label="calibrate"),
        min_score=data.draw(st.sampled_from([None, None, 0.3, 0.9]), label="min_score"),
        collapse=data.draw(st.sampled_from([None, None, 0, 3]), label="collapse"),
        reach=data.draw(st.sampled_from([20, 8192]), label="reach"),
    )
    queries = plain.make_queries(3, seed=int(rng.integers(1000)))
    cascade = with_masks(world.cascade, modality, masks)
    cascade = Cascade(cascade.heads, cascade.sides, cascade.second, world.banks)
    asked = replace(options, filter=masks.name(mask))
    rows = np.flatnonzero(mask)
    expected = alone(world, modality, rows).search(direction, queries, options)
    for one, other in zip(cascade.search(direction, queries, asked), expected, strict=True):
        assert_same(one, other, rows)


def test_queries_of_one_call_have_filters_of_their_own() -> None:
    world, masks = worlds()["lists"], Masks()
    direction = Direction.TEXT_TO_IMAGE
    cascade = with_masks(world.cascade, Modality.IMAGE, masks)
    parity = [masks.name(np.arange(200) % 2 == odd) for odd in (0, 1)]
    wishes = [
        SearchOptions(k=5, budget=BUDGET, filter=asked, exact=exact, offset=offset)
        for asked in (None, *parity, Filter.of({}))
        for exact in (False, True)
        for offset in (0, 3)
    ]
    queries = plain.make_queries(len(wishes))
    together = cascade.search(direction, queries, wishes)
    for query, options, ranking in zip(queries, wishes, together, strict=True):
        [by_itself] = cascade.search(direction, query[None], options)
        np.testing.assert_array_equal(by_itself.rows, ranking.rows)
        np.testing.assert_array_equal(by_itself.scores, ranking.scores)
        if options.wanted is not None:
            assert set(ranking.rows % 2) == {parity.index(options.wanted)}
    assert len(masks.asked) == 2  # each is looked up once


def test_a_filter_that_nothing_fulfils_gives_no_hits() -> None:
    for world in worlds().values():
        for direction in Direction:
            masks = Masks()
            cascade = with_masks(world.cascade, direction.candidate, masks)
            nothing = masks.name(np.zeros(len(cascade.sides[direction.candidate]), np.bool_))
            for mode in world.modes:
                for exact in (False, True):
                    options = SearchOptions(
                        rerank=mode, filter=nothing, explain=True, exact=exact, collapse=2
                    )
                    [found] = cascade.search(direction, plain.make_queries(1), options)
                    assert found.rows.tolist() == []


def test_a_cascade_without_metadata_refuses_filters() -> None:
    options = SearchOptions(filter=Filter.of({"a": 1}))
    with pytest.raises(FilterRejectedError, match="metadata of image items"):
        worlds()["lists"].cascade.search(Direction.TEXT_TO_IMAGE, plain.make_queries(1), options)


@given(
    count=st.integers(1, 200),
    share=st.sampled_from(SHARES),
    k=st.integers(1, 80),
    seed=st.integers(0, 99),
)
def test_both_forms_of_a_selection_find_what_the_full_matrix_finds(
    count: int, share: float, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (count, 2), dtype=np.uint8)  # many ties
    queries = rng.integers(0, 4, (3, 2), dtype=np.uint8)
    mask: NDArray[np.bool_] = rng.random(count) < share
    rows = np.flatnonzero(mask)
    index = HammingIndex.from_codes(codes)
    found = Selection.of(mask, index)
    assert (found.rows is None) is bool(mask.sum() > SELECTIVE * count)
    np.testing.assert_array_equal(found.all_rows(), rows)
    expected, places = oracle.hamming_search(queries, codes[rows], k)
    distances, hits = found.search(queries, k)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(hits, rows[places])
    assert len(found) == len(rows)


def test_selections_used_longest_ago_make_room() -> None:
    index = HammingIndex.from_codes(np.zeros((1000, 8), np.uint8))
    masks, mask = Masks(), np.arange(1000) < 100
    kept = Selections(max_bytes=3 * 100 * 12)
    names = [masks.name(mask) for _ in range(4)]
    for name in (*names[:3], names[0], names[3]):
        kept.of(Modality.IMAGE, name, index, masks)
    assert [kept.knows(Modality.IMAGE, name) for name in names] == [True, False, True, True]
    assert not kept.knows(Modality.TEXT, names[0])
    assert len(masks.asked) == 4
    large = masks.name(np.arange(1000) < 390)
    assert len(kept.of(Modality.IMAGE, large, index, masks)) == 390
    assert not kept.knows(Modality.IMAGE, large)  # larger than all the room
