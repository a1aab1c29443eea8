"""`meet-train pillar` and its benchmark, from a checkpoint on disk to a table."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.pillar import main as benchmark
from benchmarks.pillar_linear import main as linear
from model.core.types import Direction
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.reranker import PILLAR_FILE, PillarReranker
from model.training.pillar_options import RECIPES, Optimiser, PillarRecipe
from model.training.train_cli import main as train
from tests.model.training.world import write_precomp

SMALL = ["--width", "16", "--heads", "2", "--epochs", "1", "--batch-size", "64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a tiny VSE, and a pillar re-ranker trained for it."""
    folder = tmp_path_factory.mktemp("pillar")
    data = str(write_precomp(folder / "data"))
    told = ["vse", "--data", data, "--out", str(folder / "ck"), "--epochs", "1"]
    told += ["--embedding-dim", "16", "--gru-dim", "8", "--word-embedding-dim", "8"]
    told += ["--min-word-count", "1", "--heads-n-bits", "16", "--heads-n-subspaces", "2"]
    assert train([*told, "--heads-epochs", "1"]) == 0
    told = ["pillar", "--checkpoint", str(folder / "ck"), "--data", data, *SMALL]
    assert train([*told, "--pool-images", "30"]) == 0
    return folder


def test_a_pillar_reranker_lies_in_its_checkpoint(folder: Path) -> None:
    trained = PillarReranker.load(folder / "ck" / PILLAR_FILE)
    assert set(trained.networks) == set(Direction)
    assert (trained.config.width, trained.config.heads) == (16, 2)
    assert trained.trained_on == "data:train"
    assert not list((folder / "ck.cache").glob("pillar-state*"))


def test_the_same_seed_gives_the_same_weights(folder: Path) -> None:
    told = ["pillar", "--checkpoint", str(folder / "ck"), "--data", str(folder / "data"), *SMALL]
    again, other = folder / "again.safetensors", folder / "other.safetensors"
    assert train([*told, "--pool-images", "30", "--out", str(again)]) == 0
    assert train([*told, "--pool-images", "30", "--out", str(other), "--seed", "1"]) == 0
    first = load_file(folder / "ck" / PILLAR_FILE)
    # Embeddings that are computed anew may differ in their last bits: so may what follows.
    assert apart(first, load_file(again)) < 1e-3 < 1e-2 < apart(first, load_file(other))


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--heads", "7"], "divide the width 128 into equal parts, got 7"),
        (["--hinge", "-1"], r"--hinge: .*greater than or equal to 0, got -1"),
        (["--pool-images", "1"], r"--pool-images: .*2, got 1"),
    ],
)
def test_a_bad_flag_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], rule: str
) -> None:
    told = ["pillar", "--checkpoint", str(folder / "ck"), "--data", str(folder / "data"), *flags]
    assert train(told) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(rule, said)


def test_the_benchmark_applies_own_and_transferred_weights(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--checkpoint", str(folder / "ck"), "--data", str(folder / "data"), "--split", "dev"]
    assert benchmark([*told, "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    shutil.copytree(folder / "ck", folder / "other")
    PillarReranker.untrained(PillarReranker.load(folder / "ck" / PILLAR_FILE).config, 9).save(
        folder / "other" / PILLAR_FILE
    )
    bank = f"{folder / 'data'}:train"
    other = ["--transfer-from", str(folder / "other"), "--bank", bank, "--json"]
    assert benchmark([*told, *other]) == 0
    moved = json.loads(capsys.readouterr().out)
    assert moved["base"] == own["base"]
    assert moved["bonus"] == own["bonus"]
    assert moved["pillar"] != own["pillar"]
    assert own["inductive"] is None
    assert moved["inductive"]["rsum"] > 0


def test_a_checkpoint_without_a_pillar_reranker_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = shutil.copytree(folder / "ck", folder / "bare", ignore=lambda *_: [PILLAR_FILE])
    told = ["--checkpoint", str(bare), "--data", str(folder / "data"), "--split", "dev"]
    assert benchmark(told) == 2
    assert "pillar.safetensors holds no pillar re-ranker" in capsys.readouterr().err


def test_the_linear_benchmark_trains_saves_and_measures_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--data", str(folder / "data"), "--folds", "2", "--json"]
    small, weights = ["--width", "16", "--heads", "2", "--epochs", "1"], folder / "linear.st"
    assert linear([*told, *small, "--out", str(weights)]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert linear([*told, "--weights", str(weights)]) == 0
    assert json.loads(capsys.readouterr().out) == trained
    assert linear([*told[:2], "--folds", "1"]) == 2
    assert "--folds is 0 or at least 2, got 1" in capsys.readouterr().err


def test_the_released_recipe_is_the_papers() -> None:
    released = RECIPES[PillarRecipe.RELEASED]
    assert released.config() == PillarConfig()
    assert (released.epochs, released.batch_size, released.momentum) == (30, 512, 0.9)
    assert released.optimiser is Optimiser.SGD
    assert released.learning_rate == pytest.approx(0.01 * released.batch_size / 256)
    assert released.weight_decay == 0.0
    weights = (released.contrastive, released.triplet, released.hinge, released.alignment)
    assert weights == (1.0, 1.0, 1.0, 1.0)
