from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from model.ann.faiss_door import HammingIndex
from model.cascade import CandidateSide, Cascade, SearchOptions
from model.core.errors import UnsupportedRerankError
from model.core.metrics import Recalls
from model.core.types import CandidateBudget, Direction, FloatArray, Modality, RerankMode, RowArray
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.ordering import AppliedRerank
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.reranker import PillarReranker
from model.rerankers.pillar.serving import PillarMode, for_serving
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import StageTwo
from model.training.embedded import Embedded
from model.training.evaluation import Bank, list_ranks
from model.training.pillar_evaluation import pool_scores, served_recalls
from model.training.pillar_pools import Pool, PreparedPool
from tests.model.training.pillar_world import halves, sibling_split

CONFIG = PillarConfig(width=16, heads=2)
RERANKER = PillarReranker.untrained(CONFIG, seed=3)
EVERYTHING = CandidateBudget(at_least=10**6)
IMAGES = 30


SPLIT = halves(sibling_split(0, images=IMAGES))
HEADS = fit_heads(
    HeadsConfig(embedding_dim=24, n_bits=16, n_subspaces=4, n_centroids=8), SPLIT.embeddings, seed=0
)
BANKS: dict[str, Bank | None] = {
    "the gallery's own": None,
    "one that was given": halves(sibling_split(7, images=40)).embeddings,
}


def cascade_over(split: Embedded, bank: Bank | None) -> Cascade:
    """A cascade without lists whose pillar mode has its tables from the embeddings."""
    stored = {m: e.astype(np.float16) for m, e in split.embeddings.items()}
    sides = {}
    for modality, embeddings in stored.items():
        codes = HEADS.encode(modality, embeddings)
        index = HammingIndex.from_codes(codes.hash_codes)
        sides[modality] = CandidateSide(index, codes.pq_codes, embeddings)
    behind = split.embeddings if bank is None else bank
    tables = {
        d: PillarSide.of(stored[d.candidate], np.asarray(behind[d.query]), CONFIG.neighbours)
        for d in Direction
    }
    own = bank is None
    pillar = PillarMode(RERANKER, tables, own_bank=own)
    return Cascade(HEADS, sides, SecondStage(StageTwo(), own_bank=own, pillar=pillar))


class Answers(NamedTuple):
    rows: RowArray  # (Q, N)
    scores: FloatArray  # (Q, N)


def answers(cascade: Cascade, split: Embedded, direction: Direction) -> Answers:
    options = SearchOptions(k=10**6, rerank=RerankMode.PILLAR, budget=EVERYTHING)
    found = cascade.search(direction, split.embeddings[direction.query], options)
    assert {one.rerank for one in found} == {AppliedRerank.PILLAR}
    return Answers(np.stack([one.rows for one in found]), np.stack([one.scores for one in found]))


@cache
def every_answer(direction: Direction, bank: str) -> Answers:
    return answers(cascade_over(SPLIT, BANKS[bank]), SPLIT, direction)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("direction", list(Direction))
def test_what_is_served_is_what_the_evaluation_scores(direction: Direction, bank: str) -> None:
    pool = PreparedPool.of(Pool(SPLIT, BANKS[bank]), CONFIG)
    measured = pool_scores(pool, RERANKER)[direction]
    listed = pool.top(direction, np.arange(pool.queries(direction))).shortlist
    found = every_answer(direction, bank)
    width, way = CONFIG.shortlist(direction), SPLIT.one_way(direction)
    for query, (rows, scores) in enumerate(zip(*found, strict=True)):
        wanted = dict(zip(listed[query].tolist(), measured[query].tolist(), strict=True))
        assert wanted.keys() == set(rows[:width].tolist())
        refined = [wanted[row] for row in rows[:width].tolist()]
        np.testing.assert_allclose(scores[:width] - 2, refined, atol=1e-5)
        behind = way.candidates[rows[width:]] @ way.queries[query]
        np.testing.assert_allclose(scores[width:], behind, atol=1e-5)
        assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("bank", BANKS)
def test_recalls_through_the_cascade_are_the_evaluations(bank: str) -> None:
    pool = PreparedPool.of(Pool(SPLIT, BANKS[bank]), CONFIG)
    lists = {direction: every_answer(direction, bank).rows for direction in Direction}
    ranks = list_ranks(SPLIT, lists)
    wanted = served_recalls(pool, pool_scores(pool, RERANKER))
    assert Recalls.of(ranks.i2t, ranks.t2i) == wanted


