"""Which candidates become hits: pages, exact searches, least scores, near-duplicates."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ann import oracle
from model.cascade import Cascade, Ranking, SearchOptions
from model.core.errors import InputError, UncalibratedError
from model.core.types import CandidateBudget, Direction, FloatArray, Modality, RerankMode
from model.core.vectors import cosines, l2_normalised, pack_signs
from model.rerankers import second_stage
from model.search import calibration
from tests.model import test_cascade as plain
from tests.model.search.test_filtered import World, worlds

BUDGET = CandidateBudget(keep_hash=0.3, keep_pq=0.1, at_least=5)
CASES = [(kind, d, mode) for kind in worlds() for d in Direction for mode in worlds()[kind].modes]
I2T, T2I = Direction.IMAGE_TO_TEXT, Direction.TEXT_TO_IMAGE


def over(kind: str = "lists") -> Cascade:
    world: World = worlds()[kind]
    cascade = world.cascade
    return Cascade(cascade.heads, cascade.sides, cascade.second, world.banks)


def ranked(
    cascade: Cascade, direction: Direction, query: FloatArray, options: SearchOptions
) -> Ranking:
    [found] = cascade.search(direction, query[None], options)
    return found


@pytest.mark.parametrize(("kind", "direction", "mode"), CASES)
def test_exact_is_stage_two_over_every_item(
    kind: str, direction: Direction, mode: RerankMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the budget, and in blocks as in one piece."""
    cascade, queries = over(kind), plain.make_queries(4)
    n_items = len(cascade.sides[direction.candidate])
    everything = CandidateBudget(at_least=n_items)
    whole = SearchOptions(k=n_items, rerank=mode, budget=everything, explain=True)
    exact = SearchOptions(k=n_items, rerank=mode, budget=BUDGET, explain=True, exact=True)
    expected = cascade.search(direction, queries, whole)
    found = cascade.search(direction, queries, exact)
    monkeypatch.setattr(second_stage, "BLOCK_ROWS", 23)
    in_blocks = cascade.search(direction, queries, replace(exact, explain=False))
    for one, other, blocks in zip(expected, found, in_blocks, strict=True):
        assert one.explanation is not None
        assert other.explanation is not None
        for name, values in vars(one.explanation).items():
            np.testing.assert_array_equal(getattr(other.explanation, name), values)
        for again in (other, blocks):
            np.testing.assert_array_equal(again.rows, one.rows)
            np.testing.assert_array_equal(again.scores, one.scores)


@pytest.mark.parametrize("direction", list(Direction))
def test_exact_by_cosine_is_the_exact_search(direction: Direction) -> None:
    cascade, query = over(), plain.make_queries(1)[0]
    items = np.asarray(cascade.sides[direction.candidate].embeddings, np.float32)
    _, [rows] = oracle.inner_product_search(query[None], items, 30)
    options = SearchOptions(k=30, rerank=RerankMode.NONE, budget=BUDGET, exact=True)
    assert ranked(cascade, direction, query, options).rows.tolist() == rows.tolist()


@pytest.mark.parametrize(("kind", "direction", "mode"), CASES)
@settings(max_examples=4)
@given(data=st.data())
def test_pages_together_are_the_ranking_at_once(
    kind: str, direction: Direction, mode: RerankMode, data: st.DataObject
) -> None:
    cascade = over(kind)
    query = plain.make_queries(1, seed=data.draw(st.integers(0, 99), label="query"))[0]
    n_items = len(cascade.sides[direction.candidate])
    reach = data.draw(st.sampled_from([40, n_items]), label="reach")
    every = SearchOptions(
        k=reach,
        rerank=mode,
        budget=BUDGET,
        reach=reach,
        explain=True,
        calibrate=True,
        exact=data.draw(st.booleans(), label="exact"),
        min_score=data.draw(st.sampled_from([None, 0.5]), label="min_score"),
        collapse=data.draw(st.sampled_from([None, 2, 5]), label="collapse"),
    )
    whole, start = ranked(cascade, direction, query, every), 0
    assert (np.diff(whole.scores) <= 0).all()
    while start < len(whole.rows) + 1:
        size = data.draw(st.integers(4, 60), label="size")
        size = min(size, reach - start)
        page = ranked(cascade, direction, query, replace(every, k=max(size, 1), offset=start))
        if size < 1:
            break
        stop = start + size
        np.testing.assert_array_equal(page.rows, whole.rows[start:stop])
        np.testing.assert_array_equal(page.scores, whole.scores[start:stop])
        assert page.explanation is not None
        assert whole.explanation is not None
        for name, values in vars(whole.explanation).items():
            np.testing.assert_array_equal(getattr(page.explanation, name), values[start:stop])
        for mine, all_of_them in ((page.duplicates, whole.duplicates),):
            pairs = zip(mine or (), (all_of_them or ())[start:stop], strict=True)
            assert all(one.tolist() == other.tolist() for one, other in pairs)
        start = stop


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("reach", [60, 8192])
def test_behind_the_candidates_comes_what_else_is_near_by_cosine(
    direction: Direction, reach: int
) -> None:
    cascade, query = over(), plain.make_queries(1, seed=8)[0]
    side = cascade.sides[direction.candidate]
    first, second = BUDGET.counts(len(side))
    options = SearchOptions(k=len(side), budget=BUDGET, reach=reach, explain=True)
    found = ranked(cascade, direction, query, replace(options, k=min(reach, len(side))))
    code = pack_signs(cascade.heads.hash_space(direction.query, query[None]))
    distances, near = oracle.hamming_search(code, side.hamming.codes(), max(first, reach))
    cosines = np.asarray(side.embeddings, np.float64) @ query
    candidates = ranked(cascade, direction, query, replace(options, k=second)).rows.tolist()
    rest = sorted(set(near[0].tolist()) - set(candidates), key=lambda row: (-cosines[row], row))
    assert found.rows.tolist() == (candidates + rest)[: len(found.rows)]
    assert (np.diff(found.scores) <= 0).all()
    told = found.explanation
    assert told is not None
    places = {row: place for place, row in enumerate(near[0].tolist())}
    assert told.rank_after_hash.tolist() == [places[row] for row in found.rows.tolist()]
    lengths = distances[0][told.rank_after_hash]
    np.testing.assert_array_equal(told.hamming_distance, lengths)
    np.testing.assert_allclose(told.consistency, cosines[found.rows], atol=1e-5)
    assert len(set(told.rank_after_pq.tolist())) == len(found.rows)
    for place, rank in enumerate(told.rank_after_pq.tolist()):
        assert (rank < second) is (place < second)
        assert rank == told.rank_after_hash[place] if rank >= first else rank < first


def shares_below(cascade: Cascade, direction: Direction, query: FloatArray) -> FloatArray:
    """The slow count: what share of the bank each item exceeds."""
    bank = np.asarray(worlds()["lists"].banks[direction.candidate], np.float32)
    usual = cosines(bank, query)
    items = np.asarray(cascade.sides[direction.candidate].embeddings, np.float32)
    own = cosines(items, query)
    return np.array([np.mean(usual < one) for one in own], np.float32)


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("mode", [RerankMode.NONE, RerankMode.RELATIONSHIP])
@pytest.mark.parametrize("least", [0.0, 0.5, 0.97, 1.0])
def test_hits_have_at_least_the_score_that_is_asked_for(
    direction: Direction, mode: RerankMode, least: float
) -> None:
    cascade, query = over(), plain.make_queries(1, seed=3)[0]
    n_items = len(cascade.sides[direction.candidate])
    shares = shares_below(cascade, direction, query)
    options = SearchOptions(k=n_items, rerank=mode, budget=BUDGET, calibrate=True)
    every = ranked(cascade, direction, query, options)
    some = ranked(cascade, direction, query, replace(options, min_score=least))
    assert every.calibrated is not None
    np.testing.assert_array_equal(every.calibrated, shares[every.rows])
    expected = [row for row in every.rows.tolist() if shares[row] >= np.float32(least)]
    assert some.rows.tolist() == expected
    few = ranked(cascade, direction, query, replace(options, min_score=least, k=7, offset=2))
    assert few.rows.tolist() == expected[2:9]


def test_an_item_of_the_bank_exceeds_what_is_below_it_and_not_itself() -> None:
    """Own rows of the bank: the lowest has 0, the best all others."""
    cascade, query = over(), plain.make_queries(1)[0]
    options = SearchOptions(k=200, rerank=RerankMode.NONE, exact=True, calibrate=True)
    found = ranked(cascade, T2I, query, options)
    assert found.calibrated is not None
    np.testing.assert_allclose(found.calibrated, 1 - np.arange(1, 201) / 200, atol=1e-6)


