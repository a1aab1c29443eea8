import re
from pathlib import Path

import numpy as np
import pytest

from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import CandidateBudget, Direction, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.relationship import relationship
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists, reverse_ranks
from model.training import calibration
from model.training.eval_cli import main as evaluate
from model.training.evaluation import Bank, Embedded, evaluate_split
from model.training.train_cli import main as train
from tests.model.training.world import json_of, write_precomp

ALL = CandidateBudget(keep_hash=1.0, keep_pq=1.0, max_hash=10**9, max_pq=10**9)


def noisy_split(n_images: int = 40, captions: int = 5, dim: int = 16, seed: int = 0) -> Embedded:
    rng = np.random.default_rng(seed)
    images = l2_normalised(rng.standard_normal((n_images, dim)).astype(np.float32))
    owners = np.repeat(np.arange(n_images), captions)
    noise = 0.35 * rng.standard_normal((len(owners), dim))
    texts = l2_normalised((images[owners] + noise).astype(np.float32))
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


def brute_force(split: Embedded, bank: Bank, weights: DirectionWeights) -> Recalls:
    """Recalls with every candidate scored and no Stage I, written out directly."""
    scored = {}
    for direction in Direction:
        queries = split.embeddings[direction.query]
        candidates = split.embeddings[direction.candidate]
        lists = reverse_lists(candidates, bank[direction.query], 128)
        scored[direction] = np.stack(
            [relationship(candidates @ q, lists, weights).scores for q in queries]
        )
    i2t, _ = ranks_of_pairs(scored[Direction.IMAGE_TO_TEXT], split.image_of_text)
    _, t2i = ranks_of_pairs(scored[Direction.TEXT_TO_IMAGE].T, split.image_of_text)
    return Recalls.of(i2t, t2i)


def test_with_everything_kept_the_cascade_is_stage_two_over_all_candidates(
    split: Embedded, heads: Heads
) -> None:
    weights = DirectionWeights(complementarity=0.1, hubness=0.5, temperature=0.1)
    stage_two = StageTwo(weights=dict.fromkeys(Direction, weights))
    bank = noisy_split(seed=9).embeddings
    found = evaluate_split(split, heads, stage_two, ALL, bank)
    for name, over in (("transductive", split.embeddings), ("inductive", bank)):
        expected = brute_force(split, over, weights)
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


def test_calibration_ranks_every_pair_as_the_search_does(split: Embedded) -> None:
    lists = reverse_lists(split.embeddings[Modality.IMAGE], split.embeddings[Modality.TEXT], 32)
    cosines = split.embeddings[Modality.TEXT] @ split.embeddings[Modality.IMAGE].T
    found = calibration._rank_terms(cosines, lists)
    for query in (0, 7, 199):
        ranks = reverse_ranks(lists, cosines[query])
        assert found[query] == pytest.approx(1 - np.log1p(ranks) / np.log(33), abs=1e-6)


def test_calibrated_weights_are_never_worse_than_the_plain_cosine_on_their_own_data(
    split: Embedded,
) -> None:
    bank = noisy_split(seed=9).embeddings
    stage_two = calibration.calibrate(split.embeddings, split.image_of_text, bank, 128, "test")
    for direction in Direction:
        weights = stage_two.weights[direction]
        plain = DirectionWeights(complementarity=0.0, hubness=0.0)
        short = "i2t" if direction is Direction.IMAGE_TO_TEXT else "t2i"
        chosen, base = (sum(getattr(brute_force(split, bank, w), short)) for w in (weights, plain))
        assert chosen >= base - 0.6


def test_repeated_images_give_the_numbers_of_single_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = write_precomp(tmp_path / "single")
    out = ["--out", str(tmp_path / "ck"), "--epochs", "2", "--embedding-dim", "16"]
    small = ["--gru-dim", "8", "--heads-n-bits", "16", "--heads-n-subspaces", "2"]
    assert train(["vse", "--data", str(single), *out, *small]) == 0
    repeated = write_precomp(tmp_path / "repeated")
    regions = np.load(repeated / "dev_ims.npy")
    np.save(repeated / "dev_ims.npy", np.repeat(regions, 5, axis=0))
    printed = []
    for place in (single, repeated):
        capsys.readouterr()
        told = ["--checkpoint", str(tmp_path / "ck"), "--data", str(place), "--split", "dev"]
        assert evaluate([*told, "--bank", f"{single}:train", "--json"]) == 0
        printed.append(json_of(capsys.readouterr().out))
        printed[-1].pop("seconds")
    assert printed[0] == printed[1]
    assert set(printed[0]) == {"base", "reference", "cascade", "protocols", "kept"}
    assert len(printed[0]["base"]["i2t"]) == 3
    assert printed[0]["cascade"] == printed[0]["protocols"]["inductive"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--keep-hash", "0"], r"--keep-hash is a share of the gallery in \(0, 1\], got 0"),
        (["--keep-pq", "7"], "got 7"),
        (["--folds", "99"], "--folds must be 1 to the number of images 16, got 99"),
        (["--split", "nosuch"], "no split 'nosuch'"),
        (["--checkpoint", "nowhere"], "'nowhere'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_precomp(tmp_path / "data")
    out = ["--out", str(tmp_path / "ck"), "--epochs", "1", "--embedding-dim", "16"]
    small = ["--gru-dim", "8", "--heads-n-bits", "16", "--heads-n-subspaces", "2"]
    assert train(["vse", "--data", str(data), *out, *small]) == 0
    capsys.readouterr()
    told = ["--checkpoint", str(tmp_path / "ck"), "--data", str(data), "--split", "dev"]
    assert evaluate([*told, *more]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert "Traceback" not in error
