"""The bundled model on scenes that it was not trained on: built, served, asked, measured."""

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.smoke import main as smoke
from index_builder.cli import main as build
from index_builder.scenes.generate import generate_gallery
from index_builder.scenes.sample import sample_scenes
from index_builder.scenes.split import SceneSplit, split_of
from model.training.eval_cli import main as evaluate

BUNDLED = Path(__file__).resolve().parent.parent / "model/bundled/scenes"
SEED = 11  # another one than that of the training scenes and of the demo


def test_the_bundled_weights_are_small() -> None:
    sizes = [path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()]
    assert 0 < sum(sizes) <= 5_000_000


@pytest.mark.parametrize("split", [SceneSplit.DEMO, SceneSplit.TEST])
def test_no_scene_shown_or_measured_may_be_a_training_scene(split: SceneSplit) -> None:
    for scene in islice(sample_scenes(split, SEED), 300):
        assert split_of(scene.description) is split is not SceneSplit.TRAIN


@pytest.mark.slow
def test_a_server_of_the_bundled_model_finds_true_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate_gallery(tmp_path / "gallery", SceneSplit.DEMO, n_scenes=300, seed=SEED)
    told = ["--gallery", tmp_path / "gallery", "--encoder", BUNDLED, "--out", tmp_path / "index"]
    assert build([str(word) for word in told]) == 0
    assert smoke(["--index", str(tmp_path / "index")]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_the_bundled_model_ranks_new_scenes_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate_gallery(tmp_path / "data", SceneSplit.TEST, n_scenes=200, seed=SEED)
    checkpoint = shutil.copytree(BUNDLED, tmp_path / "scenes")  # features are kept beside it
    told = ["--checkpoint", str(checkpoint), "--data", str(tmp_path / "data"), "--split", "test"]
    assert evaluate([*told, "--json"]) == 0
    base = json.loads(capsys.readouterr().out)["base"]
    assert base["i2t"][2] >= 80
    assert base["t2i"][2] >= 80
