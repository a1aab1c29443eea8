"""What a training run is told, as frozen values that are saved with its checkpoint."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from model.core.types import Frozen
from model.heads.heads import HeadsConfig

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
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


class CodebookLearning(StrEnum):
    """How codebooks follow the hash space as it is learned."""

    KMEANS = "kmeans"  # anew before every epoch
    GRADIENT = "gradient"  # by k-means once, then by the gradient of L_q


class HeadsOptions(Frozen):
    """How the heads are trained: rankings + β1·L_f + β2·L_q in the hash space.

    `ranking` weighs the ranking loss of the continuous vectors, `sign_ranking` that of their signs,
    which the Hamming stage compares; `shared_codebooks` is one set for both modalities.
    """

    n_bits: Count = 64
    n_subspaces: Count = 8
    n_centroids: Count = 256
    shared_codebooks: bool = False
    codebooks: CodebookLearning = CodebookLearning.GRADIENT
    epochs: Count = 6
    batch_size: Annotated[int, Field(ge=2)] = 512
    learning_rate: Positive = 2e-3
    temperature: Positive = 0.1
    ranking: Weight = 1.0
    sign_ranking: Weight = 1.0
    beta_1: Weight = 5.0
    beta_2: Weight = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    def config(self, embedding_dim: int) -> HeadsConfig:
        """The heads' widths.

        Raises:
            CodeShapeError: K is no multiple of 8, M does not divide it, or L is above 256.
        """
        return HeadsConfig(
            embedding_dim=embedding_dim,
            n_bits=self.n_bits,
            n_subspaces=self.n_subspaces,
            n_centroids=self.n_centroids,
        )
