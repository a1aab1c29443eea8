"""Whole training runs: from a data set on disk to a checkpoint directory."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model.checkpoint import HEADS_FILE, STAGE_TWO_FILE
from model.core.errors import DataFormatError, InputError
from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.data.open import open_collection
from model.data.records import Collection
from model.encoders.backbone import GridBackbone
from model.encoders.opening import (
    ENCODER_FILE,
    EncoderFile,
    open_encoder,
    read_encoder_file,
    save_snapshot,
    write_encoder_file,
)
from model.encoders.protocols import Encoder, EncoderKind
from model.encoders.towers import VSE, TextTowerKind, VSEConfig
from model.encoders.transformer_files import (
    copy_model,
    digest_files,
    has_weights,
    model_files,
    resolve,
)
from model.encoders.transformer_words import TransformerWords
from model.encoders.vocabulary import Vocabulary
from model.encoders.vse import TEXT, VISION, VSEParts, WordTable, save_vse
from model.heads.heads import Heads
from model.training.calibration import Pool, calibrate
from model.training.embedding import embed_pairs
from model.training.features import (
    WordIds,
    WordSource,
    image_features,
    word_states,
)
from model.training.heads_training import train_heads
from model.training.memory import keep_freed_memory
from model.training.options import HeadsOptions, VSEOptions
from model.training.pairs import Pairs
from model.training.state import RunState
from model.training.vse_training import SplitFeatures, Trained, embed, train_vse

BIGRU = "bigru"
DEV_NAMES = ("dev", "val")
# Calibration looks at every pair of held-out images and captions: more would not fit in memory.
MOST_HELD_OUT = 2000
LIST_DEPTH = 128
TRAINING_FILE = "training.json"
Embeddings = Mapping[Modality, FloatArray]


@dataclass(frozen=True)
class Splits:
    """What a run learns from and shows its progress with.

    `whole` is the train split: what ships has seen all of it. `train` and `held_out` share it
    between an encoder that is used once, and what that encoder has not seen: Stage II's weights
    are calibrated there.
    """

    whole: Pairs
    train: Pairs
    held_out: Pairs
    dev: Pairs | None

    @classmethod
    def of(cls, data: str, held_out: float, seed: int) -> "Splits":
        """Splits of a data set: its `train`, a seeded share of it, and `dev` or `val` if there."""
        whole = Pairs.of(open_collection(data, "train"))
        share = min(held_out, MOST_HELD_OUT / len(whole.image_rows))
        train, held = whole.hold_out(share, seed)
        return cls(whole, train, held, _dev(data))


@dataclass(frozen=True)
class Calibration:
    """Held-out pairs beside a bank of pairs, from an encoder that has seen the bank alone."""

    held_out: Pool
    bank: Pool


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
    heads.config(options.embedding_dim)  # refused now, not after an hour
    keep_freed_memory()
    splits, cache = Splits.of(data, options.held_out, options.seed), cache_of(out)
    with replacing(out) as target:
        run = _VSERun.of(splits, cache, text, vision, options, device)
        calibration = run.calibration(splits)
        trained, config, whole = run.fit("whole", splits.whole, splits.dev)
        _save_encoder(trained, config, target, out.name, text, vision, run.tower)
        embedded = embed(trained, whole, device)
        dev = None if splits.dev is None else embed(trained, run.features(splits.dev), device)
        described = {"vse": options.model_dump()}
        _finish(splits, calibration, embedded, dev, target, heads, described, data)
    run.clear()


def run_heads(
    data: str, out: Path, encoder: str, held_out: float, options: HeadsOptions, device: str
) -> None:
    """Train heads and weights for an encoder as it is; `out` holds a copy of it."""
    splits, cache = Splits.of(data, held_out, options.seed), cache_of(out)
    opened = open_encoder(encoder, device)
    options.config(opened.identity.embedding_dim)
    with replacing(out) as target:
        _copy_encoder(encoder, opened, target)
        parts = (splits.held_out, splits.train, splits.whole)
        held, bank, whole = (embed_pairs(opened, pairs, cache) for pairs in parts)
        dev = None if splits.dev is None else embed_pairs(opened, splits.dev, cache)
        described = {"encoder": opened.identity.name}
        calibration = Calibration(
            Pool(held, splits.held_out.image_of_text), Pool(bank, splits.train.image_of_text)
        )
        _finish(splits, calibration, whole, dev, target, options, described, data)


@dataclass(frozen=True)
class _VSERun:
    """A VSE's inputs, and how it is fitted to some of the train split."""

    cache: Path
    options: VSEOptions
    device: torch.device
    backbone: GridBackbone | None
    tower: "_TextSide"

    @classmethod
    def of(
        cls,
        splits: Splits,
        cache: Path,
        text: str,
        vision: str | None,
        options: VSEOptions,
        device: torch.device,
    ) -> "_VSERun":
        backbone = _backbone(vision, options)
        if backbone is not None:
            backbone.to(device)
        tower = _TextSide.of(text, splits.whole, options, device)
        return cls(cache, options, device, backbone, tower)

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.backbone is not None and self.backbone.pretrained

    def features(self, pairs: Pairs) -> SplitFeatures:
        """What the towers see of some pairs; what cost minutes is cached."""
        images = image_features(
            pairs, self.backbone, self.cache, frozen=self.frozen, device=self.device
        )
        return SplitFeatures(images, self.tower.words_of(pairs, self.cache), pairs.image_of_text)

    def calibration(self, splits: Splits) -> Calibration:
        """Held-out embeddings of an encoder that is fitted to the rest, and used for this alone."""
        tqdm.write(f"an encoder that has not seen {len(splits.held_out.image_rows)} images")
        trained, _, train = self.fit("rest", splits.train, splits.held_out)
        held = embed(trained, self.features(splits.held_out), self.device)
        return Calibration(
            Pool(held, splits.held_out.image_of_text),
            Pool(embed(trained, train, self.device), splits.train.image_of_text),
        )

    def fit(
        self, name: str, train: Pairs, watched: Pairs | None
    ) -> tuple[Trained, VSEConfig, SplitFeatures]:
        """A model of some pairs and what it saw; shows the rSum of others as it learns."""
        seen = self.features(train)
        config = _config(seen, self.backbone, self.tower, self.options, frozen=self.frozen)
        torch.manual_seed(self.options.seed)
        # A backbone that is trained is trained from the same start each time.
        backbone = None if self.frozen else copy.deepcopy(self.backbone)
        model = Trained(VSE(config), backbone, self.options.temperature)
        _standardise(model, seen, self.tower)
        state = RunState(self._state(name), _key(train, seen, config, self.tower, self.options))
        dev = None if watched is None else self.features(watched)
        model = train_vse(model, seen, dev, train.batches, self.options, state, self.device)
        return model, config, seen

    def clear(self) -> None:
        """Forget the state of both fits: they are finished."""
        for name in ("rest", "whole"):
            shutil.rmtree(self._state(name), ignore_errors=True)

    def _state(self, name: str) -> Path:
        return self.cache / f"state-{name}"


