"""Small collections on disk, made as other tools make them."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ImageBytes = Callable[..., bytes]
TarWriter = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture
def image_bytes() -> ImageBytes:
    def make(
        size: tuple[int, int] = (8, 6), mode: str = "RGB", kind: str = "JPEG", **save: object
    ) -> bytes:
        out = io.BytesIO()
        Image.new(mode, size).save(out, kind, **save)
        return out.getvalue()

    return make


@pytest.fixture
def write_tar() -> TarWriter:
    def write(path: Path, members: Mapping[str, bytes]) -> Path:
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def precomp(tmp_path: Path) -> Path:
    """Three images with 4 regions of 2 dimensions and five captions each, with ids."""
    regions = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    np.save(tmp_path / "dev_ims.npy", regions)
    captions = [f"caption {i} of image {image}" for image in range(3) for i in range(5)]
    (tmp_path / "dev_caps.txt").write_text("\n".join(captions) + "\n")
    (tmp_path / "dev_ids.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    return tmp_path


def sample_json(*captions: str, **others: object) -> bytes:
    return json.dumps({"captions": captions, **others}).encode()
