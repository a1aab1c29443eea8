import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import evidence, simple_rules
from benchmarks.evidence import Evidence, Sought
from benchmarks.reciprocal import encode, expanded, jaccard, mutual
from benchmarks.simple_rules import FAMILIES, Rule, setting
from model.core.types import Direction, FloatArray, Modality
from model.core.vectors import l2_normalised
from model.rerankers.reference import reference_order
from model.training.embedded import Embedded


def pairs_of(n_images: int, seed: int, captions: int = 3, dim: int = 12) -> Embedded:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n_images, dim))
    owners = np.repeat(np.arange(n_images), captions)
    texts = images[owners] + 0.8 * rng.standard_normal((len(owners), dim))
    made = {Modality.IMAGE: images, Modality.TEXT: texts}
    return Embedded({m: l2_normalised(e.astype(np.float32)) for m, e in made.items()}, owners)


SPLIT, BANK = pairs_of(14, 0), pairs_of(30, 1)
BANK.image_of_text[7] = -1  # a caption without its image
CASES = [(d, own) for d in Direction for own in (False, True)]


def seen(direction: Direction, *, own: bool) -> Evidence:
    sought = Sought.of(SPLIT, BANK, direction)
    if own:
        return Evidence.transductive(sought)
    return Evidence.inductive(sought, BANK.embeddings[direction.query])


def each(found: Evidence) -> Iterator[tuple[int, int, float]]:
    for q, row in enumerate(found.cosines.tolist()):
        for n, cosine in enumerate(row):
            yield q, n, cosine


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'own' if case[1] else 'given'}")
def case(request: pytest.FixtureRequest) -> tuple[Evidence, FloatArray]:
    direction, own = request.param
    found = seen(direction, own=own)
    if own:
        return found, found.cosines.T
    bank = BANK.embeddings[direction.query]
    return found, SPLIT.embeddings[direction.candidate] @ bank.T


