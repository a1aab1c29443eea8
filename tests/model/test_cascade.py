from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from model.ann import oracle
from model.ann.faiss_door import HammingIndex
from model.cascade import HASH_BLOCK, CandidateSide, Cascade, SearchOptions
from model.core.errors import (
    CodeShapeError,
    InputError,
    UnsupportedInputError,
    UnsupportedRerankError,
)
from model.core.types import (
    CandidateBudget,
    Direction,
    FloatArray,
    HalfArray,
    Modality,
    RerankMode,
    RowArray,
    Way,
)
from model.core.vectors import l2_normalised, pack_signs
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig, ModalityHead
from model.heads.product_quantiser import decode
from model.rerankers.ordering import AppliedRerank
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists
from model.reverse_lists.layers import ComputedLists, LayeredLists, MemoryLayer, StoredLists

GOLDEN = Path(__file__).parents[1] / "golden" / "stage_one.npz"
CONFIG = HeadsConfig(embedding_dim=24, n_bits=16, n_subspaces=4, n_centroids=8)
BUDGET = CandidateBudget(keep_hash=0.3, keep_pq=0.1, at_least=5)
Z = 12
WEIGHTS = DirectionWeights(consistency=0.9, complementarity=0.3, hubness=0.4, temperature=0.2)
SECOND = SecondStage(StageTwo(weights=dict.fromkeys(Direction, WEIGHTS)))
COUNTS = {Modality.IMAGE: 200, Modality.TEXT: 330}


class World(NamedTuple):
    heads: Heads
    embeddings: Mapping[Modality, HalfArray]
    lists: Mapping[Modality, HalfArray]
    cascade: Cascade


