"""A checkpoint that is measured: it embeds splits and banks, and what it lacks is made up for."""

from dataclasses import dataclass
from pathlib import Path

from model.checkpoint import Checkpoint, open_checkpoint
from model.core.errors import InputError
from model.data.open import open_collection
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.weights import StageTwo
from model.training.embedded import Embedded
from model.training.embedding import embed_pairs
from model.training.evaluation import Bank
from model.training.pairs import Pairs
from model.training.recipe import cache_of


@dataclass(frozen=True)
class Embedder:
    """A checkpoint, and where the embeddings that it makes are kept."""

    checkpoint: Checkpoint
    cache: Path

    @classmethod
    def open(cls, source: str | Path, device: str = "cpu") -> "Embedder":
        """The checkpoint in a directory, or a bare encoder; embeddings are kept beside it.

        Raises:
            CheckpointError: a file cannot be read, or the heads do not fit the encoder.
        """
        return cls(open_checkpoint(source, device), cache_of(Path(source)))

    @property
    def stage_two(self) -> StageTwo:
        """Its own weights, or the usual ones."""
        return self.checkpoint.stage_two or StageTwo()

    def heads(self, sample: Bank, seed: int) -> Heads:
        """Its own heads, or some that are fitted to a sample (N, D)."""
        config = HeadsConfig(embedding_dim=self.checkpoint.encoder.identity.embedding_dim)
        return self.checkpoint.heads or fit_heads(config, sample, seed)

    def embedded(self, pairs: Pairs) -> Embedded:
        """Pairs under its encoder."""
        return Embedded(
            embed_pairs(self.checkpoint.encoder, pairs, self.cache), pairs.image_of_text
        )

    def split(self, data: str, name: str) -> Embedded:
        """A split of a data set: every record with an image and a caption."""
        return self.embedded(Pairs.of(open_collection(data, name)))

    def bank(self, place: str, size: int, seed: int) -> Embedded:
        """A bank `DIR:SPLIT` of at most `size` images and captions, as a build draws it.

        Raises:
            InputError: it would be empty.
        """
        if size < 1:
            raise InputError(f"a bank holds one entry or more, got --bank-size {size}")
        return self.embedded(Pairs.sampled(open_collection(place), size, seed))
