"""The vocabulary: modalities, directions, input kinds and the arrays that travel."""

from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

FloatArray = NDArray[np.float32]
HalfArray = NDArray[np.float16]
ByteArray = NDArray[np.uint8]
RowArray = NDArray[np.int64]
RankArray = NDArray[np.int32]
Interval: TypeAlias = tuple[float, float]  # begin and end by `time.perf_counter`


class Frozen(BaseModel):
    """A validated, immutable value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Modality(StrEnum):
    """What an item is."""

    IMAGE = "image"
    TEXT = "text"

    @property
    def other(self) -> "Modality":
        """The modality on the other side of a search."""
        return Modality.TEXT if self is Modality.IMAGE else Modality.IMAGE


class Direction(StrEnum):
    """Which modality asks and which answers."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_TEXT = "image-to-text"

    @cached_property
    def query(self) -> Modality:
        """The modality of the query."""
        return Modality.TEXT if self is Direction.TEXT_TO_IMAGE else Modality.IMAGE

    @cached_property
    def candidate(self) -> Modality:
        """The modality of the items searched."""
        return self.query.other

    @property
    def other(self) -> "Direction":
        """The direction in which query and candidate change places."""
        to_image = self is Direction.TEXT_TO_IMAGE
        return Direction.IMAGE_TO_TEXT if to_image else Direction.TEXT_TO_IMAGE


class Kinship(StrEnum):
    """Searches inside one modality: more items like one of their own kind."""

    IMAGE_TO_IMAGE = "image-to-image"
    TEXT_TO_TEXT = "text-to-text"

    @cached_property
    def query(self) -> Modality:
        """The modality of the query."""
        return Modality.IMAGE if self is Kinship.IMAGE_TO_IMAGE else Modality.TEXT

    @cached_property
    def candidate(self) -> Modality:
        """The modality of the items searched."""
        return self.query


Way: TypeAlias = Direction | Kinship
WAYS: tuple[Way, ...] = (*Direction, *Kinship)


def way_between(query: Modality, candidate: Modality) -> Way:
    """The search that leads from one modality to another, or to the same."""
    return next(way for way in WAYS if (way.query, way.candidate) == (query, candidate))


class InputKind(StrEnum):
    """What an encoder can be given."""

    IMAGE = "image"
    REGIONS = "regions"
    TEXT = "text"
    VECTOR = "vector"


class RerankMode(StrEnum):
    """How Stage II orders its candidates."""

    LEARNED = "learned"
    RELATIONSHIP = "relationship"
    REFERENCE = "reference"
    PILLAR = "pillar"
    NONE = "none"


class Fate(StrEnum):
    """What became of an item that somebody expected among the hits.

    From `hash` on, the stage that dropped it; `rerank` is a place behind the last hit.
    """

    FOUND = "found"
    EARLIER = "earlier"  # before the first hit that `offset` leaves
    ASKED_WITH = "asked_with"  # the item itself, in a search for more like it
    UNKNOWN = "unknown"  # the gallery holds no such item
    OTHER_KIND = "other_kind"  # of a modality that the search does not look for
    FILTER = "filter"
    HASH = "hash"
    PQ = "pq"
    RERANK = "rerank"
    MIN_SCORE = "min_score"
    COLLAPSED = "collapsed"  # a near-duplicate of a hit


class CandidateBudget(Frozen):
    """How many candidates each stage keeps: shares of the gallery inside fixed bounds.

    `keep_hash` and `keep_pq` are shares of the whole gallery (not of the stage before);
    `at_least` keeps small galleries whole, the caps keep large ones fast.
    """

    keep_hash: float = 0.20
    keep_pq: float = 0.10
    at_least: int = 64
    max_hash: int = 8192
    max_pq: int = 1024

    def keeping(self, count: int) -> "CandidateBudget":
        """The same, with at least so many candidates."""
        return self.model_copy(update={"at_least": max(self.at_least, count)})

    def counts(self, n_items: int) -> tuple[int, int]:
        """(C1, C2): candidates kept by the Hamming stage and of these by the PQ stage."""
        second = min(n_items, max(self.at_least, min(int(self.keep_pq * n_items), self.max_pq)))
        first = min(n_items, max(second, min(int(self.keep_hash * n_items), self.max_hash)))
        return first, second