def make_world(seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((25, 24))
    embeddings = {
        modality: l2_normalised(
            (centres[rng.integers(25, size=count)] + 0.6 * rng.standard_normal((count, 24))).astype(
                np.float32
            )
        ).astype(np.float16)
        for modality, count in COUNTS.items()
    }
    heads = fit_heads(CONFIG, embeddings, seed)
    lists = {m: reverse_lists(embeddings[m], embeddings[m.other], Z) for m in Modality}
    sides = {m: make_side(heads, m, embeddings[m], stored(lists[m])) for m in Modality}
    return World(heads, embeddings, lists, Cascade(heads, sides, SECOND))


def stored(table: HalfArray) -> LayeredLists:
    nothing = np.empty((0, 24), dtype=np.float16)
    return LayeredLists([StoredLists(table)], ComputedLists(nothing, nothing, Z), Z)


def make_side(
    heads: Heads, modality: Modality, embeddings: HalfArray, lists: LayeredLists | None = None
) -> CandidateSide:
    codes = heads.encode(modality, embeddings)
    return CandidateSide(
        HammingIndex.from_codes(codes.hash_codes), codes.pq_codes, embeddings, lists
    )


def make_queries(count: int, seed: int = 1) -> FloatArray:
    rng = np.random.default_rng(seed)
    return l2_normalised(rng.standard_normal((count, 24)).astype(np.float32))


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


class Stages(NamedTuple):
    """A query's candidates after each stage, from sorted Python lists."""

    distances: dict[int, int]
    after_hash: list[int]
    pq_scores: dict[int, float]
    after_pq: list[int]
    cosines: dict[int, float]
    reverse_ranks: dict[int, int]
    complementarity: dict[int, float]
    final: list[int]


def slow_search(world: World, direction: Way, query: FloatArray, mode: RerankMode) -> Stages:
    asked, held = direction.query, direction.candidate
    first, second = BUDGET.counts(COUNTS[held])
    vector = world.heads.hash_space(asked, query[None])
    codes = world.heads.encode(held, world.embeddings[held])
    distances = dict(enumerate(oracle.hamming_distances(pack_signs(vector), codes[0])[0].tolist()))
    after_hash = sorted(distances, key=lambda row: (distances[row], row))[:first]
    decoded = decode(world.heads.heads[held].codebooks, codes.pq_codes).astype(np.float64)
    pq_scores = {row: float(decoded[row] @ vector[0]) for row in after_hash}
    after_pq = sorted(after_hash, key=lambda row: (-pq_scores[row], row))[:second]
    exact = world.embeddings[held].astype(np.float64)
    cosines = {row: float(exact[row] @ query) for row in after_pq}
    ranks, complementarity = {}, {}
    for row in after_pq:
        values = world.lists[held][row].astype(np.float64)
        ranks[row] = int((values > np.float64(np.float16(cosines[row]))).sum())
        by_rank = 1 - np.log(1 + ranks[row]) / np.log(1 + Z)
        soft_highest = 0.2 * np.log(np.mean(np.exp(values / 0.2)))
        complementarity[row] = float(0.3 * by_rank - 0.4 * soft_highest)
    final = sorted(after_pq, key=lambda row: (-cosines[row], row))
    if mode is RerankMode.REFERENCE:
        final[:15] = sorted(final[:15], key=lambda row: ranks[row])
    if mode is RerankMode.RELATIONSHIP:
        final.sort(key=lambda row: (-(0.9 * cosines[row] + complementarity[row]), row))
    return Stages(
        distances, after_hash, pq_scores, after_pq, cosines, ranks, complementarity, final
    )


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("mode", SECOND.modes)
def test_every_stage_equals_the_slow_search(
    world: World, direction: Direction, mode: RerankMode
) -> None:
    queries = make_queries(12)
    options = SearchOptions(k=10, rerank=mode, budget=BUDGET, explain=True)
    rankings = world.cascade.search(direction, queries, options)
    for query, ranking in zip(queries, rankings, strict=True):
        slow = slow_search(world, direction, query, mode)
        rows = ranking.rows.tolist()
        told = ranking.explanation
        assert rows == slow.final[:10]
        assert told is not None
        assert told.hamming_distance.tolist() == [slow.distances[row] for row in rows]
        assert told.rank_after_hash.tolist() == [slow.after_hash.index(row) for row in rows]
        assert told.rank_after_pq.tolist() == [slow.after_pq.index(row) for row in rows]
        assert told.rank_after_rerank.tolist() == list(range(10))
        np.testing.assert_allclose(told.pq_score, [slow.pq_scores[r] for r in rows], atol=1e-5)
        np.testing.assert_allclose(told.consistency, [slow.cosines[r] for r in rows], atol=1e-5)
        assert (np.diff(ranking.scores) <= 0).all()


@pytest.mark.parametrize("direction", list(Direction))
def test_a_relationship_score_is_consistency_and_complementarity(
    world: World, direction: Direction
) -> None:
    options = SearchOptions(k=10, budget=BUDGET, explain=True)
    query = make_queries(1, seed=4)
    (ranking,) = world.cascade.search(direction, query, options)
    slow = slow_search(world, direction, query[0], RerankMode.RELATIONSHIP)
    rows, told = ranking.rows.tolist(), ranking.explanation
    assert told is not None
    assert told.reverse_rank.tolist() == [slow.reverse_ranks[row] for row in rows]
    expected = [slow.complementarity[row] for row in rows]
    np.testing.assert_allclose(told.complementarity, expected, atol=1e-5)
    np.testing.assert_allclose(ranking.scores, 0.9 * told.consistency + expected, atol=1e-5)
    assert ranking.rerank is AppliedRerank.RELATIONSHIP


@pytest.mark.parametrize("mode", SECOND.modes)
def test_a_ranking_does_not_depend_on_who_shares_the_call(world: World, mode: RerankMode) -> None:
    queries = make_queries(HASH_BLOCK + 3)
    options = SearchOptions(k=7, rerank=mode, budget=BUDGET)
    together = world.cascade.search(Direction.TEXT_TO_IMAGE, queries, options)
    assert len(together) == len(queries)
    for query, ranking in zip(queries, together, strict=True):
        (alone,) = world.cascade.search(Direction.TEXT_TO_IMAGE, query[None], options)
        np.testing.assert_array_equal(alone.rows, ranking.rows)
        np.testing.assert_array_equal(alone.scores, ranking.scores)


def test_queries_of_one_call_may_want_different_things(world: World) -> None:
    queries = make_queries(9, seed=6)
    wishes = [
        SearchOptions(k=k, rerank=mode, budget=BUDGET, explain=k == 3)
        for k in (1, 3, 90)
        for mode in (RerankMode.RELATIONSHIP, RerankMode.REFERENCE, None)
    ]
    together = world.cascade.search(Direction.IMAGE_TO_TEXT, queries, wishes)
    for query, options, ranking in zip(queries, wishes, together, strict=True):
        (alone,) = world.cascade.search(Direction.IMAGE_TO_TEXT, query[None], options)
        np.testing.assert_array_equal(alone.rows, ranking.rows)
        np.testing.assert_array_equal(alone.scores, ranking.scores)
        assert alone.rerank is ranking.rerank
        assert (ranking.explanation is None) is (options.k != 3)
    with pytest.raises(ValueError, match="zip"):
        world.cascade.search(Direction.IMAGE_TO_TEXT, queries, wishes[:-1])


class CountingLists:
    """A source that notes which rows it was asked for."""

    def __init__(self, table: HalfArray) -> None:
        self.table = table
        self.asked: list[list[int]] = []

    def lists(self, rows: RowArray) -> HalfArray:
        self.asked.append(rows.tolist())
        return self.table[rows]


def test_the_lists_of_a_block_are_asked_for_once_and_each_row_once(world: World) -> None:
    source = CountingLists(world.lists[Modality.IMAGE])
    side = replace(world.cascade.sides[Modality.IMAGE], lists=source)
    cascade = Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
    queries, options = make_queries(20, seed=7), SearchOptions(k=4, budget=BUDGET, explain=True)
    nothing = replace(options, rerank=RerankMode.NONE)
    rankings = cascade.search(Direction.TEXT_TO_IMAGE, queries, [options] * 19 + [nothing])
    [asked] = source.asked
    assert len(asked) == len(set(asked)) < 19 * BUDGET.counts(200)[1]
    stored = world.cascade.search(Direction.TEXT_TO_IMAGE, queries[:19], options)
    for ranking, expected in zip(rankings, stored, strict=False):
        np.testing.assert_array_equal(ranking.rows, expected.rows)
        np.testing.assert_array_equal(ranking.scores, expected.scores)
    source.asked.clear()
    reference = replace(options, rerank=RerankMode.REFERENCE)
    cascade.search(Direction.TEXT_TO_IMAGE, queries[:2], [reference, nothing])
    [asked] = source.asked
    assert len(asked) == 15


def test_not_even_the_last_bits_of_a_pq_score_depend_on_who_shares_the_call() -> None:
    rng = np.random.default_rng(2)
    config = HeadsConfig(embedding_dim=512)
    embeddings = l2_normalised(rng.standard_normal((300, 512)).astype(np.float32))
    heads = fit_heads(config, {Modality.IMAGE: embeddings}, seed=0)
    cascade = Cascade(
        heads,
        {Modality.IMAGE: make_side(heads, Modality.IMAGE, embeddings.astype(np.float16))},
        SECOND,
    )
    options = SearchOptions(budget=BUDGET, explain=True)
    together = cascade.search(Direction.TEXT_TO_IMAGE, embeddings[:HASH_BLOCK], options)
    for query, ranking in zip(embeddings, together, strict=False):
        (alone,) = cascade.search(Direction.TEXT_TO_IMAGE, query[None], options)
        assert alone.explanation is not None
        assert ranking.explanation is not None
        np.testing.assert_array_equal(alone.explanation.pq_score, ranking.explanation.pq_score)


@pytest.mark.parametrize("direction", list(Direction))
def test_keeping_everything_without_reranking_is_the_exact_search(
    world: World, direction: Direction
) -> None:
    queries, held = make_queries(5), direction.candidate
    budget = CandidateBudget(at_least=COUNTS[held])
    options = SearchOptions(k=20, rerank=RerankMode.NONE, budget=budget)
    _, rows = oracle.inner_product_search(queries, world.embeddings[held].astype(np.float32), 20)
    for ranking, expected in zip(
        world.cascade.search(direction, queries, options), rows, strict=True
    ):
        assert ranking.rows.tolist() == expected.tolist()
        assert ranking.rerank is AppliedRerank.NONE


def test_more_hits_than_items_are_all_items(world: World) -> None:
    options = SearchOptions(k=10**9, budget=BUDGET)
    (ranking,) = world.cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1), options)
    assert sorted(ranking.rows.tolist()) == list(range(COUNTS[Modality.IMAGE]))


