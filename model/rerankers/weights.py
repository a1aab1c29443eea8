"""The weights of Stage II: what calibration finds and an artifact carries."""

from pydantic import Field

from model.core.types import Direction, Frozen


class DirectionWeights(Frozen):
    """How much each term of one direction counts, and the temperature of the hubness."""

    consistency: float = 1.0
    complementarity: float = 0.05
    hubness: float = 0.5
    temperature: float = Field(default=0.1, gt=0)


class StageTwo(Frozen):
    """Weights per direction, and what they were calibrated on."""

    weights: dict[Direction, DirectionWeights] = Field(
        default_factory=lambda: {direction: DirectionWeights() for direction in Direction}
    )
    calibrated_on: str = "defaults"
