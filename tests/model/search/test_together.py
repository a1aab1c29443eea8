"""Queries that share a call get what each of them gets alone, bit for bit."""

from collections.abc import Iterator

import numpy as np
import pytest

from model.cascade import HASH_BLOCK, Cascade, Ranking, SearchOptions
from model.core.filters import Filter
from model.core.types import (
    WAYS,
    CandidateBudget,
    Direction,
    FloatArray,
    Kinship,
    Modality,
    RerankMode,
    Way,
)
from model.core.vectors import cosines, l2_normalised
from model.heads.heads import HeadsConfig
from model.rerankers.hubs import Hubs
from model.rerankers.relationship import hubness
from model.reverse_lists.compute import PADDING
from model.search import grouping
from model.search.calibration import Background
from tests.model import test_cascade as plain
from tests.model.search.masks import Masks, with_masks
from tests.model.search.test_filtered import worlds

BUDGETS = [
    CandidateBudget(keep_hash=0.3, keep_pq=0.1, at_least=5),
    CandidateBudget(keep_hash=0.5, keep_pq=0.5, at_least=1),
    CandidateBudget(keep_hash=0.01, keep_pq=0.001, at_least=1, max_hash=2, max_pq=1),
]
SHARES = [0.0, 0.01, 0.2, 0.7, 1.0]


