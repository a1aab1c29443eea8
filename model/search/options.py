"""What can be asked of a search, as one frozen value."""

from dataclasses import dataclass, field
from functools import cached_property

from model.core.errors import InputError
from model.core.filters import Filter
from model.core.types import CandidateBudget, RerankMode

REACH = 8192


@dataclass(frozen=True)
class SearchOptions:
    """How many hits, in which order, from which candidates, and whether to explain.

    `rerank` None is the index's own default, which `SecondStage` knows. The ranking of a query
    does not depend on `k` and `offset`, which only choose a part of it, as long as they end
    within `reach`. Hits have a score in [0, 1] beside their own with `calibrate`, and need one of
    at least `min_score`. Of hits whose hash codes differ in at most `collapse` bits the best
    stays.
    """

    k: int = 10
    rerank: RerankMode | None = None
    budget: CandidateBudget = field(default_factory=CandidateBudget)
    explain: bool = False
    offset: int = 0
    filter: Filter | None = None
    exact: bool = False
    calibrate: bool = False
    min_score: float | None = None
    collapse: int | None = None
    reach: int = REACH

    def __post_init__(self) -> None:
        """Refuse a search for nothing.

        Raises:
            InputError: k is below 1, an offset or a distance below 0, or a score outside [0, 1].
        """
        if self.k < 1:
            raise InputError(f"k needs to be at least 1, got {self.k}")
        if self.offset < 0:
            raise InputError(f"offset needs to be at least 0, got {self.offset}")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise InputError(f"min_score needs to lie in 0 to 1, got {self.min_score}")
        if self.collapse is not None and self.collapse < 0:
            raise InputError(f"collapse needs to be at least 0 bits, got {self.collapse}")

    @property
    def depth(self) -> int:
        """Where in the ranking the hits end."""
        return self.offset + self.k

    @property
    def picks(self) -> bool:
        """Whether not every candidate becomes a hit."""
        return self.min_score is not None or self.collapse is not None

    @property
    def compares(self) -> bool:
        """Whether scores are compared with what is usual for the query."""
        return self.calibrate or self.min_score is not None

    @cached_property
    def wanted(self) -> Filter | None:
        """The filter, None where it asks for nothing."""
        return self.filter or None
