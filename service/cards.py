"""Items as hits show them, the last ones kept: a hit is shown more often than it is read."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TypeAlias
from urllib.parse import quote

from pydantic import JsonValue

from model.artifact.items import Item, Shown
from model.artifact.reader import Artifact
from model.core.types import Modality

MOST_CARDS = 4096  # a side
Card: TypeAlias = Mapping[str, JsonValue]


def cards(artifact: Artifact) -> Mapping[Modality, Callable[[int], Card]]:
    """By modality, what a hit says of the item of a row, without empty fields."""
    return {side: lru_cache(MOST_CARDS)(partial(_card, artifact, side)) for side in artifact.sides}


def _card(artifact: Artifact, modality: Modality, row: int) -> Card:
    item = artifact.side(modality).items.shown(row)
    image = item if modality is Modality.IMAGE else _image_of(artifact, item)
    link = None if image is None else _link(artifact, image.id, sourced=image.pictured)
    card = {"id": item.id, "caption": item.caption, "image": link}
    known: dict[str, JsonValue] = {name: one for name, one in card.items() if one is not None}
    # A caption carries its image's metadata.
    return known | {"metadata": dict((image or item).metadata)}


def _image_of(artifact: Artifact, caption: Shown) -> Shown | None:
    partner = caption.partner
    return artifact.side(Modality.IMAGE).items.shown(partner) if partner >= 0 else None


def image_of(artifact: Artifact, item: Item) -> Item | None:
    """The image itself, or the one that a caption describes."""
    if item.modality is Modality.IMAGE:
        return item
    return artifact.item(Modality.IMAGE, item.partner) if item.partner >= 0 else None


def image_link(artifact: Artifact, item: Item) -> str | None:
    """Path of the item's picture; None where there is none to show."""
    image = image_of(artifact, item)
    return None if image is None else _link(artifact, image.id, sourced=image.image is not None)


def _link(artifact: Artifact, image_id: str, *, sourced: bool) -> str | None:
    if not sourced and artifact.thumbnails is None:
        return None
    return f"/items/{quote(image_id, safe='')}/image"