def test_a_large_bank_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SAMPLE", 10)
    bank = np.eye(100, dtype=np.float16)
    [usual] = calibration.Background(bank).usual(np.arange(100, dtype=np.float32)[None])
    assert usual.near.tolist() == list(range(0, 100, 10))
    asked = np.array([-1.0, 0.0, 50.0, 50.5, 1e6], np.float32)
    np.testing.assert_allclose(usual.shares(asked), [0, 0, 0.5, 0.6, 1.0])


def test_without_a_bank_scores_are_not_calibrated() -> None:
    cascade = worlds()["lists"].cascade
    query = plain.make_queries(1)[0]
    assert ranked(cascade, T2I, query, SearchOptions(calibrate=True)).calibrated is None
    with pytest.raises(UncalibratedError, match="a bank with image items"):
        ranked(cascade, T2I, query, SearchOptions(min_score=0.0))


def near_duplicates(seed: int = 4) -> Cascade:
    """Thirty images with six slightly different copies each, mixed."""
    rng = np.random.default_rng(seed)
    originals = rng.standard_normal((30, 24))
    copies = np.repeat(originals, 6, axis=0) + 0.15 * rng.standard_normal((180, 24))
    items = l2_normalised(rng.permutation(copies).astype(np.float32)).astype(np.float16)
    heads = worlds()["lists"].cascade.heads
    sides = {Modality.IMAGE: plain.make_side(heads, Modality.IMAGE, items)}
    return Cascade(heads, sides, plain.SECOND, {Modality.IMAGE: items})


@pytest.mark.parametrize("bits", [0, 1, 3, 8, 16])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("least", [None, 0.6])
def test_of_near_duplicates_the_best_stays(bits: int, exact: bool, least: float | None) -> None:
    """Against a greedy walk over the ranking, one pair of codes after another."""
    cascade, query = near_duplicates(), plain.make_queries(1, seed=5)[0]
    options = SearchOptions(k=180, budget=BUDGET, exact=exact, min_score=least)
    codes = np.unpackbits(cascade.sides[Modality.IMAGE].hamming.codes(), axis=1)
    ranking = ranked(cascade, T2I, query, options).rows.tolist()
    seen = 180 if exact else BUDGET.counts(180)[1]
    stretches = (ranking[: _passing(cascade, query, least, seen, exact)], None)
    stands_for: dict[int, list[int]] = {}
    owner: dict[int, int] = {}
    for row in ranking:
        near = [k for k in stands_for if (codes[k] != codes[row]).sum() <= bits]
        if not near:
            stands_for[row] = []
            continue
        owner[row] = near[0]
    for row in ranking:
        if row in owner and ((row in stretches[0]) is (owner[row] in stretches[0])):
            stands_for[owner[row]].append(row)
    found = ranked(cascade, T2I, query, replace(options, collapse=bits))
    assert found.rows.tolist() == list(stands_for)
    assert found.duplicates is not None
    assert [rows.tolist() for rows in found.duplicates] == list(stands_for.values())
    assert len(found.rows) < 180 if bits else True
    few = ranked(cascade, T2I, query, replace(options, collapse=bits, k=4, offset=3))
    assert few.rows.tolist() == list(stands_for)[3:7]


def _passing(
    cascade: Cascade, query: FloatArray, least: float | None, seen: int, exact: bool
) -> int:
    """How many of the candidates of Stage II have the score."""
    options = SearchOptions(k=seen, budget=BUDGET, calibrate=True, exact=exact)
    found = ranked(cascade, T2I, query, options).calibrated
    assert found is not None
    return seen if least is None else int((found >= np.float32(least)).sum())


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ({"offset": -1}, "offset needs to be at least 0, got -1"),
        ({"min_score": 1.5}, "min_score needs to lie in 0 to 1, got 1.5"),
        ({"min_score": float("nan")}, "min_score needs to lie in 0 to 1, got nan"),
        ({"collapse": -1}, "collapse needs to be at least 0 bits, got -1"),
    ],
)
def test_an_option_that_breaks_its_rule_is_refused_by_value(
    told: dict[str, float], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        SearchOptions(**told)  # type: ignore[arg-type]
