"""Whole training runs: from a data set on disk to a checkpoint directory."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from model.checkpoint import HEADS_FILE, STAGE_TWO_FILE
from model.core.errors import DataFormatError
from model.core.types import FloatArray, Modality
from model.data.open import open_collection
from model.data.records import Collection
from model.encoders.backbone import GridBackbone
from model.encoders.opening import (
    EncoderFile,
    copy_part,
    open_encoder,
    save_snapshot,
    write_encoder_file,
)
from model.encoders.protocols import EncoderKind
from model.encoders.towers import VSE, TextTowerKind, VSEConfig
from model.encoders.transformer_files import digest_files, model_files, resolve
from model.encoders.transformer_words import TransformerWords
from model.encoders.vocabulary import Vocabulary
from model.encoders.vse import TEXT, VISION, VSEParts, WordTable, save_vse
from model.training.calibration import calibrate
from model.training.embedding import embed_pairs
from model.training.features import (
    WordIds,
    WordSource,
    image_features,
    word_states,
)
from model.training.heads_training import train_heads
from model.training.options import HeadsOptions, VSEOptions
from model.training.pairs import Pairs
from model.training.state import RunState
from model.training.vse_training import SplitFeatures, Trained, embed, train_vse

BIGRU = "bigru"
DEV_NAMES = ("dev", "val")
LIST_DEPTH = 128
TRAINING_FILE = "training.json"

Embeddings = Mapping[Modality, FloatArray]


@dataclass(frozen=True)
class Splits:
    """What a run learns from, calibrates on, and shows its progress with."""

    train: Pairs
    held_out: Pairs
    dev: Pairs

    @classmethod
    def of(cls, data: str, held_out: float, seed: int) -> "Splits":
        """Splits of a data set: its `train` less a seeded share, and `dev` or `val` if there."""
        whole = Pairs.of(open_collection(data, "train"))
        train, held = whole.hold_out(held_out, seed)
        return cls(train, held, _dev(data) or held)


def run_vse(
    data: str,
    out: Path,
    text: str,
    vision: str | None,
    options: VSEOptions,
    heads: HeadsOptions,
    device: torch.device,
) -> None:
    """Train a VSE with its heads and weights; everything it needs ends up in `out`."""
    splits = Splits.of(data, options.held_out, options.seed)
    cache = cache_of(out)
    backbone = GridBackbone(resolve(vision), options.grid).to(device) if vision else None
    frozen = backbone is not None and backbone.pretrained
    tower = _TextSide.of(text, splits.train, options, device)

    def features(pairs: Pairs) -> SplitFeatures:
        images = image_features(pairs, backbone, cache, frozen=frozen, device=device)
        return SplitFeatures(images, tower.words_of(pairs, cache), pairs.image_of_text)

    train = features(splits.train)
    config = _config(train, backbone, tower, options, frozen=frozen)
    torch.manual_seed(options.seed)
    model = Trained(VSE(config), None if frozen else backbone, options.temperature)
    _standardise(model, train, tower)
    state = RunState(cache / "state", _key(data, text, vision, options))
    trained = train_vse(
        model, train, features(splits.dev), splits.train.batches, options, state, device
    )
    _save_encoder(trained, config, out, text, vision, tower)
    embeddings = embed(trained, train, device)
    held_out = embed(trained, features(splits.held_out), device)
    _finish(splits, embeddings, held_out, out, heads, {"vse": options.model_dump()}, data)


def run_heads(
    data: str, out: Path, encoder: str, held_out: float, options: HeadsOptions, device: str
) -> None:
    """Train heads and weights for an encoder as it is; `out` holds a copy of it."""
    splits = Splits.of(data, held_out, options.seed)
    opened = open_encoder(encoder, device)
    target = out / EncoderKind.DUAL.value if opened.identity.kind is EncoderKind.DUAL else out
    save_snapshot(encoder, target)
    if opened.identity.kind is EncoderKind.DUAL:
        write_encoder_file(out, EncoderFile(kind=EncoderKind.DUAL, name=opened.identity.name))
    train, held = (
        embed_pairs(opened, pairs, cache_of(out)) for pairs in (splits.train, splits.held_out)
    )
    _finish(splits, train, held, out, options, {"encoder": opened.identity.name}, data)


def cache_of(checkpoint: Path) -> Path:
    """Where extracted features are kept: beside the checkpoint."""
    return checkpoint.with_name(checkpoint.name + ".cache")


def _finish(
    splits: Splits,
    train: Embeddings,
    held_out: Embeddings,
    out: Path,
    options: HeadsOptions,
    described: Mapping[str, object],
    data: str,
) -> None:
    heads = train_heads(train, splits.train.image_of_text, options)
    heads.save(out / HEADS_FILE)
    name = f"{len(splits.held_out.image_rows)} held-out images of {Path(data).name}:train"
    tqdm.write(f"calibrating Stage II on {name}")
    stage_two = calibrate(held_out, splits.held_out.image_of_text, train, LIST_DEPTH, name)
    (out / STAGE_TWO_FILE).write_text(stage_two.model_dump_json(indent=2) + "\n")
    record = {**described, "heads": options.model_dump(), "data": Path(data).name}
    (out / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n")


@dataclass(frozen=True)
class _TextSide:
    """The text tower's input: a vocabulary to learn words of, or a frozen transformer."""

    vocabulary: Vocabulary | None
    transformer: TransformerWords | None
    digest: str
    max_words: int

    @classmethod
    def of(cls, text: str, train: Pairs, options: VSEOptions, device: torch.device) -> "_TextSide":
        if text == BIGRU:
            vocabulary = Vocabulary.of(train.captions, options.min_word_count)
            return cls(vocabulary, None, "", options.max_words)
        directory = resolve(text)
        words = TransformerWords(directory, options.max_words).to(device)
        digest = digest_files(directory, model_files(directory))
        return cls(None, words, digest, options.max_words)

    def words_of(self, pairs: Pairs, cache: Path) -> WordSource:
        if self.transformer is not None:
            return word_states(pairs, self.transformer, cache, self.digest)
        vocabulary = self.vocabulary or Vocabulary(())
        return WordIds.of(pairs.captions, vocabulary, self.max_words)