@pytest.mark.parametrize("direction", list(Direction))
def test_a_stranger_asks_the_gallery_s_own_bank_from_outside(direction: Direction) -> None:
    """Only an item of the gallery is taken for itself."""
    some = halves(sibling_split(5, images=2))
    own, given = cascade_over(SPLIT, None), cascade_over(SPLIT, SPLIT.embeddings)
    pairs = zip(answers(own, some, direction), answers(given, some, direction), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)


def test_a_query_s_own_entry_is_found_behind_the_rounding_of_the_bank() -> None:
    """Queries in full precision: encoded online, where the bank holds what was stored."""
    whole = sibling_split(0, images=IMAGES)
    cascade = cascade_over(SPLIT, None)
    pillar = cascade.second.pillar
    assert pillar is not None
    for direction in Direction:
        for row, query in enumerate(whole.embeddings[direction.query]):
            around = pillar.surroundings(direction, query, np.arange(40))
            assert around.query_rows is not None
            assert around.query_rows.tolist() == [row]
            assert row not in around.intra[0]


@pytest.mark.parametrize("k", [1, 7, 8, 12])
def test_fewer_hits_are_the_first_ones(k: int) -> None:
    direction, bank = Direction.TEXT_TO_IMAGE, "one that was given"
    cascade, every = cascade_over(SPLIT, BANKS[bank]), every_answer(direction, bank)
    query = SPLIT.embeddings[direction.query][:5]
    options = SearchOptions(k=k, rerank=RerankMode.PILLAR, budget=EVERYTHING, explain=True)
    for place, ranking in enumerate(cascade.search(direction, query, options)):
        assert ranking.rows.tolist() == every.rows[place, :k].tolist()
        told = ranking.explanation
        assert told is not None
        listed = min(k, CONFIG.shortlist(direction))
        np.testing.assert_array_equal(ranking.scores[:listed], 2 + told.complementarity[:listed])
        np.testing.assert_array_equal(ranking.scores[listed:], told.consistency[listed:])
        assert not told.complementarity[listed:].any()
        assert set(told.reverse_rank.tolist()) == {-1}


@pytest.mark.parametrize("items", [0, 1, 4])
def test_a_gallery_smaller_than_the_shortlist_is_ordered_whole(items: int) -> None:
    images = {Modality.IMAGE: SPLIT.embeddings[Modality.IMAGE][:items]}
    small = Embedded({**SPLIT.embeddings, **images}, SPLIT.image_of_text)
    cascade, few = cascade_over(small, SPLIT.embeddings), halves(sibling_split(5, images=1))
    found = answers(cascade, few, Direction.TEXT_TO_IMAGE)
    assert np.sort(found.rows, axis=1).tolist() == 5 * [list(range(items))]
    assert (found.scores >= 1).all()


def test_a_direction_without_a_bank_is_refused_by_name() -> None:
    whole = cascade_over(SPLIT, None)
    pillar = whole.second.pillar
    assert pillar is not None
    asked, left = Direction.TEXT_TO_IMAGE, Direction.IMAGE_TO_TEXT
    half = replace(pillar, sides={left: pillar.sides[left]})
    cascade = Cascade(whole.heads, whole.sides, SecondStage(StageTwo(), pillar=half))
    with pytest.raises(UnsupportedRerankError, match="a bank with text items for text-to-image"):
        answers(cascade, SPLIT, asked)
    some = halves(sibling_split(5, images=2))
    assert len(answers(cascade, some, left).rows) == 2


def test_only_large_networks_are_halved() -> None:
    large = PillarReranker.untrained(PillarConfig(width=320, heads=4), seed=0)
    assert for_serving(RERANKER) is RERANKER
    halved = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    kinds = {p.dtype for n in for_serving(large).networks.values() for p in n.parameters()}
    assert kinds == {torch.bfloat16 if halved else torch.float32}


def test_other_heads_keep_the_mode() -> None:
    whole = cascade_over(SPLIT, None)
    assert whole.second.with_heads(whole.heads).pillar is whole.second.pillar
    assert RerankMode.PILLAR in whole.second.modes
