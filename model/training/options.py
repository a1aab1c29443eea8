"""What a training run is told, as frozen values that are saved with its checkpoint."""

from typing import Annotated

from pydantic import Field

from model.core.types import Frozen
from model.heads.heads import HeadsConfig

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class VSEOptions(Frozen):
    """How a VSE is trained. `epochs` counts passes over every caption.

    `views` is 2 where mirror images count as well as the photos, for a backbone that is kept as
    it is: half of the steps see the mirror image, and an embedding is the mean of both.
    `region_components` reduces wider features to so many principal components; 0 keeps them.
    """

    epochs: Count
    embedding_dim: Count = 1024
    batch_size: Annotated[int, Field(ge=2)] = 512
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    region_dropout: Share = 0.3
    word_dropout: Share = 0.3
    hidden_dropout: Share = 0.5
    drop_rows: Share = 0.2
    temperature: Positive = 0.05
    averaging: Share = 0.99
    word_embedding_dim: Count = 300
    gru_dim: Count = 256
    min_word_count: Count = 3
    max_words: Annotated[int, Field(ge=3)] = 40
    grid: Count = 4
    views: Annotated[int, Field(ge=1, le=2)] = 2
    region_components: Annotated[int, Field(ge=0)] = 0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0


class HeadsOptions(Frozen):
    """How the heads are trained: L = ranking + β1·L_f + β2·L_q in the hash space."""

    n_bits: Count = 64
    n_subspaces: Count = 8
    epochs: Count = 10
    batch_size: Annotated[int, Field(ge=2)] = 512
    learning_rate: Positive = 1e-3
    temperature: Positive = 0.1
    beta_1: Annotated[float, Field(ge=0)] = 1.0
    beta_2: Annotated[float, Field(ge=0)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    def config(self, embedding_dim: int) -> HeadsConfig:
        """The heads' widths.

        Raises:
            CodeShapeError: K is no multiple of 8, or M does not divide it.
        """
        return HeadsConfig(
            embedding_dim=embedding_dim, n_bits=self.n_bits, n_subspaces=self.n_subspaces
        )