def _config(
    train: SplitFeatures,
    backbone: GridBackbone | None,
    tower: _TextSide,
    options: VSEOptions,
    *,
    frozen: bool,
) -> VSEConfig:
    words, vocabulary = tower.transformer, tower.vocabulary
    region_dim = train.images.shape[2] if frozen or backbone is None else backbone.width
    return VSEConfig(
        region_dim=region_dim,
        word_dim=words.word_dim if words else options.gru_dim + options.word_embedding_dim,
        text=TextTowerKind.TRANSFORMER if words else TextTowerKind.BIGRU,
        embedding_dim=options.embedding_dim,
        vocabulary_size=len(vocabulary) if vocabulary else 0,
        word_embedding_dim=options.word_embedding_dim,
        max_words=options.max_words,
        grid=backbone.grid if backbone else None,
        input_dropout=options.input_dropout,
        drop_rows=options.drop_rows,
    )


def _standardise(model: Trained, train: SplitFeatures, tower: _TextSide) -> None:
    """Centre and scale frozen features; learned ones find their own scale."""
    if model.backbone is None:
        regions = torch.from_numpy(train.images[:: max(1, len(train.images) // 2000)])
        model.vse.image.standardise(regions.float().flatten(0, 1))
    if tower.transformer is not None:
        sample = range(0, len(train.image_of_text), max(1, len(train.image_of_text) // 2000))
        words, valid = train.words.batch(torch.tensor(sample).numpy())
        model.vse.text.standardise(words[valid])


def _save_encoder(
    model: Trained, config: VSEConfig, out: Path, text: str, vision: str | None, tower: _TextSide
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model.eval()
    words: torch.nn.Module = tower.transformer or torch.nn.Identity()
    if model.vse.words is not None and tower.vocabulary is not None:
        words = WordTable(model.vse.words, tower.vocabulary, config.max_words)
    save_vse(VSEParts(config, model.vse, words, model.backbone), out)
    if tower.transformer is not None:
        copy_part(resolve(text), out / TEXT)
    if model.backbone is not None:
        model.backbone.save(out / VISION)
    elif vision is not None:
        copy_part(resolve(vision), out / VISION)
    write_encoder_file(out, EncoderFile(kind=EncoderKind.VSE, name=out.name, vse=config))


def _dev(data: str) -> Pairs | None:
    for name in DEV_NAMES:
        found = _open_if_there(data, name)
        if found is not None:
            return Pairs.of(found)
    return None


def _open_if_there(data: str, split: str) -> Collection | None:
    try:
        return open_collection(data, split)
    except DataFormatError as error:
        if "has no split" in str(error):
            return None
        raise


def _key(data: str, text: str, vision: str | None, options: VSEOptions) -> str:
    told = f"{Path(data).resolve()} {text} {vision} {options.model_dump_json()}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]
