"""What can be asked, and with what: a text, a decoded image, a vector, an image of the gallery."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from PIL.Image import Image

from model.cascade import SearchOptions
from model.core.types import Direction


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
    """The id of an image of the gallery, which asks with its stored embedding."""

    item_id: str


Query: TypeAlias = TextQuery | ImageQuery | VectorQuery | StoredQuery


@dataclass(frozen=True)
class Search:
    """One query with what is wanted of it."""

    direction: Direction
    query: Query
    options: SearchOptions
    deadline: float = math.inf  # on the monotonic clock