def test_the_bank_is_counted_sorted_and_summed(
    case: tuple[Evidence, FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, bank = case
    for q, n, cosine in each(found):
        above = sum(value > cosine for value in bank[n].tolist())
        assert found.reverse_ranks[q, n] == above
    assert found.nearest == pytest.approx(-np.sort(-bank, axis=1), abs=1e-6)
    sums = [math.log(math.fsum(math.exp(20 * v) for v in row)) for row in bank.tolist()]
    assert found.log_sums[20.0] == pytest.approx(sums, rel=1e-5)
    firsts = {max(range(len(bank)), key=lambda n: column[n]) for column in bank.T.tolist()}
    assert set(np.flatnonzero(found.activated)) == firsts
    monkeypatch.setattr(evidence, "BLOCK_VALUES", 100)
    told = [bank[rows] for rows in evidence.blocks(*bank.shape)]
    assert len(told) > 3
    again = Evidence._over(found.sought, lambda rows: bank[rows])
    assert (again.activated == found.activated).all()
    assert again.log_sums[20.0] == pytest.approx(found.log_sums[20.0], rel=1e-6)


@pytest.mark.parametrize("direction", Direction)
def test_the_reference_rule_over_the_queries_is_the_released_one(direction: Direction) -> None:
    found = seen(direction, own=True)
    for depth in (5, 15):
        order = np.argsort(-simple_rules.ReferenceRule(depth).scores(found), axis=1)
        assert (order == reference_order(found.cosines, depth)).all()


def test_the_reference_rule_over_a_bank_moves_the_top_by_counts_above(
    case: tuple[Evidence, FloatArray],
) -> None:
    found, bank = case
    order = np.argsort(-simple_rules.ReferenceRule(4).scores(found), axis=1)
    for q, row in enumerate(found.cosines.tolist()):
        by_cosine = sorted(range(len(row)), key=lambda n: -row[n])
        above = {n: sum(v > row[n] for v in bank[n].tolist()) for n in by_cosine[:4]}
        top = sorted(by_cosine[:4], key=lambda n: above[n])
        assert order[q].tolist() == top + by_cosine[4:]


def test_csls_takes_the_mean_of_the_nearest(case: tuple[Evidence, FloatArray]) -> None:
    found, bank = case
    scores = simple_rules.CSLS(3).scores(found)
    for q, n, cosine in each(found):
        hub = sum(sorted(bank[n].tolist())[-3:]) / 3
        assert scores[q, n] == pytest.approx(2 * cosine - hub, abs=1e-5)


@pytest.mark.parametrize("top", [0, 5])
def test_inverted_softmax_is_a_share_of_the_candidates_bank(
    case: tuple[Evidence, FloatArray], top: int
) -> None:
    found, bank = case
    scores = simple_rules.InvertedSoftmax(10.0, top).scores(found)
    for q, n, cosine in each(found):
        values = sorted(bank[n].tolist())[-top:]
        share = math.exp(10 * cosine) / math.fsum(math.exp(10 * v) for v in values)
        assert math.exp(10 * scores[q, n]) == pytest.approx(share, rel=1e-4)


def test_qb_norm_leaves_queries_alone_whose_nearest_no_entry_finds_first() -> None:
    found = seen(Direction.IMAGE_TO_TEXT, own=False)
    scores, inverted = (
        rule.scores(found) for rule in (simple_rules.QBNorm(), simple_rules.InvertedSoftmax())
    )
    normalised = [found.activated[max(range(42), key=row.__getitem__)] for row in found.cosines]
    assert {*normalised} == {False, True}
    for q, is_normalised in enumerate(normalised):
        expected = inverted[q] if is_normalised else found.cosines[q]
        assert (scores[q] == expected).all()


def test_qb_norm_over_the_queries_themselves_is_the_inverted_softmax() -> None:
    found = seen(Direction.TEXT_TO_IMAGE, own=True)
    inverted = simple_rules.InvertedSoftmax(10.0).scores(found)
    assert (simple_rules.QBNorm(10.0).scores(found) == inverted).all()


def test_dual_softmax_weighs_the_cosine_by_its_share(case: tuple[Evidence, FloatArray]) -> None:
    found, bank = case
    scores = simple_rules.DualSoftmax(20.0).scores(found)
    for q, n, cosine in each(found):
        share = math.exp(20 * cosine) / math.fsum(math.exp(20 * v) for v in bank[n].tolist())
        assert scores[q, n] == pytest.approx(cosine * share, rel=1e-3)


def test_the_softmax_product_orders_as_both_softmaxes_multiplied(
    case: tuple[Evidence, FloatArray],
) -> None:
    found, bank = case
    scores = simple_rules.SoftmaxProduct(10.0).scores(found)
    for q, row in enumerate(found.cosines.tolist()):
        own = math.fsum(math.exp(10 * v) for v in row)
        for n, cosine in enumerate(row):
            share = math.exp(10 * cosine) / math.fsum(math.exp(10 * v) for v in bank[n].tolist())
            product = math.exp(10 * cosine) / own * share
            assert math.exp(10 * scores[q, n]) / own == pytest.approx(product, rel=1e-3)


@pytest.mark.parametrize("direction", Direction)
def test_pairs_expand_a_query_by_what_its_nearest_entries_are_paired_with(
    direction: Direction,
) -> None:
    found = seen(direction, own=False)
    images, texts = BANK.embeddings[Modality.IMAGE], BANK.embeddings[Modality.TEXT]
    for q, query in enumerate(SPLIT.embeddings[direction.query]):
        cosines = (BANK.embeddings[direction.query] @ query).tolist()
        mean = np.zeros(12)
        for b in sorted(range(len(cosines)), key=lambda b: -cosines[b])[:5]:
            if direction is Direction.TEXT_TO_IMAGE:
                owner = BANK.image_of_text[b]
                partner = np.zeros(12) if owner < 0 else images[owner]
            else:
                partner = texts[BANK.image_of_text == b].mean(axis=0)
            mean += math.exp(10 * cosines[b]) * partner
        told = SPLIT.embeddings[direction.candidate] @ (mean / np.linalg.norm(mean))
        assert found.sought.expansions[5][q] == pytest.approx(told, abs=1e-5)
        plain = simple_rules.PairExpansion(5, 0.4).scores(found)[q]
        assert plain == pytest.approx(found.cosines[q] + 0.4 * told, abs=1e-5)
        on_top = simple_rules.ExpandedSoftmax(5, 0.4, 10.0, 5).scores(found)[q]
        inverted = simple_rules.InvertedSoftmax(10.0, 5).scores(found)[q]
        assert on_top == pytest.approx(inverted + 0.4 * told, abs=1e-5)


def slow_jaccard(found: Evidence, k_1: int, k_2: int) -> NDArray[np.float64]:
    """Distances by sets and dictionaries."""
    vectors = found.sought.candidates
    kin = (vectors @ vectors.T).tolist()
    items = range(len(kin))
    near = [sorted(items, key=lambda m, n=n: (-kin[n][m], m)) for n in items]  # type: ignore[misc]

    def among(n: int, k: int) -> set[int]:
        return {m for m in near[n][: k + 1] if n in near[m][: k + 1]}

    def grown(members: set[int]) -> set[int]:
        halves = [among(m, round(k_1 / 2)) for m in members]
        return members.union(*(h for h in halves if len(h & members) > 2 / 3 * len(h)))

    def coded(members: set[int], row: list[float]) -> dict[int, float]:
        weights = {m: math.exp(row[m]) for m in members}
        return {m: w / sum(weights.values()) for m, w in weights.items()}

    def mean(codes: list[dict[int, float]]) -> dict[int, float]:
        return {m: sum(c.get(m, 0.0) for c in codes) / k_2 for m in set().union(*codes)}

    own = [coded(grown(among(n, k_1)), kin[n]) for n in items]
    averaged = [mean([own[m] for m in near[n][:k_2]]) for n in items]
    out = np.empty(found.cosines.shape)
    for q, row in enumerate(found.cosines.tolist()):
        first = sorted(items, key=lambda n, row=row: -row[n])  # type: ignore[misc]
        answered = {n for n in first[:k_1] if found.reverse_ranks[q, n] < k_1}
        code = mean([coded(grown(answered), row), *(own[n] for n in first[: k_2 - 1])])
        for n in items:
            shared = sum(min(w, averaged[n].get(m, 0.0)) for m, w in code.items())
            out[q, n] = 1 - shared / (2 - shared)
    return out


@pytest.mark.parametrize(("k_1", "k_2"), [(6, 3), (3, 1)])
def test_k_reciprocal_distances_are_those_of_sets(
    case: tuple[Evidence, FloatArray], k_1: int, k_2: int
) -> None:
    found, _ = case
    expected = slow_jaccard(found, k_1, k_2)
    assert jaccard(found, k_1, k_2) == pytest.approx(expected, abs=1e-5)
    scores = simple_rules.KReciprocal(k_1, k_2, 0.3).scores(found)
    assert scores == pytest.approx(-(0.7 * expected + 0.3 * (1 - found.cosines)), abs=1e-5)


def test_neighbours_are_mutual_and_mostly_inside() -> None:
    near = np.array([[0, 1], [1, 0], [2, 1], [3, 2]])
    both = np.eye(4, dtype=bool)
    both[0, 1] = both[1, 0] = True  # 2 lists 1, which does not list 2
    assert (mutual(near) == both).all()
    sets = np.array([[True, True, True, False]])
    halves = np.array(
        [
            [True, True, True, True],  # three of four inside: taken over
            [False, True, False, False],
            [False, False, True, False],
            [False, False, False, True],
        ]
    )
    assert expanded(sets, halves)[0].all()
    halves[0] = [True, False, False, True]  # half of it: not
    assert expanded(sets, halves).tolist() == sets.tolist()


def test_codes_sum_to_one_and_nobody_is_a_code_of_zeros() -> None:
    sets = np.array([[True, False, True], [False, False, False]])
    codes = encode(sets, np.array([[0.5, 0.9, 0.5], [0.1, 0.2, 0.3]], np.float32))
    assert codes.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]


def test_every_grid_holds_the_usual_setting_so_that_its_best_is_never_below() -> None:
    for family in FAMILIES:
        if family.grid:
            assert set(family.usual) <= set(family.grid)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (simple_rules.Cosine(), ""),
        (simple_rules.InvertedSoftmax(), "β 20, top all"),
        (simple_rules.KReciprocal(), "k1 20, k2 6, weight 0.3"),
    ],
)
def test_a_setting_names_its_numbers(rule: Rule, told: str) -> None:
    assert setting(rule) == told
