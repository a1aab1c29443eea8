"""What can be asked, and with what: a text, a decoded image, a vector, an item of the gallery."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL.Image import Image

from model.cascade import SearchOptions
from model.core.types import Modality, Way


@dataclass(frozen=True)
class TextQuery:
    """A checked text."""

    text: str


@dataclass(frozen=True)
class ImageQuery:
    """A decoded RGB image."""

    image: Image


@dataclass(frozen=True)
class VectorQuery:
    """A caller's vector, of any length above zero."""

    values: Sequence[float]


@dataclass(frozen=True)
class StoredQuery:
    """An item of the gallery, which asks with its stored embedding."""

    row: int
    modality: Modality


Query: TypeAlias = TextQuery | ImageQuery | VectorQuery | StoredQuery


@dataclass(frozen=True)
class Move:
    """Texts that a query's embedding moves towards and away from, and how far."""

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    weights: tuple[float, float]

    @property
    def queries(self) -> tuple[TextQuery, ...]:
        """What has to be encoded for it."""
        return tuple(TextQuery(text) for text in (*self.plus, *self.minus))


@dataclass(frozen=True)
class Search:
    """One query with what is wanted of it."""

    direction: Way
    query: Query
    options: SearchOptions
    deadline: float = math.inf  # on the monotonic clock
    move: Move | None = None
    why_not: tuple[str, ...] = ()  # ids

    @property
    def queries(self) -> tuple[Query, ...]:
        """All that has to be embedded: the query itself first."""
        return (self.query, *(() if self.move is None else self.move.queries))

    @property
    def encodes(self) -> bool:
        """Whether the encoder is needed for it."""
        return any(isinstance(query, TextQuery | ImageQuery) for query in self.queries)

    @property
    def pixels(self) -> int:
        """How many pixels it holds on to while it waits."""
        query = self.query
        return query.image.width * query.image.height if isinstance(query, ImageQuery) else 0
