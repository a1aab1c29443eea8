import re
from pathlib import Path

import numpy as np
import pytest
import torch

from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import CandidateBudget, Direction, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.pairs import PairBank
from model.rerankers.relationship import PairCosines, relationship
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists
from model.training import calibration
from model.training.calibration import Pool, calibrate
from model.training.eval_cli import main as evaluate
from model.training.evaluation import Bank, Embedded, evaluate_split, pair_bank
from model.training.train_cli import main as train
from tests.model.training.world import json_of, write_precomp

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
    pools = [Pool(one.embeddings, one.image_of_text) for one in (held_out, bank)]
    stage_two = calibrate(pools[0], pools[1], 128, "test")
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
