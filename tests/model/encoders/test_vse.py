from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.core.errors import CheckpointError, UnsupportedInputError, VectorRejectedError
from model.core.types import InputKind
from model.encoders import towers
from model.encoders.opening import EncoderFile, open_encoder, write_encoder_file
from model.encoders.protocols import Encoder, EncoderKind
from model.encoders.towers import VSE, TextTowerKind, VSEConfig
from model.encoders.transformer_words import TransformerWords
from model.encoders.vocabulary import SPECIAL_WORDS, UNKNOWN, Vocabulary, WordRule
from model.encoders.vse import VSEImageEncoder, VSEParts, WordTable, save_vse
from tests.support.tiny_models import save_tiny_bert, save_tiny_resnet

WORDS = Vocabulary(("a", "red", "star", "dog"))


def save_bigru(
    directory: Path, *, grid: int | None = None, region_dim: int = 12, views: int = 1
) -> Path:
    torch.manual_seed(1)
    config = VSEConfig(
        region_dim=region_dim,
        word_dim=18,
        text=TextTowerKind.BIGRU,
        embedding_dim=16,
        vocabulary_size=len(WORDS),
        word_embedding_dim=10,
        grid=grid,
        views=views,
    )
    vse = VSE(config)
    assert vse.words is not None
    table = WordTable(vse.words, WORDS, config.max_words)
    save_vse(VSEParts(config, vse, table, None), directory)
    write_encoder_file(directory, EncoderFile(kind=EncoderKind.VSE, name="tiny", vse=config))
    return directory


def save_bert_vse(directory: Path) -> Path:
    words = TransformerWords(save_tiny_bert(directory / "text"), 16)
    config = VSEConfig(
        region_dim=12, word_dim=words.word_dim, text=TextTowerKind.TRANSFORMER, embedding_dim=16
    )
    torch.manual_seed(1)
    save_vse(VSEParts(config, VSE(config), words, None), directory)
    write_encoder_file(directory, EncoderFile(kind=EncoderKind.VSE, name="tiny", vse=config))
    return directory


@pytest.fixture(scope="module", params=["bigru", "bert"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    save = {"bigru": save_bigru, "bert": save_bert_vse}[request.param]
    return open_encoder(save(tmp_path_factory.mktemp(request.param)))


def test_a_text_means_the_same_alone_and_among_longer_ones(encoder: Encoder) -> None:
    texts = ["red", "a red star a dog a red star", "a dog", "unheard words"]
    together = encoder.encode_texts(texts)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-6)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-6)


def test_regions_mean_the_same_in_any_block(encoder: Encoder) -> None:
    regions = np.random.default_rng(0).standard_normal((70, 5, 12)).astype(np.float16)
    together = encoder.encode_regions(regions)
    assert together[69] == pytest.approx(encoder.encode_regions(regions[69:])[0], abs=1e-6)


def test_without_a_backbone_only_regions_are_accepted(encoder: Encoder) -> None:
    assert InputKind.REGIONS in encoder.identity.accepts
    assert InputKind.IMAGE not in encoder.identity.accepts
    with pytest.raises(UnsupportedInputError, match="got image"):
        encoder.encode_images([Image.new("RGB", (8, 8))])


def test_regions_of_another_width_are_refused(encoder: Encoder) -> None:
    with pytest.raises(VectorRejectedError, match=r"\(B, R, 12\), got \(1, 2, 3\)"):
        encoder.encode_regions(np.zeros((1, 2, 3), np.float32))


def test_a_backbone_turns_images_into_its_pooled_grid(tmp_path: Path) -> None:
    directory = save_tiny_resnet(tmp_path / "vision")
    opened = open_encoder(save_bigru(tmp_path, grid=2, region_dim=8))
    image = Image.fromarray(np.random.default_rng(2).integers(0, 255, (32, 32, 3), np.uint8))
    assert isinstance(opened.image, VSEImageEncoder)
    backbone = opened.image.parts.backbone
    assert backbone is not None
    with torch.no_grad():
        grid = backbone.model(pixel_values=backbone.pixels([image])).last_hidden_state  # (1,8,4,4)
    expected = torch.stack(
        [grid[0, :, y : y + 2, x : x + 2].mean(dim=(1, 2)) for y in (0, 2) for x in (0, 2)]
    )
    found = backbone.regions([image], torch.device("cpu"))[0]
    assert found == pytest.approx(expected.numpy(), abs=1e-3)
    by_image, by_regions = opened.encode_images([image]), opened.encode_regions(found[None])
    assert by_image == pytest.approx(by_regions, abs=1e-6)
    assert directory.name == "vision"


