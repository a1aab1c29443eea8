"""`meet-train learned`, from a checkpoint on disk to a file that raises recall."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.core.types import Modality
from model.data.open import open_collection
from model.rerankers.learned.reranker import CASES, LEARNED_FILE, LearnedReranker
from model.rerankers.learned.terms import N_TERMS
from model.training.cross_fit import cross_fitted
from model.training.eval_cli import main as evaluate
from model.training.learned_lists import TermLists
from model.training.learned_options import LearnedOptions
from model.training.learned_training import scored, train_network
from model.training.pairs import Pairs
from model.training.record import TrainingRecord
from model.training.train_cli import main as train
from tests.model.training.world import json_of, write_precomp

SMALL = ["--folds", "2", "--steps", "30", "--width", "8", "--candidates", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a tiny VSE, and a learned re-ranker trained for it."""
    folder = tmp_path_factory.mktemp("learned")
    data = str(write_precomp(folder / "data"))
    told = ["vse", "--data", data, "--out", str(folder / "ck"), "--epochs", "1"]
    told += ["--embedding-dim", "16", "--gru-dim", "8", "--word-embedding-dim", "8"]
    told += ["--min-word-count", "1", "--heads-n-bits", "16", "--heads-n-subspaces", "2"]
    assert train([*told, "--heads-epochs", "1"]) == 0
    assert train(["learned", "--checkpoint", str(folder / "ck"), "--data", data, *SMALL]) == 0
    return folder


def test_a_learned_reranker_lies_in_its_checkpoint(folder: Path) -> None:
    trained = LearnedReranker.load(folder / "ck" / LEARNED_FILE)
    assert set(trained.networks) == set(CASES)
    assert (trained.config.width, trained.config.candidates) == (8, 10)
    assert trained.trained_on == "data:train"
    assert not list((folder / "ck.cache").glob("state-fold*"))


def test_the_evaluation_takes_it_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder / "data"
    told = ["--data", str(data), "--split", "dev", "--bank", f"{data}:train", "--json"]
    bare = shutil.copytree(folder / "ck", folder / "bare", ignore=lambda *_: [LEARNED_FILE])
    earned = shutil.copytree(folder / "ck", folder / "earned")
    trained = LearnedReranker.load(earned / LEARNED_FILE)
    LearnedReranker(trained.config, trained.networks, "", gain=1.0).save(earned / LEARNED_FILE)
    found = []
    for checkpoint in (bare, earned):
        assert evaluate(["--checkpoint", str(checkpoint), *told]) == 0
        found.append(json_of(capsys.readouterr().out))
    assert found[0]["base"] == found[1]["base"]
    assert found[0]["cascade"] != found[1]["cascade"]


def test_a_run_is_repeated_for_its_seed_without_training_encoders_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["learned", "--checkpoint", str(folder / "ck"), "--data", str(folder / "data"), *SMALL]
    again, other = folder / "again.safetensors", folder / "other.safetensors"
    assert train([*told, "--out", str(again)]) == 0
    assert "encoder 1 of 2" not in capsys.readouterr().out
    assert train([*told, "--out", str(other), "--seed", "1"]) == 0
    assert "encoder 1 of 2" in capsys.readouterr().out  # other folds
    first, same, changed = (
        load_file(path) for path in (folder / "ck" / LEARNED_FILE, again, other)
    )
    for name, value in first.items():
        torch.testing.assert_close(value, same[name])
    assert max(float((first[n] - changed[n]).abs().max()) for n in first) > 1e-2


def test_folds_share_the_train_split_and_are_embedded_by_encoders_new_to_them(
    folder: Path,
) -> None:
    data = str(folder / "data")
    images = len(Pairs.of(open_collection(data, "train")).image_rows)
    folds = list(cross_fitted(folder / "ck", data, 2, 2000, 0, "cpu"))
    sizes = [len(fold.gallery.embeddings[Modality.IMAGE]) for fold in folds]
    assert sum(sizes) == images
    for fold, size in zip(folds, sizes, strict=True):
        assert len(fold.bank.embeddings[Modality.IMAGE]) == images - size
    one, other = (fold.gallery.embeddings[Modality.IMAGE] for fold in folds)
    bank = folds[1].bank.embeddings[Modality.IMAGE]
    assert bank.shape == one.shape  # the same images, another encoder
    assert np.abs(bank - one).max() > 1e-2
    small = list(cross_fitted(folder / "ck", data, 2, 7, 0, "cpu"))
    assert [len(fold.gallery.embeddings[Modality.IMAGE]) for fold in small] == [7, 7]
    assert [len(f.bank.embeddings[Modality.IMAGE]) for f in small] == [images - s for s in sizes]
    assert other.shape[1] == 16


def test_an_encoder_that_was_not_trained_here_is_taken_as_it_is(folder: Path) -> None:
    frozen = shutil.copytree(folder / "ck", folder / "frozen")
    TrainingRecord(encoder="someone's").write(frozen)
    folds = list(cross_fitted(frozen, str(folder / "data"), 2, 2000, 0, "cpu"))
    bank, gallery = folds[1].bank.embeddings, folds[0].gallery.embeddings
    # Of two folds, the bank of one is the gallery of the other.
    np.testing.assert_allclose(bank[Modality.IMAGE], gallery[Modality.IMAGE], atol=1e-5)
    assert not list((folder / "frozen.cache").glob("fold-*"))


def lists_with_a_rule(count: int, seed: int) -> TermLists:
    """Lists whose true candidate has the highest product of two terms: no linear map finds it."""
    generator = torch.Generator().manual_seed(seed)
    terms = torch.randn((count, 12, N_TERMS), generator=generator)
    true = torch.zeros((count, 12), dtype=torch.bool)
    true[torch.arange(count), (terms[..., 0] * terms[..., 5]).argmax(dim=1)] = True
    return TermLists(terms, true, torch.ones_like(true))


def test_a_network_learns_what_a_linear_map_cannot() -> None:
    options = LearnedOptions(steps=400, learning_rate=5e-3, dropout=0.0)
    network = train_network(lists_with_a_rule(4000, 0), options)
    unseen = lists_with_a_rule(500, 1)
    assert unseen.recall() == pytest.approx(100 * (1 + 5 + 10) / 12, rel=0.1)
    best = scored(network, unseen).argmax(dim=1)
    assert float(unseen.true[torch.arange(500), best].float().mean()) > 0.6


def test_recalls_are_counted_by_hand() -> None:
    true = torch.zeros((4, 12), dtype=torch.bool)
    true[0, 0] = true[1, 4] = true[2, 9] = True  # the fourth list has none
    lists = TermLists(torch.zeros(4, 12, N_TERMS), true, torch.ones_like(true))
    assert lists.recall() == 25 + 50 + 75
    assert lists.recall(torch.arange(12.0).expand(4, 12)) == 0 + 25 + 50


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--folds", "1"], r"--folds: .*greater than or equal to 2, got 1"),
        (["--folds", "40"], r"40 folds need 80 images or more, .*:train has 60"),
        (["--dropped-candidates", "1"], r"--dropped-candidates: .*less than 1, got 1"),
        (["--device", "abacus"], r"abacus"),
    ],
)
def test_a_bad_flag_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], rule: str
) -> None:
    told = ["learned", "--checkpoint", str(folder / "ck"), "--data", str(folder / "data"), *flags]
    assert train(told) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(rule, said)
