import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.checkpoint import open_checkpoint
from model.core.errors import CheckpointError
from model.core.types import Direction, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.training.heads_training import train_heads
from model.training.options import HeadsOptions
from model.training.train_cli import main as train
from tests.support.tiny_models import save_tiny_clip


def write_photos(folder: Path, count: int = 24) -> Path:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(count):
        pixels = rng.integers(0, 255, (36, 36, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        captions = [f"picture {i}", f"the number {i}"]
        lines.append(json.dumps({"path": f"images/{i}.png", "captions": captions}))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def test_heads_for_a_frozen_encoder_end_up_in_a_checkpoint_of_their_own(tmp_path: Path) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    data = write_photos(tmp_path / "data")
    told = ["heads", "--encoder", str(clip), "--data", str(data), "--out", str(tmp_path / "ck")]
    assert train([*told, "--heads-n-bits", "32", "--heads-epochs", "2"]) == 0
    plain, trained = open_checkpoint(clip), open_checkpoint(tmp_path / "ck")
    assert plain.heads is None
    assert trained.heads is not None
    assert trained.heads.config == HeadsConfig(embedding_dim=32, n_bits=32)
    assert trained.stage_two is not None
    assert set(trained.stage_two.weights) == set(Direction)
    texts = ["a picture", "the number 7"]
    assert (trained.encoder.encode_texts(texts) == plain.encoder.encode_texts(texts)).all()


def test_heads_can_be_trained_again_for_a_checkpoint_of_heads(tmp_path: Path) -> None:
    clip, data = save_tiny_clip(tmp_path / "clip"), write_photos(tmp_path / "data")
    told = ["heads", "--data", str(data), "--heads-epochs", "1", "--heads-n-bits"]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert train([*told, "32", "--encoder", str(clip), "--out", first]) == 0
    assert train([*told, "16", "--encoder", first, "--out", second]) == 0
    one, two = open_checkpoint(first), open_checkpoint(second)
    assert two.encoder.identity.digest == one.encoder.identity.digest
    assert two.heads is not None
    assert two.heads.config.n_bits == 16


def test_heads_of_another_width_are_refused(tmp_path: Path) -> None:
    clip = save_tiny_clip(tmp_path / "clip")
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    config = HeadsConfig(embedding_dim=8, n_bits=8, n_subspaces=1, n_centroids=16)
    fit_heads(config, {Modality.IMAGE: rows}, 0).save(clip / "heads.safetensors")
    with pytest.raises(CheckpointError, match="fits D=8, the encoder gives D=32"):
        open_checkpoint(clip)


def test_trained_heads_rank_pairs_better_than_the_fitted_ones_they_start_from() -> None:
    rng = np.random.default_rng(2)
    owners = np.repeat(np.arange(300), 2)
    images = l2_normalised(rng.standard_normal((300, 32)).astype(np.float32))
    noise = rng.standard_normal((600, 32)) * 0.15
    texts = l2_normalised((images[owners] + noise).astype(np.float32))
    embeddings = {Modality.IMAGE: images, Modality.TEXT: texts}
    options = HeadsOptions(n_bits=16, n_subspaces=2, epochs=8, batch_size=64)
    fitted = fit_heads(HeadsConfig(embedding_dim=32, n_bits=16, n_subspaces=2), embeddings, 0)
    trained = train_heads(embeddings, owners, options)

    def mean_distance_of_true_pairs(heads: Heads) -> float:
        codes = {m: heads.encode(m, embeddings[m]).hash_codes for m in Modality}
        differ = np.bitwise_count(codes[Modality.IMAGE][owners] ^ codes[Modality.TEXT]).sum(axis=1)
        return float(differ.mean())

    assert mean_distance_of_true_pairs(trained) < mean_distance_of_true_pairs(fitted)
