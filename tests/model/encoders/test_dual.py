from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from model.core.errors import CheckpointError, UnsupportedInputError
from model.core.types import FloatArray, InputKind
from model.encoders.opening import open_encoder, save_snapshot
from tests.support.tiny_models import save_tiny_clip, save_tiny_siglip

TEXTS = ["a red star", "two dogs run on the wet beach", "x"]
SAVERS = {"clip": save_tiny_clip, "siglip": save_tiny_siglip}


@pytest.fixture(scope="module", params=sorted(SAVERS))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVERS[request.param](tmp_path_factory.mktemp(request.param) / "model")


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(count)
    return [Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)) for _ in range(count)]


def directly(directory: Path, **inputs: list[Any]) -> FloatArray:
    """The features of transformers' own methods, one at a time, as unit rows."""
    model = AutoModel.from_pretrained(directory).eval()
    processor = AutoProcessor.from_pretrained(directory)
    padding = "max_length" if model.config.model_type == "siglip" else False
    with torch.inference_mode():
        if "text" in inputs:
            length = model.config.text_config.max_position_embeddings
            tokens = processor(
                **inputs, padding=padding, truncation=True, max_length=length, return_tensors="pt"
            )
            features = model.get_text_features(**tokens)
        else:
            features = model.get_image_features(**processor(**inputs, return_tensors="pt"))
    pooled = features if isinstance(features, torch.Tensor) else features.pooler_output
    return np.asarray((pooled / pooled.norm(dim=-1, keepdim=True))[0])


def test_texts_agree_with_transformers_one_at_a_time(directory: Path) -> None:
    found = open_encoder(directory).encode_texts(TEXTS)
    expected = np.stack([directly(directory, text=[text]) for text in TEXTS])
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_encoder_of_pieces_understands_something_of_every_text(directory: Path) -> None:
    assert open_encoder(directory).knows("zxcv ?!")


def test_images_agree_with_transformers_one_at_a_time(directory: Path) -> None:
    images = pictures(3)
    found = open_encoder(directory).encode_images(images)
    expected = np.stack([directly(directory, images=[image]) for image in images])
    assert found == pytest.approx(expected, abs=1e-5)


def test_more_items_than_a_block_come_back_in_order(directory: Path) -> None:
    encoder, images = open_encoder(directory), pictures(70)
    found = encoder.encode_images(images)
    assert found.shape[0] == 70
    assert found[69] == pytest.approx(encoder.encode_images(images[69:])[0], abs=1e-5)


def test_a_text_beyond_the_models_length_is_cut_not_refused(directory: Path) -> None:
    assert open_encoder(directory).encode_texts(["word " * 500]).shape[0] == 1


def test_a_dual_encoder_takes_no_regions(directory: Path) -> None:
    encoder = open_encoder(directory)
    assert InputKind.REGIONS not in encoder.identity.accepts
    with pytest.raises(UnsupportedInputError, match="accepts image, text, vector, got regions"):
        encoder.encode_regions(np.zeros((1, 2, 3), np.float32))


def test_a_snapshot_opens_with_the_same_digest(directory: Path, tmp_path: Path) -> None:
    digest = save_snapshot(directory, tmp_path / "copy")
    assert digest == open_encoder(directory).identity.digest
    assert digest == open_encoder(tmp_path / "copy").identity.digest


def test_changed_weights_change_the_digest(directory: Path, tmp_path: Path) -> None:
    digest = save_snapshot(directory, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert open_encoder(tmp_path / "copy").identity.digest != digest


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        open_encoder(tmp_path)


def test_pickled_weights_are_not_opened(directory: Path, tmp_path: Path) -> None:
    save_snapshot(directory, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no transformers model"):
        open_encoder(tmp_path)


def test_a_device_that_is_none_is_refused(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="'abacus'"):
        open_encoder(directory, "abacus")


def test_a_gpu_that_is_not_there_is_refused_by_its_number(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(CheckpointError, match="cuda:0 to cuda:1 on this machine, got 'cuda:2'"):
        open_encoder(directory, "cuda:2")
