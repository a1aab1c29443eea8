"""Every bad input of a build: exit 2, one sentence, and what is published stays as it is."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import main
from model.artifact.reader import open_artifact
from model.artifact.store import VersionStore
from model.core.types import Modality
from tests.index_builder.conftest import DIM, Built
from tests.index_builder.test_cli import sentences
from tests.model.encoders.test_vse import save_bigru
from tests.support.tiny_models import save_tiny_clip

REGION_DIM = 12

Captured = pytest.CaptureFixture[str]
BadInput = Callable[[Path, Path, Path], Sequence[str]]  # folder, encoder, root -> arguments


def built_from(gallery: Path | str, encoder: Path | str, root: Path, *flags: str) -> list[str]:
    return ["--gallery", str(gallery), "--encoder", str(encoder), "--out", str(root), *flags]


def published(root: Path) -> dict[str, str]:
    """Digest of every file that a reader of the index may open."""
    places = [root / "CURRENT", *(root / "versions").rglob("*"), *(root / "encoders").rglob("*")]
    files = [path for path in places if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def empty_gallery(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    return built_from(folder, encoder, root)


def precomp(folder: Path, *, n_captions: int, value: float) -> str:
    regions = np.ones((3, 4, REGION_DIM), dtype=np.float32)
    regions[1, 2, 3] = value
    np.save(folder / "dev_ims.npy", regions)
    (folder / "dev_caps.txt").write_text("a red star\n" * n_captions)
    return f"{folder}:dev"


def caption_line_short(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    return built_from(precomp(folder, n_captions=14, value=1.0), encoder, root)


def nan_in_features(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    _ = encoder
    vse = folder / "vse"
    vse.mkdir()
    gallery = precomp(folder, n_captions=15, value=np.nan)
    return built_from(gallery, save_bigru(vse, region_dim=REGION_DIM), root)


def nan_in_embeddings(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    _ = encoder
    rows = np.ones((5, DIM), dtype=np.float32)
    rows[3, 0] = np.nan
    np.save(folder / "image.npy", rows)
    return built_from(folder, "none", root)


def unreadable_images(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    for name in ("a.png", "b.png"):
        (folder / name).write_text("no\nimage")
    return built_from(folder, encoder, root, "--max-bad", "1")


def name_of_other_bytes(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(b"")
    return built_from(folder, encoder, root)


def folder_of_other_bytes(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    inside = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    inside.mkdir()
    np.save(inside / "image.npy", np.ones((5, DIM), dtype=np.float32))
    _ = encoder
    return built_from(inside, "none", root)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)


def flipped_byte_verified(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    _ = folder, encoder
    version = VersionStore(root).require(None)
    flip(root / "versions" / version / "image" / "embeddings.npy")
    return ["verify", "--index", str(root)]


def flipped_byte_activated(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    _ = folder, encoder
    version = VersionStore(root).names()[0]
    flip(root / "versions" / version / "text" / "hash.faiss")
    return ["activate", "--index", str(root), version]


def another_encoder_verified(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    _ = encoder
    (snapshot,) = (root / "encoders").iterdir()
    other = save_tiny_clip(folder / "other", seed=1)
    (snapshot / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    return ["verify", "--index", str(root)]


def another_encoder_activated(folder: Path, encoder: Path, root: Path) -> Sequence[str]:
    another_encoder_verified(folder, encoder, root)
    return ["activate", "--index", str(root), VersionStore(root).names()[0]]


@pytest.mark.parametrize(
    ("bad_input", "message"),
    [
        (empty_gallery, "bad holds no collection: looked for"),
        (caption_line_short, "got 14 captions for 3 rows"),
        (nan_in_features, "dev_ims.npy: row 1 has NaN or infinity"),
        (nan_in_embeddings, "image.npy: row 3 has NaN or infinity"),
        (unreadable_images, "2 records of"),
        (name_of_other_bytes, "a file name needs to be UTF-8"),
        (folder_of_other_bytes, "a file name needs to be UTF-8"),
        (flipped_byte_verified, "image/embeddings.npy, chunk 0"),
        (flipped_byte_activated, "text/hash.faiss, chunk 0"),
        (another_encoder_verified, "model.safetensors, chunk 0"),
        (another_encoder_activated, "model.safetensors, chunk 0"),
    ],
)
def test_a_bad_input_is_one_sentence_and_touches_nothing_published(
    photos: Path,
    clip: Path,
    build: Built,
    tmp_path: Path,
    capsys: Captured,
    bad_input: BadInput,
    message: str,
) -> None:
    build(photos, clip, z=5)
    root = build(photos, clip).root
    folder = tmp_path / "bad"
    folder.mkdir()
    arguments = bad_input(folder, clip, root)
    before = published(root)
    capsys.readouterr()
    assert main(list(arguments)) == 2
    (line,) = sentences(capsys.readouterr().err)
    assert line.startswith("meet-build: ")
    assert message in line
    assert published(root) == before


def test_unreadable_records_of_a_given_bank_are_told(
    photos: Path, vectors: Path, tmp_path: Path, clip: Path, capsys: Captured
) -> None:
    (photos / "3.png").write_text("no image")
    root = tmp_path / "root"
    assert main(built_from(vectors, clip, root, "--bank", str(photos))) == 0
    out = capsys.readouterr().out
    assert "1 records of the bank could not be read, skipped" in out
    assert f"  {photos / '3.png'}: an image is a" in out
    report = json.loads(next(root.rglob("report.json")).read_text())
    assert report["gallery"]["skipped"] == []
    assert [one["id"] for one in report["bank"]["skipped"]] == ["3"]
    bank = open_artifact(root).bank(Modality.IMAGE)
    assert bank is not None
    assert len(bank) == 11