def test_with_two_views_a_photo_and_its_mirror_image_mean_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_tiny_resnet(tmp_path / name / "vision")
    one = open_encoder(save_bigru(tmp_path / "one", grid=2, region_dim=8))
    two = open_encoder(save_bigru(tmp_path / "two", grid=2, region_dim=8, views=2))
    photo = Image.fromarray(np.random.default_rng(2).integers(0, 255, (32, 32, 3), np.uint8))
    pair = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    alone, both = one.encode_images(pair), two.encode_images(pair)
    assert abs(alone[0] - alone[1]).max() > 1e-3
    assert both[0] == pytest.approx(both[1], abs=1e-5)
    assert both[0] == pytest.approx(alone.sum(0) / np.linalg.norm(alone.sum(0)), abs=1e-5)
    with pytest.raises(VectorRejectedError, match="multiple of the encoder's 2 views, got R=3"):
        two.encode_regions(np.zeros((1, 3, 8), np.float32))


def test_in_training_a_sample_loses_features_in_all_of_its_rows() -> None:
    valid = torch.tensor([[True, True, False], [True, True, True]])
    torch.manual_seed(0)
    factors = towers._kept_features(valid, 1000, 0.3)
    assert (factors[0] == factors[1]).all()
    assert (factors[2] == factors[4]).all()
    assert (factors[0] != factors[2]).any()
    assert sorted(set(factors.flatten().tolist())) == pytest.approx([0, 1 / 0.7])
    assert float(factors.mean()) == pytest.approx(1, abs=0.05)


def test_unknown_words_share_one_id_and_counts_decide_who_is_known() -> None:
    vocabulary = Vocabulary.of(["a star, a star", "a dog"], min_count=2)
    assert vocabulary.words == ("a", "star")
    assert vocabulary.ids("A cat star", 10) == [2, UNKNOWN, 3]
    assert vocabulary.ids("", 10) == [UNKNOWN]
    assert vocabulary.ids("a a a", 2) == [2, 2]


def test_a_vocabulary_that_does_not_fit_its_weights_is_refused(tmp_path: Path) -> None:
    save_bigru(tmp_path)
    Vocabulary(("a",)).save(tmp_path / "vocabulary.json")
    with pytest.raises(CheckpointError, match="needs its 6 words, got 3"):
        open_encoder(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_bigru(tmp_path, region_dim=14)
    config = VSEConfig(region_dim=12, word_dim=310, text=TextTowerKind.BIGRU, vocabulary_size=6)
    write_encoder_file(tmp_path, EncoderFile(kind=EncoderKind.VSE, name="tiny", vse=config))
    with pytest.raises(CheckpointError, match="does not hold this VSE"):
        open_encoder(tmp_path)


def test_what_is_known_of_a_text_is_told_by_the_words_of_a_vocabulary(encoder: Encoder) -> None:
    assert encoder.text is not None
    in_pieces = not isinstance(encoder.text.parts.words, WordTable)  # type: ignore[attr-defined]
    assert encoder.knows("Dog")
    assert encoder.knows("zxcv red!")
    assert encoder.knows("zxcv") is in_pieces


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        ("red", True),
        ("zxcv RED", True),
        ("zxcv", False),
        (".", False),  # in the vocabulary, but no word
        ("", False),
        ("red?", True),
        ("zxcv zxcv zxcv red", False),  # behind the words that are read
    ],
)
@pytest.mark.parametrize("rule", WordRule)
def test_a_text_is_known_by_one_of_the_words_that_are_read(
    text: str, is_known: bool, rule: WordRule
) -> None:
    special = SPECIAL_WORDS if rule is WordRule.RELEASED else ()
    most = 3 + (2 if rule is WordRule.RELEASED else 0)  # with the words that frame a text
    assert Vocabulary((*special, "red", ".", "?"), rule).knows(text, most) is is_known
