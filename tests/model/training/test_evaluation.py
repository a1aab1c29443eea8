import numpy as np
import pytest
import torch

from model.cascade import SearchOptions
from model.core.bootstrap import paired_difference
from model.core.metrics import Recalls, first_true, ranks_of_pairs
from model.core.types import CandidateBudget, Direction, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.pairs import PairBank
from model.rerankers.reference import reference_order
from model.rerankers.relationship import PairCosines, relationship
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists
from model.training import calibration
from model.training.calibration import calibrate
from model.training.embedded import Embedded
from model.training.evaluation import (
    Bank,
    cascade_lists,
    cascade_over,
    evaluate_split,
    evaluation_of,
    measure_split,
    pair_bank,
)
from model.training.rankings import RankingName

ALL = CandidateBudget(keep_hash=1.0, keep_pq=1.0, max_hash=10**9, max_pq=10**9)


def noisy_split(
    n_images: int = 40, captions: int = 5, dim: int = 16, seed: int = 0, hubs: float = 0.0
) -> Embedded:
    """Captions near their images; with hubs, some images are near to every caption as well."""
    rng = np.random.default_rng(seed)
    images = l2_normalised(rng.standard_normal((n_images, dim)).astype(np.float32))
    owners = np.repeat(np.arange(n_images), captions)
    noise = 0.35 * rng.standard_normal((len(owners), dim))
    common = hubs * np.ones(dim) / np.sqrt(dim)
    texts = l2_normalised((images[owners] + noise + common).astype(np.float32))
    images = l2_normalised((images + rng.random((n_images, 1)) * common).astype(np.float32))
    # Exactly representable in half precision, as an artifact stores them.
    halves = {Modality.IMAGE: images.astype(np.float16), Modality.TEXT: texts.astype(np.float16)}
    return Embedded({m: e.astype(np.float32) for m, e in halves.items()}, owners)


@pytest.fixture(scope="module")
def split() -> Embedded:
    return noisy_split()


@pytest.fixture(scope="module")
def heads(split: Embedded) -> Heads:
    config = HeadsConfig(embedding_dim=16, n_bits=16, n_subspaces=4, n_centroids=32)
    return fit_heads(config, split.embeddings, 0)


def brute_force(
    split: Embedded, bank: Bank, weights: DirectionWeights, pairs: PairBank, heads: Heads
) -> Recalls:
    """Recalls with every candidate scored and no Stage I, written out directly."""
    scored = {}
    for direction in Direction:
        candidates = split.embeddings[direction.candidate]
        lists = reverse_lists(candidates, bank[direction.query], 128)
        rows = []
        for query in split.embeddings[direction.query]:
            hash_space = heads.heads[direction.query].query_hash_space(query)
            found = pairs.expand(direction.query, query, hash_space)
            cosines = PairCosines(candidates @ found.partners, candidates @ found.nearest)
            rows.append(relationship(candidates @ query, lists, weights, cosines).scores)
        scored[direction] = np.stack(rows)
    i2t, _ = ranks_of_pairs(scored[Direction.IMAGE_TO_TEXT], split.image_of_text)
    _, t2i = ranks_of_pairs(scored[Direction.TEXT_TO_IMAGE].T, split.image_of_text)
    return Recalls.of(i2t, t2i)


def test_with_everything_kept_the_cascade_is_stage_two_over_all_candidates(
    split: Embedded, heads: Heads
) -> None:
    weights = DirectionWeights(
        complementarity=0.1, hubness=0.5, temperature=0.1, expansion=0.3, feedback=-0.1
    )
    own = weights.model_copy(update={"hubness": 0.9})
    stage_two = StageTwo(
        with_pairs=dict.fromkeys(Direction, weights),
        own_bank_with_pairs=dict.fromkeys(Direction, own),
    )
    bank = noisy_split(seed=9)
    found, pairs = evaluate_split(split, heads, stage_two, ALL, bank), pair_bank(bank, heads)
    for name, over, used in (
        ("transductive", split.embeddings, own),
        ("inductive", bank.embeddings, weights),
    ):
        expected = brute_force(split, over, used, pairs, heads)
        protocol = found.protocols[name]
        assert protocol is not None
        assert protocol.rsum == pytest.approx(expected.rsum, abs=0.6)
    assert found.cascade == found.protocols["inductive"]
    assert found.kept["hash"].i2t == found.kept["pq"].t2i == 100.0


