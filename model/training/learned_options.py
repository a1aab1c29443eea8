"""What a training run of the learned re-ranker is told."""

from typing import Annotated

from pydantic import Field

from model.core.types import Frozen
from model.rerankers.learned.network import LearnedConfig
from model.training.options import Count, Positive, Share


class LearnedOptions(Frozen):
    """How the learned re-ranker is trained, in `steps` batches of lists for each of its networks.

    `folds` is how many parts of the train split are embedded by encoders that have not seen them,
    `fold_images` how many images of each part become a gallery, at most.
    """

    folds: Annotated[int, Field(ge=2)] = 5
    fold_images: Annotated[int, Field(ge=2)] = 2000
    width: Count = 64
    candidates: Annotated[int, Field(ge=2)] = 64
    steps: Count = 600
    batch_size: Count = 256
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    averaging: Share = 0.99
    dropout: Share = 0.1
    dropped_candidates: Share = 0.5
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def config(self) -> LearnedConfig:
        """The networks' sizes."""
        return LearnedConfig(width=self.width, candidates=self.candidates)