def test_equal_items_come_by_row(world: World) -> None:
    same = np.repeat(world.embeddings[Modality.IMAGE][:1], 30, axis=0)
    side = make_side(world.heads, Modality.IMAGE, same)
    cascade = Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
    (ranking,) = cascade.search(
        Direction.TEXT_TO_IMAGE, make_queries(1), SearchOptions(k=4, budget=BUDGET)
    )
    assert ranking.rows.tolist() == [0, 1, 2, 3]


def test_without_lists_the_answer_says_that_consistency_alone_ranked(world: World) -> None:
    embeddings = world.embeddings[Modality.IMAGE]
    side = make_side(world.heads, Modality.IMAGE, embeddings)
    cascade = Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
    query = make_queries(1)
    for mode in (RerankMode.RELATIONSHIP, RerankMode.REFERENCE):
        options = SearchOptions(rerank=mode, budget=BUDGET, explain=True)
        (ranking,) = cascade.search(Direction.TEXT_TO_IMAGE, query, options)
        slow = slow_search(world, Direction.TEXT_TO_IMAGE, query[0], RerankMode.NONE)
        assert ranking.rerank is AppliedRerank.CONSISTENCY_ONLY
        assert ranking.rows.tolist() == slow.final[:10]
        assert ranking.explanation is not None
        assert set(ranking.explanation.reverse_rank.tolist()) == {-1}