def test_what_a_stage_keeps_bounds_what_the_cascade_finds(split: Embedded, heads: Heads) -> None:
    narrow = CandidateBudget(keep_hash=0.2, keep_pq=0.1, at_least=1)
    found = evaluate_split(split, heads, StageTwo(), narrow, None)
    assert found.protocols["inductive"] is None
    assert found.cascade == found.protocols["transductive"]
    for name in ("i2t", "t2i"):
        hashed, quantised = (getattr(found.kept[stage], name) for stage in ("hash", "pq"))
        assert 0 < quantised <= hashed <= 100
        assert getattr(found.cascade, name)[2] <= quantised


def test_base_is_the_plain_cosine(split: Embedded, heads: Heads) -> None:
    similarities = split.embeddings[Modality.IMAGE] @ split.embeddings[Modality.TEXT].T
    expected = Recalls.of(*ranks_of_pairs(similarities, split.image_of_text))
    assert evaluate_split(split, heads, StageTwo(), ALL, None).base == expected


def test_a_fold_is_a_run_of_images_with_their_captions(split: Embedded) -> None:
    fold = split.fold(1, 4)
    assert (fold.embeddings[Modality.IMAGE] == split.embeddings[Modality.IMAGE][10:20]).all()
    assert (fold.embeddings[Modality.TEXT] == split.embeddings[Modality.TEXT][50:100]).all()
    assert fold.image_of_text.tolist() == np.repeat(np.arange(10), 5).tolist()


def test_calibrated_weights_beat_the_plain_cosine_on_data_that_they_have_not_seen() -> None:
    split, held_out, bank = (noisy_split(n_images=80, seed=s, hubs=1.0) for s in (0, 5, 9))
    stage_two = calibrate(held_out, bank, 128, "test")
    config = HeadsConfig(embedding_dim=16, n_bits=16, n_subspaces=4, n_centroids=32)
    found = evaluate_split(split, fit_heads(config, bank.embeddings, 0), stage_two, ALL, bank)
    assert stage_two.calibrated_on == "test"
    for name in ("transductive", "inductive"):
        protocol = found.protocols[name]
        assert protocol is not None
        assert protocol.rsum > found.base.rsum + 10


def test_a_logit_finds_the_weights_that_made_the_choices() -> None:
    rng = np.random.default_rng(0)
    terms = rng.standard_normal((4000, 12, 3))
    gumbel = -np.log(-np.log(rng.random((4000, 12))))
    chosen = (terms @ np.array([3.0, -1.5, 0.0]) + gumbel).argmax(axis=1)
    true = torch.from_numpy(np.arange(12) == chosen[:, None])
    _, found = calibration._logit(torch.from_numpy(terms), true)
    assert found == pytest.approx([1.0, -0.5, 0.0], abs=0.03)


def test_the_first_ten_of_a_whole_list_are_the_ten_that_are_served(
    split: Embedded, heads: Heads
) -> None:
    cascade = cascade_over(split, heads, StageTwo(), None)
    budget = CandidateBudget(keep_hash=0.7, keep_pq=0.4, at_least=1)
    for direction, listed in cascade_lists(cascade, split, budget).items():
        served = cascade.search(
            direction, split.embeddings[direction.query], SearchOptions(k=10, budget=budget)
        )
        assert listed.shape[1] == 0.4 * len(cascade.sides[direction.candidate])
        assert listed[:, :10].tolist() == [one.rows.tolist() for one in served]


