"""Items as hits show them, the last ones kept: a hit is shown more often than it is read."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TypeAlias
from urllib.parse import quote

from pydantic import JsonValue

from model.artifact.items import NO_ROW, Shown
from model.artifact.reader import Artifact
from model.core.types import Modality

MOST_CARDS = 4096  # a side
Card: TypeAlias = Mapping[str, JsonValue]


def cards(artifact: Artifact) -> Mapping[Modality, Callable[[int], Card]]:
    """By modality, what a hit says of the item of a row, without empty fields."""
    return {side: lru_cache(MOST_CARDS)(partial(_card, artifact, side)) for side in artifact.sides}


def _card(artifact: Artifact, modality: Modality, row: int) -> Card:
    item = artifact.side(modality).items.shown(row)
    image: Shown | None = item if modality is Modality.IMAGE else None
    if item.partner != NO_ROW:
        image = artifact.side(Modality.IMAGE).items.shown(item.partner)
    card: dict[str, JsonValue] = {"id": item.id}
    if item.caption is not None:
        card["caption"] = item.caption
    if image is not None and (image.pictured or artifact.thumbnails is not None):
        card["image"] = f"/items/{quote(image.id, safe='')}/image"
    # A caption carries its image's metadata.
    return card | {"metadata": dict((image or item).metadata)}
