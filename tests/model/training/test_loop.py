import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.core.errors import DataFormatError
from model.data.open import open_collection
from model.encoders.opening import open_encoder
from model.training import vse_training
from model.training.eval_cli import main as evaluate
from model.training.losses import contrastive_loss
from model.training.pairs import Pairs
from model.training.train_cli import main
from tests.model.training.world import write_precomp

SMALL = ["--embedding-dim", "16", "--gru-dim", "8", "--batch-size", "32", "--min-word-count", "1"]
SMALL += ["--word-embedding-dim", "8", "--heads-n-bits", "16", "--heads-n-subspaces", "2"]
SMALL += ["--heads-epochs", "1", "--epochs", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_precomp(tmp_path_factory.mktemp("data"))


def train(data: Path, out: Path, *more: str) -> int:
    return main(["vse", "--data", str(data), "--out", str(out), *SMALL, *more])


def contents(checkpoint: Path) -> dict[str, bytes]:
    names = ("encoder.json", "encoder.safetensors", "heads.safetensors", "stage_two.json")
    name = f'"name": "{checkpoint.name}"'.encode()
    return {n: (checkpoint / n).read_bytes().replace(name, b"") for n in names}


def watch_epochs(patched: pytest.MonkeyPatch, *killed_at: int) -> list[int]:
    """The epochs that runs begin from now on, filled as they do; the counted ones are fatal."""
    epoch, begun = vse_training._epoch, list[int]()

    def watched(number: int, *rest: object) -> float:
        begun.append(number)
        if len(begun) in killed_at:
            raise KeyboardInterrupt
        return epoch(number, *rest)  # type: ignore[arg-type]

    patched.setattr(vse_training, "_epoch", watched)
    return begun


def test_contrastive_loss_agrees_with_its_definition_written_out() -> None:
    rng = np.random.default_rng(4)
    images, texts = rng.standard_normal((2, 5, 3))
    ids, scale = [0, 1, 0, 2, 3], 2.0
    logits = scale * images @ texts.T
    total = 0.0
    for i in range(5):
        others = [j for j in range(5) if j == i or ids[j] != ids[i]]
        total -= logits[i, i] - np.log(np.exp(logits[i, others]).sum())
        total -= logits[i, i] - np.log(np.exp(logits[others, i]).sum())
    found = contrastive_loss(
        torch.tensor(images), torch.tensor(texts), torch.tensor(ids), torch.tensor(scale)
    )
    assert float(found) == pytest.approx(total / 10)


def test_an_epoch_meets_every_caption_once_and_no_image_three_times_in_a_batch(data: Path) -> None:
    pairs = Pairs.of(open_collection(data, "train"))
    batches = list(pairs.batches(37, np.random.default_rng(0)))
    rows = np.concatenate(batches)
    assert sorted(rows) == list(range(300))
    assert max(np.bincount(pairs.image_of_text[batch]).max() for batch in batches) <= 2


def test_held_out_images_and_their_captions_leave_the_rest(data: Path) -> None:
    pairs = Pairs.of(open_collection(data, "train"))
    kept, held = pairs.hold_out(0.1, seed=1)
    assert len(held.image_rows) == 6
    assert len(kept.image_rows) == 54
    assert set(kept.image_rows).isdisjoint(held.image_rows)
    for part in (kept, held):
        owners = part.image_rows[part.image_of_text]
        assert (pairs.collection.caption_record[part.text_rows] == owners).all()


def test_the_same_seed_gives_the_same_checkpoint_and_another_one_does_not(
    data: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        assert train(data, tmp_path / name, "--seed", seed) == 0
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one["encoder.safetensors"] != three["encoder.safetensors"]


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(data, tmp_path / "whole") == 0
    with monkeypatch.context() as patched:
        # The first three epochs are those of the encoder that Stage II is calibrated with.
        watch_epochs(patched, 5)
        assert train(data, tmp_path / "killed") == 130
    done = watch_epochs(monkeypatch)
    assert train(data, tmp_path / "killed") == 0
    assert done == [1, 2]
    whole, resumed = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert whole == resumed


def test_training_finds_what_captions_and_regions_share(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "ck", "--epochs", "30", "--averaging", "0.8") == 0
    stage_two = json.loads((tmp_path / "ck" / "stage_two.json").read_text())
    assert stage_two["calibrated_on"] == f"6 held-out images of {data.name}:train"
    assert load_file(tmp_path / "ck" / "heads.safetensors")["image.codebooks"].shape == (2, 256, 8)
    capsys.readouterr()
    told = ["--checkpoint", str(tmp_path / "ck"), "--data", str(data), "--split", "dev", "--json"]
    assert evaluate(told) == 0
    base = json.loads(capsys.readouterr().out)["base"]
    # By chance the first of 16 images is right every sixteenth time, one of 5 captions alike.
    assert base["t2i"][0] > 25
    assert base["i2t"][0] > 25


def test_wide_regions_are_reduced_to_their_principal_components(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "ck", "--region-components", "4") == 0
    basis = load_file(tmp_path / "ck" / "encoder.safetensors")["image.basis"].double()
    assert (basis.T @ basis).numpy() == pytest.approx(np.eye(4), abs=1e-5)
    train_regions = np.load(data / "train_ims.npy")
    embeddings = open_encoder(tmp_path / "ck").encode_regions(train_regions[:3])
    assert embeddings.shape == (3, 16)


def test_a_finished_run_is_trained_anew_and_changed_data_is_never_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_precomp(tmp_path / "data")
    with monkeypatch.context() as patched:
        done = watch_epochs(patched, 2, 4)
        assert train(data, tmp_path / "ck") == 130
        regions = np.load(data / "train_ims.npy")
        np.save(data / "train_ims.npy", regions + np.float16(1))
        assert train(data, tmp_path / "ck") == 130
    assert done == [0, 1, 0, 1]
    assert not (tmp_path / "ck").exists()
    assert train(data, tmp_path / "ck") == 0
    first = contents(tmp_path / "ck")
    assert not list((tmp_path / "ck.cache").glob("state*"))
    np.save(data / "train_ims.npy", regions)
    assert train(data, tmp_path / "ck") == 0
    assert contents(tmp_path / "ck")["encoder.safetensors"] != first["encoder.safetensors"]


def test_a_state_that_cannot_be_read_is_a_new_run(data: Path, tmp_path: Path) -> None:
    state = tmp_path / "ck.cache" / "state-rest"
    state.mkdir(parents=True)
    (state / "state.json").write_text("")
    assert train(data, tmp_path / "ck") == 0


def test_a_folder_that_is_no_checkpoint_is_not_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("dear")
    assert train(data, tmp_path / "letters") == 2
    assert "--out is a new folder or a checkpoint to replace" in capsys.readouterr().err
    assert (tmp_path / "letters" / "mine.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--batch-size", "0"], "--batch-size: Input should be greater than or equal to 2, got 0"),
        (["--heads-epochs", "0"], "--heads-epochs: "),
        (["--heads-n-bits", "20"], "hash codes need a multiple of 8 bits, got K=20"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (["--held-out", "1.5"], "--held-out: Input should be less than 1, got 1.5"),
        (["--device", "abacus"], "a device is cpu or cuda[:n], got 'abacus'"),
        (["--text", "nowhere"], "'nowhere'"),
    ],
)
def test_a_bad_flag_is_refused_in_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert train(data, tmp_path / "ck", *more) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_data_set_without_pairs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "train_ims.npy", np.ones((2, 3, 4), np.float16))
    (tmp_path / "train_caps.txt").write_text("one\n" * 9)
    assert train(tmp_path, tmp_path / "ck") == 2
    assert "9 captions for 2 rows" in capsys.readouterr().err


def test_not_a_number_in_features_is_refused_with_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_precomp(tmp_path)
    regions = np.load(tmp_path / "train_ims.npy")
    regions[7, 1, 2] = np.nan
    np.save(tmp_path / "train_ims.npy", regions)
    assert train(tmp_path, tmp_path / "ck") == 2
    assert "row 7 has NaN" in capsys.readouterr().err
    assert not (tmp_path / "ck" / "encoder.json").exists()


def test_a_single_image_cannot_be_held_out_from(tmp_path: Path) -> None:
    write_precomp(tmp_path, images=1)
    with pytest.raises(DataFormatError, match="two images or more, got 1"):
        Pairs.of(open_collection(tmp_path, "train")).hold_out(0.1, 0)