def test_lists_from_every_layer_give_the_same_answer(world: World) -> None:
    embeddings = world.embeddings
    computed = ComputedLists(embeddings[Modality.IMAGE], embeddings[Modality.TEXT], Z)
    lazy = LayeredLists([MemoryLayer(COUNTS[Modality.IMAGE], Z, 40 * 2 * Z)], computed, Z)
    side = make_side(world.heads, Modality.IMAGE, embeddings[Modality.IMAGE], lazy)
    cascade = Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
    options, queries = SearchOptions(budget=BUDGET), make_queries(9)
    expected = world.cascade.search(Direction.TEXT_TO_IMAGE, queries, options)
    for _ in range(2):
        found = cascade.search(Direction.TEXT_TO_IMAGE, queries, options)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_array_equal(one.scores, other.scores)
    assert lazy.lookups["memory"] > 0
    assert lazy.lookups["computed"] > 0


def test_mapped_arrays_give_what_arrays_in_memory_give(world: World, tmp_path: Path) -> None:
    codes = world.heads.encode(Modality.IMAGE, world.embeddings[Modality.IMAGE])
    arrays: dict[str, NDArray[np.generic]] = {
        "pq": codes.pq_codes,
        "embeddings": world.embeddings[Modality.IMAGE],
        "lists": world.lists[Modality.IMAGE],
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    pq, embeddings, lists = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in arrays)
    HammingIndex.from_codes(codes.hash_codes).save(tmp_path / "hash")
    side = CandidateSide(HammingIndex.load(tmp_path / "hash"), pq, embeddings, stored(lists))
    cascade = Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
    options = SearchOptions(budget=BUDGET)
    (mapped,) = cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1), options)
    (expected,) = world.cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1), options)
    np.testing.assert_array_equal(mapped.rows, expected.rows)
    np.testing.assert_array_equal(mapped.scores, expected.scores)


@pytest.mark.parametrize("direction", list(Direction))
def test_stage_one_keeps_what_the_released_code_keeps(direction: Direction) -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    spaces = {m: golden[f"{m}_hash_space"].astype(np.float64) for m in Modality}
    # A head that undoes arctanh: the golden vectors are what comes out of it.
    inputs = {m: np.arctanh(space).astype(np.float32) for m, space in spaces.items()}
    identity, zero = np.eye(64, dtype=np.float32), np.zeros(64, dtype=np.float32)
    books = {m: golden[f"{m}_codebooks"] for m in Modality}
    heads = Heads(
        HeadsConfig(embedding_dim=64, n_centroids=16),
        {m: ModalityHead(identity, zero, books[m]) for m in Modality},
    )
    held, count = direction.candidate, len(spaces[direction.candidate])
    index = HammingIndex.from_codes(heads.encode(held, inputs[held]).hash_codes)
    side = CandidateSide(index, golden[f"{held}_codes"], inputs[held])
    short = "t2i" if direction is Direction.TEXT_TO_IMAGE else "i2t"
    kept_hash, kept_pq = golden[f"hamming_kept_{short}"], golden[f"pq_kept_{short}"]
    budget = CandidateBudget(
        keep_hash=kept_hash.shape[1] / count, keep_pq=kept_pq.shape[1] / count, at_least=1
    )
    options = SearchOptions(kept_pq.shape[1], RerankMode.NONE, budget, explain=True)
    cascade = Cascade(heads, {held: side}, SECOND)
    for ranking, by_hash, by_pq in zip(
        cascade.search(direction, inputs[direction.query], options), kept_hash, kept_pq, strict=True
    ):
        told = ranking.explanation
        assert told is not None
        np.testing.assert_array_equal(in_order(ranking.rows, told.rank_after_pq), by_pq)
        np.testing.assert_array_equal(by_hash[told.rank_after_hash], ranking.rows)


