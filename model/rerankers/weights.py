"""The weights of Stage II: what calibration finds and an artifact carries."""

from pydantic import Field

from model.core.types import Direction, Frozen


class DirectionWeights(Frozen):
    """How much each term of one direction counts, and the temperature of the hubness.

    `expansion` and `feedback` weigh what a bank of pairs says: the candidate's cosine to the
    partners of the query's nearest entries, and to its nearest entries of the candidates' kind.
    """

    consistency: float = 1.0
    complementarity: float = 0.05
    hubness: float = 0.5
    temperature: float = Field(default=0.1, gt=0)
    expansion: float = 0.0
    feedback: float = 0.0


def _by_direction(**weights: float) -> dict[Direction, DirectionWeights]:
    return {direction: DirectionWeights(**weights) for direction in Direction}


class StageTwo(Frozen):
    """Weights per direction for each kind of bank, and what they were calibrated on.

    Lists from a bank that was given (`weights`, `with_pairs`) tell less than lists from the
    gallery's own queries (`own_bank`, `own_bank_with_pairs`), and weigh differently.
    """

    weights: dict[Direction, DirectionWeights] = Field(default_factory=_by_direction)
    with_pairs: dict[Direction, DirectionWeights] = Field(
        default_factory=lambda: _by_direction(expansion=0.1)
    )
    own_bank: dict[Direction, DirectionWeights] | None = None
    own_bank_with_pairs: dict[Direction, DirectionWeights] | None = None
    calibrated_on: str = "defaults"

    def of(self, direction: Direction, *, own_bank: bool, pairs: bool) -> DirectionWeights:
        """The weights of a direction; what was not calibrated for its own bank is as for any."""
        given = self.with_pairs if pairs else self.weights
        own = self.own_bank_with_pairs if pairs else self.own_bank
        return (own if own_bank and own is not None else given)[direction]
