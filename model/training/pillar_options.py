"""What a training run of the pillar re-ranker is told, and the recipes that flags start from.

The fast recipe learns in minutes of one core; `benchmarks/pillar.md` has its figures.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from model.core.types import Frozen
from model.rerankers.pillar.config import PillarConfig
from model.training.options import Count, Positive, Share, Weight


class Optimiser(StrEnum):
    """Who takes the steps."""

    SGD = "sgd"
    ADAMW = "adamw"


class Precision(StrEnum):
    """What the networks compute in while they learn; weights stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class PillarOptions(Frozen):
    """How a pillar re-ranker is trained. `batch_size` counts captions, with their share of images.

    The last four are the losses' weights. `pool_images` is the size of the galleries that the
    train split is cut into.
    """

    width: Count = 128
    blocks: Count = 2
    heads: Count = 4
    epochs: Count = 4
    batch_size: Count = 256
    optimiser: Optimiser = Optimiser.ADAMW
    learning_rate: Positive = 5e-4
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    precision: Precision = Precision.BFLOAT16
    pool_images: Annotated[int, Field(ge=2)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0
    contrastive: Weight = 1.0
    triplet: Weight = 1.0
    hinge: Weight = 1.0
    alignment: Weight = 1.0

    def config(self) -> PillarConfig:
        """The networks' sizes.

        Raises:
            CodeShapeError: the heads do not divide the width.
        """
        return PillarConfig(width=self.width, blocks=self.blocks, heads=self.heads)


class PillarRecipe(StrEnum):
    """Where the flags' defaults come from."""

    FAST = "fast"
    RELEASED = "released"


# The learning rate is the released 0.01 * batch / 256.
RELEASED = PillarOptions(
    width=768,
    heads=24,
    epochs=30,
    batch_size=512,
    optimiser=Optimiser.SGD,
    learning_rate=0.02,
    weight_decay=0.0,
    precision=Precision.FLOAT32,
)
RECIPES = {PillarRecipe.FAST: PillarOptions(), PillarRecipe.RELEASED: RELEASED}