def in_order(rows: RowArray, ranks: np.ndarray) -> RowArray:
    return rows[np.argsort(ranks)]


def test_every_stage_tells_its_time(world: World) -> None:
    rankings = world.cascade.search(
        Direction.TEXT_TO_IMAGE, make_queries(3), SearchOptions(budget=BUDGET)
    )
    for ranking in rankings:
        assert set(ranking.milliseconds) == {"hash", "pq", "rerank"}
        assert all(0 < spent < 10_000 for spent in ranking.milliseconds.values())


def test_no_queries_give_no_rankings(world: World) -> None:
    nothing = np.empty((0, 24), dtype=np.float32)
    assert world.cascade.search(Direction.TEXT_TO_IMAGE, nothing, SearchOptions()) == []


def test_a_modality_that_the_gallery_lacks_is_refused_by_name(world: World) -> None:
    sides = {Modality.TEXT: world.cascade.sides[Modality.TEXT]}
    cascade = Cascade(world.heads, sides, SECOND)
    with pytest.raises(UnsupportedInputError, match="image items, this one has text"):
        cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1), SearchOptions())


def test_a_mode_without_its_parts_is_refused_by_name(world: World) -> None:
    options = SearchOptions(rerank=RerankMode.PILLAR)
    with pytest.raises(
        UnsupportedRerankError, match=r"'pillar' needs an index built .* pillar\.safetensors"
    ):
        world.cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1), options)


def test_a_search_that_names_no_mode_gets_the_default(world: World) -> None:
    queries = make_queries(3)
    found = world.cascade.search(Direction.TEXT_TO_IMAGE, queries, SearchOptions(budget=BUDGET))
    named = SearchOptions(rerank=RerankMode.RELATIONSHIP, budget=BUDGET)
    wanted = world.cascade.search(Direction.TEXT_TO_IMAGE, queries, named)
    for one, other in zip(found, wanted, strict=True):
        assert one.rerank is other.rerank is AppliedRerank.RELATIONSHIP
        np.testing.assert_array_equal(one.scores, other.scores)


def test_an_empty_side_gives_no_hits(world: World) -> None:
    nothing = np.empty((0, 24), dtype=np.float16)
    side = make_side(world.heads, Modality.IMAGE, nothing)
    cascade = Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
    options = SearchOptions(explain=True)
    (ranking,) = cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1), options)
    assert ranking.rows.tolist() == []


def test_queries_of_another_width_are_refused(world: World) -> None:
    with pytest.raises(CodeShapeError, match=r"D=24\), got \(1, 23\)"):
        world.cascade.search(Direction.TEXT_TO_IMAGE, make_queries(1)[:, :23], SearchOptions())


def test_a_search_for_nothing_is_refused_by_value() -> None:
    with pytest.raises(InputError, match="at least 1, got 0"):
        SearchOptions(k=0)


@pytest.mark.parametrize("part", ["hamming", "pq_codes", "embeddings"])
def test_a_side_whose_parts_do_not_fit_is_refused(world: World, part: str) -> None:
    good = make_side(world.heads, Modality.IMAGE, world.embeddings[Modality.IMAGE])
    parts = {"hamming": good.hamming, "pq_codes": good.pq_codes, "embeddings": good.embeddings}
    wrong = {
        "hamming": HammingIndex.from_codes(np.zeros((200, 3), dtype=np.uint8)),
        "pq_codes": good.pq_codes[:-1],
        "embeddings": good.embeddings[:, :-1],
    }
    side = CandidateSide(**{**parts, part: wrong[part]})  # type: ignore[arg-type]
    with pytest.raises(CodeShapeError, match="image"):
        Cascade(world.heads, {Modality.IMAGE: side}, SECOND)
