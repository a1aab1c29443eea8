import numpy as np
import pytest

from model.cascade import Cascade, Ranking, SearchOptions
from model.core.errors import UnsupportedRerankError
from model.core.types import CandidateBudget, Direction, FloatArray, RerankMode
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.learned.reranker import Case, LearnedReranker
from model.rerankers.ordering import AppliedRerank
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import StageTwo
from model.training.cross_fit import Fold
from model.training.evaluation import cascade_over, pair_bank
from model.training.learned_lists import lists_of_fold
from tests.model.rerankers.learned.test_reranker import random_reranker
from tests.model.training.pillar_world import halves, sibling_split

GALLERY, BANK = halves(sibling_split(0, images=30)), halves(sibling_split(7, images=40))
HEADS = fit_heads(HeadsConfig(embedding_dim=24), BANK.embeddings, seed=0)
EVERYTHING = CandidateBudget(at_least=10**6)
DEPTH = 12
RERANKER = random_reranker(candidates=DEPTH)
OWN = [True, False]


def cascade(own_bank: bool, reranker: LearnedReranker | None = RERANKER) -> Cascade:
    bank = None if own_bank else BANK.embeddings
    pairs = pair_bank(BANK, HEADS)
    return cascade_over(GALLERY, HEADS, StageTwo(), bank, pairs, learned=reranker)


def ranked(
    over: Cascade, direction: Direction, mode: RerankMode | None, k: int = 30
) -> list[Ranking]:
    options = SearchOptions(k=k, rerank=mode, budget=EVERYTHING, explain=True)
    return over.search(direction, GALLERY.embeddings[direction.query], options)


@pytest.mark.parametrize("own_bank", OWN)
@pytest.mark.parametrize("direction", list(Direction))
def test_a_search_sees_the_terms_that_training_saw(
    monkeypatch: pytest.MonkeyPatch, direction: Direction, own_bank: bool
) -> None:
    """Both find terms by themselves; here lists are long enough to hold the whole gallery."""
    case, seen = Case(direction, own_bank), []

    def spy(_: LearnedReranker, asked: Case, terms: FloatArray) -> FloatArray:
        assert asked == case
        seen.append(terms)
        return terms[:, 0]

    whole = random_reranker(candidates=len(GALLERY.image_of_text))
    monkeypatch.setattr(LearnedReranker, "scores", spy)
    ranked(cascade(own_bank, whole), direction, RerankMode.LEARNED)
    lists = lists_of_fold(Fold(GALLERY, BANK), StageTwo(), whole.config.candidates)[case]
    assert len(seen) == len(lists.terms)
    for online, terms, live in zip(seen, lists.terms.numpy(), lists.live.numpy(), strict=True):
        for one, other in zip(by_cosine(online), by_cosine(terms[live]), strict=True):
            # What the bank says of a query is stored as halves in one of the two.
            np.testing.assert_allclose(one, other, atol=2e-3)


def by_cosine(terms: FloatArray) -> FloatArray:
    return terms[np.argsort(terms[:, 0])]


def test_lists_know_their_true_candidates() -> None:
    lists = lists_of_fold(Fold(GALLERY, BANK), StageTwo(), 150)
    for case, found in lists.items():
        per_query = 5 if case.direction is Direction.IMAGE_TO_TEXT else 1
        assert found.true.sum(dim=1).tolist() == [per_query] * len(found.true)
        own = found.terms[..., 0].masked_fill(~found.true, -2).amax(dim=1)
        split = GALLERY.one_way(case.direction)
        cosines = split.queries @ split.candidates.T
        true = split.query_image[:, None] == split.candidate_image
        np.testing.assert_allclose(own, np.where(true, cosines, -2).max(axis=1), atol=2e-3)


@pytest.mark.parametrize("direction", list(Direction))
def test_what_the_network_does_not_see_stays_behind_in_its_order(direction: Direction) -> None:
    related = ranked(cascade(own_bank=False), direction, RerankMode.RELATIONSHIP)
    learned = ranked(cascade(own_bank=False), direction, RerankMode.LEARNED)
    moved = 0
    for before, after in zip(related, learned, strict=True):
        assert after.rerank is AppliedRerank.LEARNED
        np.testing.assert_array_equal(after.rows[DEPTH:], before.rows[DEPTH:])
        assert set(after.rows[:DEPTH]) == set(before.rows[:DEPTH])
        assert (np.diff(after.scores) <= 0).all()
        moved += int(not np.array_equal(after.rows, before.rows))
    assert moved > len(related) / 2


def test_the_first_hits_do_not_depend_on_how_many_are_wanted() -> None:
    over = cascade(own_bank=False)
    many = ranked(over, Direction.TEXT_TO_IMAGE, RerankMode.LEARNED)
    few = ranked(over, Direction.TEXT_TO_IMAGE, RerankMode.LEARNED, k=3)
    for one, other in zip(many, few, strict=True):
        np.testing.assert_array_equal(one.rows[:3], other.rows)
        np.testing.assert_array_equal(one.scores[:3], other.scores)


def test_it_is_the_default_where_it_has_raised_recall_and_not_otherwise() -> None:
    better = cascade(own_bank=False)
    worse = cascade(
        False, LearnedReranker(RERANKER.config, RERANKER.networks, "made-up pairs", gain=-0.5)
    )
    for over, mode in ((better, RerankMode.LEARNED), (worse, RerankMode.RELATIONSHIP)):
        assert over.second.default is mode
        assert RerankMode.LEARNED in over.second.modes
        (first, *_) = ranked(over, Direction.IMAGE_TO_TEXT, None)
        assert first.rerank == mode.value


def test_without_pairs_there_is_no_learned_mode() -> None:
    over = cascade_over(GALLERY, HEADS, StageTwo(), BANK.embeddings, None, learned=RERANKER)
    assert over.second.default is RerankMode.RELATIONSHIP
    with pytest.raises(UnsupportedRerankError, match="meet-train learned"):
        ranked(over, Direction.IMAGE_TO_TEXT, RerankMode.LEARNED)
    assert RerankMode.LEARNED not in SecondStage(StageTwo()).modes
