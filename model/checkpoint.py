"""A checkpoint directory: encoder, heads and Stage II weights, in safetensors and JSON."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model.core.errors import CheckpointError
from model.encoders.opening import open_encoder
from model.encoders.protocols import Encoder
from model.heads.heads import Heads
from model.rerankers.learned.reranker import LEARNED_FILE, LearnedReranker
from model.rerankers.weights import StageTwo

HEADS_FILE = "heads.safetensors"
STAGE_TWO_FILE = "stage_two.json"


@dataclass(frozen=True)
class Checkpoint:
    """An encoder with what was trained on top of it; both are missing for a bare model."""

    encoder: Encoder
    heads: Heads | None
    stage_two: StageTwo | None
    learned: LearnedReranker | None = None


def open_checkpoint(source: str | Path, device: str = "cpu") -> Checkpoint:
    """The checkpoint in a directory, or the bare encoder behind a directory or hub name.

    Raises:
        CheckpointError: a file cannot be read, or the heads do not fit the encoder.
    """
    encoder, directory = open_encoder(source, device), Path(source)
    heads_path, weights_path = directory / HEADS_FILE, directory / STAGE_TWO_FILE
    heads = Heads.load(heads_path) if heads_path.exists() else None
    if heads is not None and heads.config.embedding_dim != encoder.identity.embedding_dim:
        raise CheckpointError(
            f"{heads_path} fits D={heads.config.embedding_dim}, "
            f"the encoder gives D={encoder.identity.embedding_dim}"
        )
    learned_path = directory / LEARNED_FILE
    learned = LearnedReranker.load(learned_path) if learned_path.exists() else None
    return Checkpoint(encoder, heads, _stage_two(weights_path), learned)


def _stage_two(path: Path) -> StageTwo | None:
    if not path.exists():
        return None
    try:
        return StageTwo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path} holds no Stage II weights: {error}") from error
