"""The routes of a shard, with an encoder that can be calculated by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from index_builder.encode import Route, ShardEncoder, routes_of
from index_builder.shards import EncodedShard
from index_builder.sources import Source
from model.core.errors import DataFormatError, UnsupportedInputError
from model.core.types import FloatArray, InputKind
from model.core.vectors import l2_normalised
from model.data.selection import whole
from model.encoders.protocols import Encoder, EncoderIdentity, EncoderKind

DIM = 2
N_IMAGES, CAPTIONS_EACH = 3, 5


class MeanOfRegions:
    """The direction of the regions' mean; of a text, one that tells its length."""

    accepts = frozenset({InputKind.REGIONS, InputKind.TEXT})

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        raise AssertionError(images)

    def encode_regions(self, regions: NDArray[np.floating]) -> FloatArray:
        return l2_normalised(regions.mean(axis=1).astype(np.float32))

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        return l2_normalised(np.array([[1.0, len(text)] for text in texts], dtype=np.float32))


def encoder(*accepts: InputKind) -> Encoder:
    identity = EncoderIdentity(
        name="mean",
        kind=EncoderKind.VSE,
        embedding_dim=DIM,
        accepts=accepts,
        preprocessing_digest="p",
        digest="d",
    )
    return Encoder(identity, MeanOfRegions(), MeanOfRegions())


@pytest.fixture
def precomp(tmp_path: Path) -> Path:
    regions = np.arange(1, 1 + N_IMAGES * 4 * DIM, dtype=np.float32).reshape(N_IMAGES, 4, DIM)
    np.save(tmp_path / "dev_ims.npy", regions)
    lines = ["a" * (1 + row) for row in range(N_IMAGES * CAPTIONS_EACH)]
    (tmp_path / "dev_caps.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def encoded(folder: Path, with_encoder: Encoder, batch_size: int = 2) -> EncodedShard:
    source, done = Source.open(f"{folder}:dev"), list[int]()
    shard = ShardEncoder(
        source,
        with_encoder,
        routes_of(source, with_encoder),
        batch_size=batch_size,
        thumbnails=True,
        progress=done.append,
    )(whole(source.collection))
    assert sum(done) == len(shard.images) + len(shard.texts)
    return shard


def test_regions_and_captions_go_through_the_encoder(precomp: Path) -> None:
    shard = encoded(precomp, encoder(InputKind.REGIONS, InputKind.TEXT))
    # Regions of image 0 are (1, 2) (3, 4) (5, 6) (7, 8): their mean is (4, 5).
    np.testing.assert_allclose(shard.images[0], np.array([4, 5]) / np.sqrt(41), atol=1e-3)
    np.testing.assert_allclose(shard.texts[2], np.array([1, 3]) / np.sqrt(10), atol=1e-3)
    assert shard.image_rows.tolist() == [0, 1, 2]
    assert shard.text_rows.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert shard.thumbnails == ()


def test_captions_stay_out_where_the_encoder_takes_no_text(precomp: Path) -> None:
    only_regions = encoder(InputKind.REGIONS)
    assert routes_of(Source.open(f"{precomp}:dev"), only_regions).text is Route.ABSENT
    shard = encoded(precomp, only_regions)
    assert (len(shard.images), len(shard.texts), len(shard.text_rows)) == (N_IMAGES, 0, 0)


def test_nan_in_regions_names_file_and_row(precomp: Path) -> None:
    path = precomp / "dev_ims.npy"
    regions = np.load(path)
    regions[2, 1, 0] = np.nan
    np.save(path, regions)
    with pytest.raises(DataFormatError, match=rf"{path}.*row 2"):
        encoded(precomp, encoder(InputKind.REGIONS, InputKind.TEXT))


def test_a_caption_line_short_names_the_file(precomp: Path) -> None:
    path = precomp / "dev_caps.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataFormatError, match=rf"{path}"):
        Source.open(f"{precomp}:dev")


def test_an_encoder_of_texts_alone_refuses_regions(precomp: Path) -> None:
    with pytest.raises(UnsupportedInputError, match="accepts text, got regions"):
        encoded(precomp, encoder(InputKind.TEXT))
