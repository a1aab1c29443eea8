"""Small galleries on disk, a tiny CLIP with random weights, and builds of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index_builder.options import BuildOptions
from index_builder.pipeline import build_version
from index_builder.planning import make_plan
from model.artifact.items import Item
from model.artifact.reader import Artifact, open_artifact
from model.artifact.store import VersionStore
from model.core.types import Modality
from tests.support.tiny_models import save_tiny_clip

N_PHOTOS = 12
CAPTIONS_EACH = 2
DIM = 32

Built = Callable[..., Artifact]


def items_of(artifact: Artifact, modality: Modality) -> list[Item]:
    """All items of one side, by row."""
    table = artifact.side(modality).items
    return [table[row] for row in range(len(table))]


@pytest.fixture
def build(tmp_path: Path) -> Built:
    """Builds a gallery into `tmp_path/root` and opens what was published."""

    def run(gallery: Path | str, encoder: Path | str = "none", **options: object) -> Artifact:
        out = tmp_path / "root"
        wanted = BuildOptions.model_validate(
            {"gallery": str(gallery), "encoder": str(encoder), "out": out, **options}
        )
        store = VersionStore(out)
        with store.lock():
            build_version(make_plan(wanted), store, show_progress=False)
        return open_artifact(out)

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights that gives DIM values."""
    return save_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """60 images and two texts near each of them, as npy files with captions."""
    folder = tmp_path / "vectors"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((60, DIM)).astype(np.float32)
    noise = rng.standard_normal((60 * CAPTIONS_EACH, DIM)).astype(np.float32)
    np.save(folder / "image.npy", images)
    np.save(folder / "text.npy", np.repeat(images, CAPTIONS_EACH, axis=0) + 1.8 * noise)
    lines = [f"caption {row}" for row in range(60 * CAPTIONS_EACH)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An image folder with a manifest: twelve pictures, two captions each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for row in range(N_PHOTOS):
        pixels = rng.integers(0, 256, size=(40, 30 + row, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
        captions = [f"picture {row}", f"the {row}th one"]
        lines.append(json.dumps({"path": f"{row}.png", "captions": captions, "number": row}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder
