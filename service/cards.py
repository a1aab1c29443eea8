"""Items as hits show them, the last ones kept: a hit is shown more often than it is read."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TypeAlias
from urllib.parse import quote

from pydantic import JsonValue

from model.artifact.items import Item
from model.artifact.reader import Artifact
from model.core.types import Modality

MOST_CARDS = 4096  # a side
Card: TypeAlias = Mapping[str, JsonValue]


def cards(artifact: Artifact) -> Mapping[Modality, Callable[[int], Card]]:
    """By modality, what a hit says of the item of a row, without empty fields."""
    return {side: lru_cache(MOST_CARDS)(partial(_card, artifact, side)) for side in artifact.sides}


def _card(artifact: Artifact, modality: Modality, row: int) -> Card:
    item = artifact.item(modality, row)
    card = {"id": item.id, "caption": item.caption, "image": image_link(artifact, item)}
    known: dict[str, JsonValue] = {name: one for name, one in card.items() if one is not None}
    return known | {"metadata": dict(item.metadata)}


def image_of(artifact: Artifact, item: Item) -> Item | None:
    """The image itself, or the one that a caption describes."""
    if item.modality is Modality.IMAGE:
        return item
    return artifact.item(Modality.IMAGE, item.partner) if item.partner >= 0 else None


def image_link(artifact: Artifact, item: Item) -> str | None:
    """Path of the item's picture; None where there is none to show."""
    image = image_of(artifact, item)
    if image is None or (image.image is None and artifact.thumbnails is None):
        return None
    return f"/items/{quote(image.id, safe='')}/image"