def test_ranks_of_everything_kept_are_those_of_the_full_order(
    split: Embedded, heads: Heads
) -> None:
    found = evaluate_split(split, heads, StageTwo(), ALL, None)
    similarities = split.embeddings[Modality.IMAGE] @ split.embeddings[Modality.TEXT].T
    base = ranks_of_pairs(similarities, split.image_of_text)
    assert found.ranks["base"].i2t.mean == base.i2t.mean() + 1
    assert found.ranks["base"].t2i.median == np.floor(np.median(base.t2i)) + 1
    reference = first_true(reference_order(similarities.T) == split.image_of_text[:, None])
    assert found.ranks["reference"].t2i.mean == pytest.approx(reference.mean() + 1)
    assert found.ranks["cascade"] == found.ranks["transductive"]
    assert "inductive" not in found.ranks


def uneven_split(n_images: int, seed: int) -> Embedded:
    """One to seven captions an image."""
    whole = noisy_split(n_images, captions=7, seed=seed)
    counts = np.random.default_rng(seed).integers(1, 8, n_images)
    kept = np.concatenate([np.arange(7) < count for count in counts])
    texts = whole.embeddings[Modality.TEXT][kept]
    embeddings = {Modality.IMAGE: whole.embeddings[Modality.IMAGE], Modality.TEXT: texts}
    return Embedded(embeddings, whole.image_of_text[kept])


def test_folds_are_the_mean_of_runs_cut_by_hand(heads: Heads) -> None:
    """Five folds, as MS-COCO 1K; here of eight images with one to seven captions each."""
    whole, budget = uneven_split(40, 5), CandidateBudget(keep_hash=0.5, keep_pq=0.3, at_least=1)
    bank = noisy_split(seed=9)
    parts = [measure_split(whole.fold(i, 5), heads, StageTwo(), budget, bank) for i in range(5)]
    found = evaluation_of(parts, draws=40, seed=3)
    single = []
    for first in range(0, 40, 8):
        texts = (whole.image_of_text >= first) & (whole.image_of_text < first + 8)
        embeddings = {
            Modality.IMAGE: whole.embeddings[Modality.IMAGE][first : first + 8],
            Modality.TEXT: whole.embeddings[Modality.TEXT][texts],
        }
        run = Embedded(embeddings, whole.image_of_text[texts] - first)
        single.append(evaluate_split(run, heads, StageTwo(), budget, bank))
    for name in ("base", "reference", "cascade"):
        recalls = getattr(found, name)
        for way in ("i2t", "t2i"):
            by_fold = [getattr(getattr(one, name), way) for one in single]
            assert getattr(recalls, way) == pytest.approx(np.mean(by_fold, axis=0))
            medians = [getattr(one.ranks[name], way).median for one in single]
            assert getattr(found.ranks[name], way).median == pytest.approx(np.mean(medians))
        assert recalls.rsum == pytest.approx(np.mean([getattr(one, name).rsum for one in single]))
    kept = [one.kept["pq"].t2i for one in single]
    assert found.kept["pq"].t2i == pytest.approx(np.mean(kept))
    assert found.intervals is not None
    assert found.intervals.rsum["cascade"].value == pytest.approx(found.cascade.rsum)


def test_intervals_hold_the_figures_and_the_paired_difference_from_base(
    split: Embedded, heads: Heads
) -> None:
    budget = CandidateBudget(keep_hash=0.5, keep_pq=0.3, at_least=1)
    bank = noisy_split(seed=9)
    part = measure_split(split, heads, StageTwo(), budget, bank)
    intervals = evaluation_of([part], draws=200, seed=4).intervals
    assert intervals is not None
    rankings = {"base", "reference", "transductive", "inductive", "cascade"}
    assert set(intervals.rsum) == rankings
    assert set(intervals.above_base) == rankings - {"base"}
    for name in part.ranks:
        value = intervals.rsum[name.value]
        assert value.value == pytest.approx(Recalls.of(*part.ranks[name]).rsum)
        assert value.low <= value.value <= value.high
    ranks, base = part.ranks[RankingName.INDUCTIVE], part.ranks[RankingName.BASE]
    expected = paired_difference(ranks, base, split.image_of_text, 200, (4, 0))
    for served in ("inductive", "cascade"):
        above = intervals.above_base[served]
        assert [above.low, above.high] == pytest.approx([expected.low, expected.high])
        assert above.value == pytest.approx(expected.value)
    assert evaluation_of([part]).intervals is None
