"""`meet-eval` on small data in the field's layouts."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index_builder.cli import main as build
from model.core.errors import MissingExtraError
from model.training.coco import CocoMetrics, Retrieved
from model.training.eval_cli import main as evaluate
from model.training.train_cli import main as train
from tests.model.training.world import json_of, write_precomp
from tests.support.tiny_models import save_tiny_clip

Captured = pytest.CaptureFixture[str]
KEYS = {"base", "reference", "cascade", "protocols", "ranks", "intervals", "coco", "kept"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_precomp(tmp_path_factory.mktemp("data") / "f8k_precomp")


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "ck"
    told = ["vse", "--data", str(data), "--out", str(out), "--epochs", "2"]
    small = ["--embedding-dim", "16", "--gru-dim", "8", "--heads-n-bits", "16"]
    assert train([*told, *small, "--heads-n-subspaces", "2"]) == 0
    return out


@pytest.fixture
def measured(checkpoint: Path, capsys: Captured) -> Callable[..., dict[str, Any]]:
    def run(data: Path, split: str, *more: str) -> dict[str, Any]:
        capsys.readouterr()
        told = ["--checkpoint", str(checkpoint), "--data", str(data), "--split", split, "--json"]
        assert evaluate([*told, *more]) == 0
        return json_of(capsys.readouterr().out)

    return run


def as_split(source: Path, target: Path, split: str, images: slice, *, repeat: int = 1) -> Path:
    """Some of the dev images as a split of their own, each row so many times."""
    target.mkdir(parents=True, exist_ok=True)
    regions = np.load(source / "dev_ims.npy")[images]
    captions = (source / "dev_caps.txt").read_text().splitlines()
    own = captions[5 * images.start : 5 * images.stop]
    np.save(target / f"{split}_ims.npy", np.repeat(regions, repeat, axis=0))
    (target / f"{split}_caps.txt").write_text("\n".join(own) + "\n")
    return target


def test_repeated_images_give_the_numbers_of_single_ones(
    data: Path, tmp_path: Path, measured: Callable[..., dict[str, Any]]
) -> None:
    repeated = as_split(data, tmp_path / "f30k_precomp", "test", slice(0, 16), repeat=5)
    one = measured(data, "dev", "--bank", f"{data}:train")
    other = measured(repeated, "test", "--bank", f"{data}:train")
    assert one.pop("seconds")
    assert other.pop("seconds")
    assert one == other
    assert set(one) == KEYS
    assert len(one["base"]["i2t"]) == 3
    assert one["cascade"] == one["protocols"]["inductive"]
    assert one["ranks"]["base"]["i2t"].keys() == {"median", "mean"}
    assert one["coco"] is None


@pytest.mark.parametrize("repeat", [1, 5])
def test_coco_1k_is_the_mean_of_five_runs_and_coco_5k_is_all(
    repeat: int, tmp_path: Path, measured: Callable[..., dict[str, Any]]
) -> None:
    source = write_precomp(tmp_path / "source", dev=30, seed=3)
    whole = as_split(source, tmp_path / "coco_precomp", "testall", slice(0, 30), repeat=repeat)
    by_hand = []
    for start in range(0, 30, 6):
        run = as_split(source, tmp_path / str(start), "test", slice(start, start + 6))
        by_hand.append(measured(run, "test"))
    folded, once = measured(whole, "testall", "--folds", "5"), measured(whole, "testall")
    for name in ("base", "reference", "cascade"):
        for way in ("i2t", "t2i"):
            expected = np.mean([one[name][way] for one in by_hand], axis=0)
            assert folded[name][way] == pytest.approx(expected)
        mean = np.mean([one[name]["rsum"] for one in by_hand])
        assert folded[name]["rsum"] == pytest.approx(mean)
        assert once[name]["rsum"] < mean  # a larger gallery is harder


def test_without_draws_there_are_no_intervals(
    data: Path, measured: Callable[..., dict[str, Any]]
) -> None:
    assert measured(data, "dev", "--bootstrap", "0")["intervals"] is None
    assert measured(data, "dev", "--bootstrap", "7")["intervals"]["draws"] == 7


def test_a_report_is_written_as_json_tables_and_plots(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: Captured
) -> None:
    capsys.readouterr()
    told = ["--checkpoint", str(checkpoint), "--data", str(data), "--split", "dev"]
    assert evaluate([*told, "--out", str(tmp_path / "new/report")]) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "new/report"
    report = json_of((folder / "report.json").read_text())
    assert set(report) == KEYS | {"seconds"}
    text = (folder / "report.md").read_text()
    rsum = f"{report['base']['rsum']:.1f}"
    for said in (printed, text):
        assert re.search(rf"base\W.*{rsum}", said)
        assert re.search(r"transductive.*\+?-?\d+\.\d \(", said)
    curves = json_of((folder / "curves.json").read_text())
    assert [point["bytes_per_item"] for point in curves["fitted"]] == [8, 16, 32, 64]
    for name in re.findall(r"\]\((.*\.png)\)", text):
        with Image.open(folder / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 400
            shades = np.asarray(image.convert("L"))
            assert 0.02 < (shades < 128).mean() + (shades < 245).mean() < 0.5  # drawn, not filled


def test_an_index_is_reported_like_its_checkpoint(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: Captured
) -> None:
    gallery = ["--gallery", f"{data}:dev", "--bank", f"{data}:train"]
    root = tmp_path / "root"
    assert build([*gallery, "--encoder", str(checkpoint), "--out", str(root)]) == 0
    capsys.readouterr()
    told = ["--index", str(root), "--data", str(data), "--split", "dev", "--json"]
    assert evaluate([*told, "--out", str(tmp_path / "report")]) == 0
    found = json_of(capsys.readouterr().out)
    assert set(found["intervals"]["above_base"]) >= {"cascade", "inductive", "transductive"}
    assert found["ranks"]["cascade"] == found["ranks"]["inductive"]
    assert (tmp_path / "report/recall_kept.png").is_file()


class StandIn:
    """Takes what the package takes, and misses no id."""

    def __init__(self) -> None:
        self.asked: list[tuple[Retrieved, Retrieved]] = []

    def compute_all_metrics(
        self, i2t: Retrieved, t2i: Retrieved, /, **_: object
    ) -> dict[str, dict[str, float]]:
        self.asked.append((i2t, t2i))
        return {"cxc_r1": {"i2t": 0.5, "t2i": 0.125}}


def absent() -> CocoMetrics:
    raise MissingExtraError("ECCV Caption and CxC", "eccv_caption", "coco")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in Karpathy's layout of COCO, and a CLIP with random weights beside it."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "val2014").mkdir()
    rng, entries = np.random.default_rng(0), []
    for i in range(12):
        name = f"COCO_val2014_{i:012d}.png"
        pixels = rng.integers(0, 256, (36, 36, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "val2014" / name)
        sentences = [{"raw": f"picture {i} {k}", "sentid": 10 * i + k} for k in range(4 + i % 3)]
        about = {"filename": name, "filepath": "val2014", "split": "test", "cocoid": 100 + i}
        entries.append({**about, "sentences": sentences})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    save_tiny_clip(folder / "clip")
    return folder


def told_of(coco: Path, *more: str) -> list[str]:
    return ["--checkpoint", str(coco / "clip"), "--data", str(coco), "--split", "test", *more]


def test_coco_s_own_ids_bring_the_scores_of_its_judged_pairs(coco: Path, capsys: Captured) -> None:
    metrics = StandIn()
    assert evaluate(told_of(coco, "--json"), lambda: metrics) == 0
    found = json_of(capsys.readouterr().out)["coco"]
    assert found["base"] == found["cascade"] == {"cxc_r1": {"i2t": 50.0, "t2i": 12.5}}
    i2t, t2i = metrics.asked[0]
    assert sorted(i2t) == [100 + i for i in range(12)]
    assert len(t2i) == sum(4 + i % 3 for i in range(12))
    assert evaluate(told_of(coco), lambda: metrics) == 0
    assert re.search(r"base +50\.0 +12\.5", capsys.readouterr().out)


def test_without_the_package_one_line_says_what_to_install(coco: Path, capsys: Captured) -> None:
    assert evaluate(told_of(coco, "--json"), absent) == 0
    out, err = capsys.readouterr()
    assert json_of(out)["coco"] is None
    said = "meet-eval: the package eccv_caption is needed for ECCV Caption and CxC: "
    assert err.count(said + "pip install eccv_caption (extra coco)\n") == 1


def test_asked_for_by_a_file_of_ids_the_package_is_needed(
    coco: Path, tmp_path: Path, capsys: Captured
) -> None:
    ids = tmp_path / "ids.txt"
    lines = [f"{7 + i} {100 * i + k}" for i in range(12) for k in range(4 + i % 3)]
    ids.write_text("\n".join(lines) + "\n")
    metrics = StandIn()
    assert evaluate(told_of(coco, "--coco-ids", str(ids)), lambda: metrics) == 0
    assert sorted(metrics.asked[0][0]) == [7 + i for i in range(12)]
    assert evaluate(told_of(coco, "--coco-ids", str(ids)), absent) == 2
    assert "pip install eccv_caption (extra coco)" in capsys.readouterr().err
    folded = told_of(coco, "--coco-ids", str(ids), "--folds", "2")
    assert evaluate(folded, lambda: metrics) == 2
    assert "take the whole split: --folds must be 1, got 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--keep-hash", "0"], r"--keep-hash is a share of the gallery in \(0, 1\], got 0"),
        (["--keep-pq", "7"], "got 7"),
        (["--folds", "99"], "--folds must be 1 to the number of images 16, got 99"),
        (["--split", "nosuch"], "no split 'nosuch'"),
        (["--checkpoint", "nowhere"], "'nowhere'"),
        (["--bootstrap", "-1"], "--bootstrap must be 0 or more, got -1"),
        (["--seed", "-3"], "--seed must be 0 or more, got -3"),
        (["--out", "FILE"], "--out needs to be a folder, got the file .*file"),
        (["--coco-ids", "FILE"], "file needs a line for each of 80 captions, got 1"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    more: list[str], said: str, data: Path, checkpoint: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").write_text("1 2\n")
    more = [str(tmp_path / "file") if word == "FILE" else word for word in more]
    told = ["--checkpoint", str(checkpoint), "--data", str(data), "--split", "dev"]
    capsys.readouterr()
    assert evaluate([*told, *more], StandIn) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert "Traceback" not in error
