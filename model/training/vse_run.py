"""A VSE's inputs, its fit to some of the train split, and its files."""

import copy
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model.encoders.backbone import GridBackbone
from model.encoders.opening import EncoderFile, write_encoder_file
from model.encoders.protocols import EncoderKind
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
from model.training.features import WordIds, WordSource, image_features, word_states
from model.training.options import VSEOptions
from model.training.pairs import Pairs
from model.training.state import RunState
from model.training.vse_training import SplitFeatures, Trained, train_vse

BIGRU = "bigru"


@dataclass(frozen=True)
class VSERun:
    """A VSE's inputs, and how it is fitted to some of the train split."""

    cache: Path
    options: VSEOptions
    device: torch.device
    backbone: GridBackbone | None
    tower: "TextSide"

    @classmethod
    def of(
        cls,
        whole: Pairs,
        cache: Path,
        text: str,
        vision: str | None,
        options: VSEOptions,
        device: torch.device,
    ) -> "VSERun":
        """The inputs that a whole train split gives: its vocabulary, or a transformer's words."""
        backbone = _backbone(vision, options)
        if backbone is not None:
            backbone.to(device)
        tower = TextSide.of(text, whole, options, device)
        return cls(cache, options, device, backbone, tower)

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.backbone is not None and self.backbone.pretrained

    @property
    def digest(self) -> str:
        """A digest of what a fit follows from beside its pairs."""
        backbone = self.backbone and self.backbone.fingerprint(frozen=self.frozen)
        told = f"{self.options.model_dump_json()} {self.tower.digest} {backbone}"
        return hashlib.sha256(told.encode()).hexdigest()

    def features(self, pairs: Pairs) -> SplitFeatures:
        """What the towers see of some pairs; what cost minutes is cached."""
        images = image_features(
            pairs, self.backbone, self.cache, frozen=self.frozen, device=self.device
        )
        return SplitFeatures(images, self.tower.words_of(pairs, self.cache), pairs.image_of_text)

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

    def clear(self, *names: str) -> None:
        """Forget the state of some fits: they are finished."""
        for name in names:
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


@dataclass(frozen=True)
class TextSide:
    """The text tower's input: a vocabulary to learn words of, or a frozen transformer."""

    vocabulary: Vocabulary | None
    transformer: TransformerWords | None
    digest: str
    max_words: int

    @classmethod
    def of(cls, text: str, train: Pairs, options: VSEOptions, device: torch.device) -> "TextSide":
        """`bigru` with the words of `train`, or the transformer behind a directory or hub name."""
        if text == BIGRU:
            vocabulary = Vocabulary.of(train.captions, options.min_word_count)
            return cls(vocabulary, None, "", options.max_words)
        directory = resolve(text)
        words = TransformerWords(directory, options.max_words).to(device)
        digest = digest_files(directory, model_files(directory))
        return cls(None, words, digest, options.max_words)

    def words_of(self, pairs: Pairs, cache: Path) -> WordSource:
        """What the tower reads of some captions."""
        if self.transformer is not None:
            return word_states(pairs, self.transformer, cache, self.digest)
        vocabulary = self.vocabulary or Vocabulary(())
        return WordIds.of(pairs.captions, vocabulary, self.max_words)


def _config(
    train: SplitFeatures,
    backbone: GridBackbone | None,
    tower: TextSide,
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


def _standardise(model: Trained, train: SplitFeatures, tower: TextSide) -> None:
    """Centre and scale frozen features; learned ones find their own scale."""
    if model.backbone is None:
        regions = torch.from_numpy(train.images[:: max(1, len(train.images) // 2000)])
        model.vse.image.standardise(regions.float().flatten(0, 1))
    if tower.transformer is not None:
        sample = range(0, len(train.image_of_text), max(1, len(train.image_of_text) // 2000))
        words, valid = train.words.batch(torch.tensor(sample).numpy())
        model.vse.text.standardise(words[valid])


def save_encoder(
    model: Trained,
    config: VSEConfig,
    out: Path,
    name: str,
    text: str,
    vision: str | None,
    tower: TextSide,
) -> None:
    """Write a VSE with all it is made of into a checkpoint folder."""
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


def _key(
    train: Pairs,
    features: SplitFeatures,
    config: VSEConfig,
    tower: TextSide,
    options: VSEOptions,
) -> str:
    """A digest of everything that a run's weights follow from: its very inputs among it."""
    total = hashlib.sha256(f"{options.model_dump_json()} {config} {tower.digest}".encode())
    total.update(repr((train.captions, train.image_of_text.tolist())).encode())
    for start in range(0, len(features.images), 1024):
        total.update(np.ascontiguousarray(features.images[start : start + 1024]).data)
    return total.hexdigest()
