"""The visual-semantic embedding as an encoder: regions and words by external attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from model.core.errors import CheckpointError, UnsupportedInputError, VectorRejectedError
from model.core.types import FloatArray, InputKind
from model.encoders.backbone import GridBackbone
from model.encoders.towers import VSE, TextTowerKind, VSEConfig
from model.encoders.transformer_words import TransformerWords
from model.encoders.vocabulary import Vocabulary

WEIGHTS, VOCABULARY, VISION, TEXT = "encoder.safetensors", "vocabulary.json", "vision", "text"
_BLOCK = 64


class WordTable(nn.Module):
    """Texts to BiGRU word features: the counterpart of `TransformerWords`."""

    def __init__(self, words: nn.Module, vocabulary: Vocabulary, max_words: int) -> None:
        super().__init__()
        self.words, self.vocabulary, self.max_words = words, vocabulary, max_words

    def forward(self, texts: Sequence[str]) -> tuple[Float[Tensor, "b r w"], Bool[Tensor, "b r"]]:
        """Word features, zero where the mask says padding."""
        ids, valid = pad_ids([self.vocabulary.ids(text, self.max_words) for text in texts])
        device = next(self.words.parameters()).device
        return self.words(ids.to(device), valid.to(device)), valid.to(device)


def pad_ids(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids (B, R) padded with 0, and which of them are words."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


@dataclass(frozen=True)
class VSEParts:
    """Everything a VSE needs to run or to be saved."""

    config: VSEConfig
    vse: VSE
    words: nn.Module
    backbone: GridBackbone | None

    @property
    def accepts(self) -> tuple[InputKind, ...]:
        """Regions, images only where there is a backbone, texts and vectors."""
        image = (InputKind.IMAGE,) if self.backbone else ()
        return (*image, InputKind.REGIONS, InputKind.TEXT, InputKind.VECTOR)


@dataclass(frozen=True)
class VSEImageEncoder:
    """The image tower, behind its backbone where there is one."""

    parts: VSEParts
    device: torch.device

    @property
    def accepts(self) -> frozenset[InputKind]:
        """IMAGE where there is a backbone, and REGIONS."""
        return frozenset(self.parts.accepts) & {InputKind.IMAGE, InputKind.REGIONS}

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Unit embeddings (B, D), by way of fp16 regions as training saw them."""
        if self.parts.backbone is None:
            raise UnsupportedInputError("this encoder has no backbone: it accepts regions only")
        return self.encode_regions(self.parts.backbone.regions(images, self.device))

    def encode_regions(self, regions: NDArray[np.floating]) -> FloatArray:
        """Unit embeddings (B, D) of regions (B, R, F), those of all views one after another.

        Raises:
            VectorRejectedError: F is not the encoder's, or R cannot be shared among its views.
        """
        width, views = self.parts.config.region_dim, self.parts.config.views
        if regions.ndim != 3 or regions.shape[2] != width:
            raise VectorRejectedError(
                f"regions need the shape (B, R, {width}), got {regions.shape}"
            )
        if regions.shape[1] % views:
            raise VectorRejectedError(
                f"R needs to be a multiple of the encoder's {views} views, got R={regions.shape[1]}"
            )
        blocks = [self._block(regions[i : i + _BLOCK]) for i in range(0, len(regions), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.empty((0, self._dim), np.float32)

    @property
    def _dim(self) -> int:
        return self.parts.config.embedding_dim

    def _block(self, regions: NDArray[np.floating]) -> FloatArray:
        rows = torch.from_numpy(np.asarray(regions, np.float32)).to(self.device)
        with torch.inference_mode():
            embeddings = self.parts.vse.embed_regions(rows)
        return np.asarray(embeddings.float().cpu().numpy())


@dataclass(frozen=True)
class VSETextEncoder:
    """The text tower over a BiGRU's or a transformer's word features."""

    parts: VSEParts
    device: torch.device

    @property
    def accepts(self) -> frozenset[InputKind]:
        """TEXT."""
        return frozenset({InputKind.TEXT})

    def knows(self, text: str) -> bool:
        """Whether a word of the text is in the BiGRU's vocabulary; a transformer reads pieces."""
        words = self.parts.words
        if not isinstance(words, WordTable):
            return True
        return words.vocabulary.knows(text, words.max_words)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Unit embeddings (B, D); texts of like length share a block."""
        out = np.empty((len(texts), self.parts.config.embedding_dim), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), _BLOCK):
            rows = order[start : start + _BLOCK]
            out[rows] = self._block([texts[row] for row in rows])
        return out

    def _block(self, texts: Sequence[str]) -> FloatArray:
        half = self.device.type == "cuda"
        with torch.inference_mode():
            with torch.autocast(self.device.type, enabled=half):
                features, valid = self.parts.words(texts)
            embeddings: Tensor = self.parts.vse.text(features.float(), valid)
        return np.asarray(embeddings.float().cpu().numpy())


def open_vse(directory: Path, config: VSEConfig, device: torch.device) -> VSEParts:
    """A saved VSE in evaluation mode.

    Raises:
        CheckpointError: a file is missing or does not fit the configuration.
    """
    vse = VSE(config)
    path = directory / WEIGHTS
    try:
        vse.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not hold this VSE: {error}") from error
    backbone = GridBackbone(directory / VISION, config.grid, config.views) if config.grid else None
    words = _words(directory, config, vse)
    for part in (vse, words, backbone):
        if part is not None:
            part.to(device).eval().requires_grad_(requires_grad=False)
    return VSEParts(config, vse, words, backbone)


def save_vse(parts: VSEParts, directory: Path) -> None:
    """Write the towers, and the vocabulary or transformers that feed them."""
    directory.mkdir(parents=True, exist_ok=True)
    # Plain bytes: safetensors' own files are closed to other users.
    (directory / WEIGHTS).write_bytes(save(parts.vse.state_dict()))
    if isinstance(parts.words, WordTable):
        parts.words.vocabulary.save(directory / VOCABULARY)


def _words(directory: Path, config: VSEConfig, vse: VSE) -> nn.Module:
    match config.text:
        case TextTowerKind.TRANSFORMER:
            return TransformerWords(directory / TEXT, config.max_words)
        case TextTowerKind.BIGRU:
            vocabulary = Vocabulary.load(directory / VOCABULARY)
            if vse.words is None or len(vocabulary) != config.vocabulary_size:
                raise CheckpointError(
                    f"a BiGRU needs its {config.vocabulary_size} words, got {len(vocabulary)}"
                )
            return WordTable(vse.words, vocabulary, config.max_words)