@pytest.fixture(params=[1 << 14, 2 << 20])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few queries at a time, or all that a block has."""
    monkeypatch.setattr(grouping, "CHUNK_BYTES", request.param)


def wishes(
    rng: np.random.Generator, filters: list[Filter | None], modes: list[RerankMode | None]
) -> Iterator[SearchOptions]:
    """Options of every kind, a few of which come again and again."""
    kinds = [
        SearchOptions(
            k=int(rng.choice([1, 10, 60, 500])),
            offset=int(rng.choice([0, 0, 3, 45])),
            rerank=modes[rng.integers(len(modes))],
            budget=BUDGETS[rng.integers(len(BUDGETS))],
            explain=bool(rng.integers(2)),
            filter=filters[rng.integers(len(filters))],
            exact=bool(rng.random() < 0.2),
            calibrate=bool(rng.integers(2)),
            min_score=(None, None, 0.4, 0.95)[rng.integers(4)],
            collapse=(None, None, 0, 3)[rng.integers(4)],
            reach=int(rng.choice([20, 8192])),
        )
        for _ in range(8)
    ]
    while True:
        yield kinds[rng.integers(len(kinds))]


def assert_alone(
    cascade: Cascade, way: Way, queries: FloatArray, asked: list[SearchOptions]
) -> None:
    """What each query of one call gets is what it gets by itself."""
    every = cascade.search(way, queries, asked)
    assert len(every) == len(queries)
    for query, options, found in zip(queries, asked, every, strict=True):
        [alone] = cascade.search(way, query[None], options)
        assert_equal(found, alone)


def assert_equal(found: Ranking, expected: Ranking) -> None:
    assert (found.rerank, found.offset) == (expected.rerank, expected.offset)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.calibrated, expected.calibrated)
    assert (found.duplicates is None) is (expected.duplicates is None)
    for one, other in zip(found.duplicates or (), expected.duplicates or (), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (found.explanation is None) is (expected.explanation is None)
    if found.explanation is not None and expected.explanation is not None:
        for name, values in vars(expected.explanation).items():
            np.testing.assert_array_equal(getattr(found.explanation, name), values)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("kind", ["lists", "pairs", "pillars"])
@pytest.mark.parametrize("direction", list(Direction))
def test_mixed_options_in_one_call_give_what_each_gives_alone(
    kind: str, direction: Direction
) -> None:
    rng = np.random.default_rng(list(Direction).index(direction))
    world, masks = worlds()[kind], Masks()
    cascade = with_masks(world.cascade, direction.candidate, masks)
    cascade = Cascade(cascade.heads, cascade.sides, cascade.second, world.banks)
    n_items = len(cascade.sides[direction.candidate])
    filters = [None, *(masks.name(rng.random(n_items) < share) for share in SHARES)]
    asked = wishes(rng, filters, [None, *world.modes])
    queries = plain.make_queries(24)
    assert_alone(cascade, direction, queries, [next(asked) for _ in queries])


@pytest.mark.parametrize("way", list(Kinship))
def test_so_do_searches_inside_one_modality(way: Way) -> None:
    rng = np.random.default_rng(5)
    world = worlds()["lists"]
    cascade = Cascade(world.cascade.heads, world.cascade.sides, world.cascade.second, world.banks)
    asked = wishes(rng, [None], [None, RerankMode.NONE])
    queries = plain.make_queries(12)
    assert_alone(cascade, way, queries, [next(asked) for _ in queries])


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("seed", range(3))
def test_ties_at_every_cut_stay_with_the_lower_row(seed: int) -> None:
    """Items that are repeated, and queries that are at right angles to some: scores of -0.0."""
    rng = np.random.default_rng(seed)
    world = plain.make_world(seed)
    items = np.zeros((60, 24), np.float16)
    items[np.arange(60), rng.integers(0, 6, 60)] = rng.choice([-1.0, 1.0], 60)
    sides = {Modality.IMAGE: plain.make_side(world.heads, Modality.IMAGE, items)}
    cascade = Cascade(world.heads, sides, plain.SECOND, {Modality.IMAGE: items})
    queries = np.concatenate([np.eye(24, dtype=np.float32)[:8], plain.make_queries(3, seed)])
    budget = CandidateBudget(keep_hash=0.7, keep_pq=0.4, at_least=1)
    options = SearchOptions(k=20, budget=budget, explain=True, calibrate=True)
    assert_alone(cascade, Direction.TEXT_TO_IMAGE, queries, [options] * len(queries))
    for query, found in zip(
        queries, cascade.search(Direction.TEXT_TO_IMAGE, queries, options), strict=True
    ):
        exact = items.astype(np.float64) @ query
        rows = found.rows.tolist()
        told = found.explanation
        assert told is not None
        assert rows == sorted(rows, key=lambda row: (-np.float32(exact[row]), row))
        by_pq = sorted(zip(-told.pq_score, rows, strict=True))
        assert [row for _, row in by_pq] == found.rows[np.argsort(told.rank_after_pq)].tolist()


@pytest.mark.parametrize("way", WAYS)
def test_any_number_of_queries_may_share_a_call(way: Way) -> None:
    cascade, queries = worlds()["lists"].cascade, plain.make_queries(2 * HASH_BLOCK + 5)
    options = SearchOptions(k=3, budget=BUDGETS[0])
    every = cascade.search(way, queries, options)
    start = 0
    for count in (1, 2, HASH_BLOCK + 1, HASH_BLOCK, 1):
        some = slice(start, start + count)
        for one, other in zip(
            cascade.search(way, queries[some], options), every[some], strict=True
        ):
            assert_equal(one, other)
        start += count
    assert start == len(queries)


def test_one_candidate_or_none_is_a_ranking_too() -> None:
    world, masks = worlds()["lists"], Masks()
    cascade = with_masks(world.cascade, Modality.IMAGE, masks)
    few = [masks.name(np.arange(200) < count) for count in (0, 1)]
    asked = [
        SearchOptions(k=2, budget=budget, filter=one, exact=exact, rerank=mode)
        for budget in BUDGETS
        for one in (*few, few[0])
        for exact in (False, True)
        for mode in world.modes
    ]
    queries = plain.make_queries(len(asked))
    assert_alone(cascade, Direction.TEXT_TO_IMAGE, queries, asked)
    found = cascade.search(Direction.TEXT_TO_IMAGE, queries, asked)
    assert [one.rows.tolist() for one in found] == [
        [0] if options.filter == few[1] else [] for options in asked
    ]


def test_what_is_told_of_times_adds_up_to_what_is_shared() -> None:
    cascade = worlds()["lists"].cascade
    options = SearchOptions(budget=BUDGETS[0])
    found = cascade.search(Direction.TEXT_TO_IMAGE, plain.make_queries(9), options)
    for stage in ("hash", "pq"):
        spans = {one.spans[stage] for one in found}
        spent = sum(one.milliseconds[stage] for one in found)
        assert spent == pytest.approx(sum(1e3 * (end - start) for start, end in spans))
    for one in found:
        assert one.spans["hash"][1] <= one.spans["pq"][0] <= one.spans["rerank"][0]


@pytest.mark.parametrize("dim", [1, 3, 24, 100, 513])
@pytest.mark.parametrize("count", [1, 7, 2100])
def test_a_calibrated_score_is_the_share_of_cosines_below(dim: int, count: int) -> None:
    """Counted one by one, for items of the bank themselves, their neighbours and the far ends."""
    rng = np.random.default_rng(dim)
    bank = l2_normalised(rng.standard_normal((count, dim)).astype(np.float32))
    bank[rng.integers(count, size=count // 3)] = bank[0]
    bank = bank.astype(np.float16)
    background = Background(bank)
    queries = rng.standard_normal((5, dim)) * rng.choice([0.1, 1, 30], (5, 1))
    queries = queries.astype(np.float32)
    rows = np.arange(min(count, 2048)) * count // min(count, 2048)
    sample = bank[rows].astype(np.float32)
    for query, usual in zip(queries, background.usual(queries), strict=True):
        own = np.sort(cosines(sample, query))
        [alone] = background.usual(query[None])
        for asked in (own, own[-1:], own[-3:], np.nextafter(own, np.float32(9)), own[:0]):
            expected = np.array([np.mean(own < one) for one in asked], np.float32)
            np.testing.assert_array_equal(usual.shares(asked), expected)
            np.testing.assert_array_equal(alone.shares(asked), expected)


def test_a_remembered_hubness_is_the_computed_one() -> None:
    rng = np.random.default_rng(3)
    table = -np.sort(-rng.random((50, 9)), axis=1).astype(np.float16)
    table[:7, 4:], table[9] = PADDING, PADDING
    hubs = Hubs(50)
    for temperature in (0.1, 0.5):
        expected = hubness(table, temperature)
        for _ in range(6):
            rows = rng.integers(0, 50, 30)
            np.testing.assert_array_equal(hubs.of(rows, table[rows], temperature), expected[rows])
        nothing = np.zeros((30, 9), np.float16)
        seen = rows
        np.testing.assert_array_equal(hubs.of(seen, nothing, temperature), expected[seen])


@pytest.mark.parametrize(
    ("counts", "n_queries", "size"),
    [
        ((400, 200), 32, 20),  # 4 MiB of 4 · 200 · 256 bytes
        ((8192, 10), 32, 4),  # of 16 · 8192 · 8
        ((10**6, 10**6), 3, 1),
        ((0, 0), 5, 5),
    ],
)
def test_a_chunk_holds_what_the_bound_allows(
    counts: tuple[int, int], n_queries: int, size: int
) -> None:
    world = worlds()["lists"].cascade
    selection = world.selection(Direction.TEXT_TO_IMAGE, None)
    one = grouping.Query(
        0, plain.make_queries(1)[0], SearchOptions(), RerankMode.NONE, selection, counts
    )
    parts = list(grouping.chunks([one] * n_queries, HeadsConfig(embedding_dim=256)))
    sizes = [len(range(n_queries)[part]) for part in parts]
    assert max(sizes) == min(size, n_queries)
    assert sum(sizes) == n_queries
