"""`meet-train import`: a released checkpoint becomes a checkpoint directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from model.checkpoint import HEADS_FILE, STAGE_TWO_FILE
from model.core.errors import CheckpointError
from model.core.types import Modality
from model.encoders.opening import EncoderFile, write_encoder_file
from model.encoders.protocols import EncoderKind
from model.encoders.towers import VSE, VSEConfig
from model.encoders.vse import TEXT, VSEParts, WordTable, save_vse
from model.heads.heads import Heads
from model.rerankers.weights import StageTwo
from model.training.recipe import replacing
from model.training.record import TrainingRecord
from model.training.released.reading import Released, read_released
from model.training.released.states import Tower, heads_of, image_tower, text_tower
from model.training.released.tensors import contiguous
from model.training.released.words import read_vocabulary, read_word_pieces

# Released evaluation cuts no caption; a service's queries end here.
MAX_WORDS = 256


@dataclass(frozen=True)
class _Imported:
    """Both towers, and the heads where the checkpoint has them."""

    towers: Mapping[Modality, Tower]
    heads: Heads | None

    @property
    def text(self) -> Tower:
        return self.towers[Modality.TEXT]


def run_import(checkpoint: Path, out: Path, vocabulary: Path | None) -> None:
    """Write the directory of a released ESA or MEET checkpoint.

    ESA is an encoder alone: heads are trained or fitted for it later. Stage II starts with the
    default weights.

    Raises:
        CheckpointError: the checkpoint or its vocabulary does not have the released form.
    """
    imported = _towers(read_released(checkpoint))
    config = _config(imported)
    if vocabulary is None:
        what = "word pieces (vocab.txt)" if imported.text.bert else "vocabulary (JSON)"
        raise CheckpointError(
            f"word ids mean nothing without their words: give the {what} of {checkpoint} with "
            "--vocabulary"
        )
    with replacing(out) as target:
        _save_encoder(imported, config, vocabulary, target)
        write_encoder_file(target, EncoderFile(kind=EncoderKind.VSE, name=out.name, vse=config))
        if imported.heads is not None:
            imported.heads.save(target / HEADS_FILE)
        (target / STAGE_TWO_FILE).write_text(StageTwo().model_dump_json(indent=2) + "\n")
        TrainingRecord(imported=checkpoint.name).write(target)


def _towers(released: Released) -> _Imported:
    """Both towers and the heads, every tensor of the states taken."""
    encoders, attentions = released.encoders, released.attentions
    image = image_tower(encoders[Modality.IMAGE], attentions.get(Modality.IMAGE))
    dim = image.config["embedding_dim"]
    text = text_tower(encoders[Modality.TEXT], attentions.get(Modality.TEXT), dim)
    books = released.codebooks
    heads = heads_of(released.projections, books, dim) if books else None
    return _Imported({Modality.IMAGE: image, Modality.TEXT: text}, heads)


def _config(imported: _Imported) -> VSEConfig:
    told: dict[str, Any] = {}
    for tower in imported.towers.values():
        told |= tower.config
    positions = imported.text.bert.config.max_position_embeddings if imported.text.bert else None
    return VSEConfig(**told, max_words=min(MAX_WORDS, positions or MAX_WORDS))


def _save_encoder(imported: _Imported, config: VSEConfig, vocabulary: Path, target: Path) -> None:
    """The towers' weights, and the words or the BERT that feed the text tower."""
    vse, bert = VSE(config).eval(), imported.text.bert
    weights = {k: contiguous(v) for t in imported.towers.values() for k, v in t.weights.items()}
    vse.load_state_dict({**vse.state_dict(), **weights})
    words: nn.Module = nn.Identity()
    if vse.words is not None:
        known = read_vocabulary(vocabulary, config.vocabulary_size)
        words = WordTable(vse.words, known, config.max_words)
    save_vse(VSEParts(config, vse, words, None), target)
    if bert is not None:
        tokenizer = read_word_pieces(vocabulary, bert.config.vocab_size)
        bert.save_pretrained(target / TEXT)
        tokenizer.save_pretrained(target / TEXT)