def _backbone(vision: str | None, options: VSEOptions) -> GridBackbone | None:
    """The vision backbone; one that is trained sees images as they are, one view each."""
    if vision is None:
        return None
    directory = resolve(vision)
    torch.manual_seed(options.seed)  # one without weights draws them now
    return GridBackbone(directory, options.grid, options.views if has_weights(directory) else 1)


def cache_of(checkpoint: Path) -> Path:
    """Where extracted features are kept: beside the checkpoint."""
    return checkpoint.resolve().with_name(checkpoint.resolve().name + ".cache")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `out` when all is there, and not before.

    Raises:
        InputError: `out` holds something else than a checkpoint.
    """
    if out.exists() and not (out / ENCODER_FILE).exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"--out is a new folder or a checkpoint to replace, got {out}")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _copy_encoder(source: str, opened: Encoder, target: Path) -> None:
    """A checkpoint's encoder as it stands, or a bare dual model in a folder of its own."""
    if read_encoder_file(resolve(source)) is not None:
        save_snapshot(source, target)
        return
    save_snapshot(source, target / EncoderKind.DUAL.value)
    write_encoder_file(target, EncoderFile(kind=EncoderKind.DUAL, name=opened.identity.name))


def _finish(
    splits: Splits,
    calibration: Calibration,
    train: Embeddings,
    dev: Embeddings | None,
    target: Path,
    options: HeadsOptions,
    described: Mapping[str, object],
    data: str,
) -> None:
    """Heads, Stage II's weights, and a record of how they were made."""
    watch = None if dev is None or splits.dev is None else _watching(dev, splits.dev)
    heads = train_heads(train, splits.whole.image_of_text, options, watch)
    heads.save(target / HEADS_FILE)
    name = f"{len(splits.held_out.image_rows)} held-out images of {Path(data).name}:train"
    tqdm.write(f"calibrating Stage II on {name}")
    stage_two = calibrate(calibration.held_out, calibration.bank, LIST_DEPTH, name)
    (target / STAGE_TWO_FILE).write_text(stage_two.model_dump_json(indent=2) + "\n")
    record = {**described, "heads": options.model_dump(), "data": Path(data).name}
    (target / TRAINING_FILE).write_text(json.dumps(record, indent=2) + "\n")


