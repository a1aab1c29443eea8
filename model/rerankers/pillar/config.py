"""The pillar re-ranker's sizes; the defaults are the released ones."""

from typing import Annotated

from pydantic import Field, model_validator

from model.core.errors import CodeShapeError
from model.core.types import Direction, Frozen

Count = Annotated[int, Field(ge=1)]


class PillarConfig(Frozen):
    """Widths of the networks, and how lists, pillars and graph are taken.

    `list_image_to_text` and `list_text_to_image` count the query, `pillars` those of each kind,
    the query among them, `neighbours` an item itself in its own modality.
    """

    width: Count = 768
    blocks: Count = 2
    heads: Count = 24
    mlp_ratio: Count = 4
    pillars: Count = 64
    neighbours: Count = 10
    list_image_to_text: Annotated[int, Field(ge=2)] = 32
    list_text_to_image: Annotated[int, Field(ge=2)] = 8
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.8

    @model_validator(mode="after")
    def _fits(self) -> "PillarConfig":
        if self.width % self.heads:
            raise CodeShapeError(
                f"heads must divide the width {self.width} into equal parts, got {self.heads}"
            )
        if self.pillars <= max(self.neighbours, self.shortlist(Direction.IMAGE_TO_TEXT)):
            raise CodeShapeError(
                f"pillars must outnumber neighbours and the shortlist, got {self.pillars} for "
                f"{self.neighbours} and {self.shortlist(Direction.IMAGE_TO_TEXT)}"
            )
        return self

    def shortlist(self, direction: Direction) -> int:
        """C, the candidates of a query: its list without itself."""
        if direction is Direction.IMAGE_TO_TEXT:
            return self.list_image_to_text - 1
        return self.list_text_to_image - 1