def _watching(embedded: Embeddings, pairs: Pairs) -> Callable[[Heads], float]:
    """The rSum of some pairs in the hash space of heads."""

    def watch(heads: Heads) -> float:
        vectors = {m: l2_normalised(heads.hash_space(m, embedded[m])) for m in Modality}
        similarities = vectors[Modality.IMAGE] @ vectors[Modality.TEXT].T
        return Recalls.of(*ranks_of_pairs(similarities, pairs.image_of_text)).rsum

    return watch


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
        region_components=_components(region_dim, options, frozen=frozen or backbone is None),
        views=backbone.views if frozen and backbone else 1,
        region_dropout=options.region_dropout,
        word_dropout=options.word_dropout,
        hidden_dropout=options.hidden_dropout,
        drop_rows=options.drop_rows,
    )


def _components(region_dim: int, options: VSEOptions, *, frozen: bool) -> int | None:
    """Principal components for frozen features that are wider than that."""
    wanted = options.region_components
    return wanted if frozen and 0 < wanted < region_dim else None


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
    model: Trained,
    config: VSEConfig,
    out: Path,
    name: str,
    text: str,
    vision: str | None,
    tower: _TextSide,
) -> None:
    model.eval()
    words: torch.nn.Module = tower.transformer or torch.nn.Identity()
    if model.vse.words is not None and tower.vocabulary is not None:
        words = WordTable(model.vse.words, tower.vocabulary, config.max_words)
    save_vse(VSEParts(config, model.vse, words, model.backbone), out)
    if tower.transformer is not None:
        copy_model(resolve(text), out / TEXT)
    if model.backbone is not None:
        model.backbone.save(out / VISION)
    elif vision is not None:
        copy_model(resolve(vision), out / VISION)
    write_encoder_file(out, EncoderFile(kind=EncoderKind.VSE, name=name, vse=config))


def _dev(data: str) -> Pairs | None:
    """The dev split; a file or a pattern of shards is one split and has none."""
    for name in DEV_NAMES if Path(data).is_dir() else ():
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


def _key(
    train: Pairs,
    features: SplitFeatures,
    config: VSEConfig,
    tower: _TextSide,
    options: VSEOptions,
) -> str:
    """A digest of everything that a run's weights follow from: its very inputs among it."""
    total = hashlib.sha256(f"{options.model_dump_json()} {config} {tower.digest}".encode())
    total.update(repr((train.captions, train.image_of_text.tolist())).encode())
    for start in range(0, len(features.images), 1024):
        total.update(np.ascontiguousarray(features.images[start : start + 1024]).data)
    return total.hexdigest()
