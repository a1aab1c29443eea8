"""What became of the items that a search was asked about by id."""

from dataclasses import dataclass

from model.cascade import Ranking, SearchOptions
from model.core.errors import UnknownItemError
from model.core.types import Fate, FloatArray
from model.why_not import Standing, standings
from service.engine import SearchEngine
from service.likeness import own_row, standing_without, with_room
from service.queries import Search


@dataclass(frozen=True)
class Told:
    """An id, what became of its item, and the id of the hit that stands for it where one does."""

    id: str
    standing: Standing
    represented_by: str | None = None


def fates(
    engine: SearchEngine,
    search: Search,
    options: SearchOptions,
    embedding: FloatArray,
    page: Ranking,
) -> tuple[Told, ...]:
    """What became of each id in the search's `why_not`, which these options led to this page."""
    if not search.why_not:
        return ()
    rows = [engine.row(search.direction.candidate, one) for one in search.why_not]
    known = {row for row in rows if row is not None}
    stood = _standings(engine, search, options, embedding, page, known)
    return tuple(
        _told(engine, search, one, None if row is None else stood[row])
        for one, row in zip(search.why_not, rows, strict=True)
    )


def _standings(
    engine: SearchEngine,
    search: Search,
    options: SearchOptions,
    embedding: FloatArray,
    page: Ranking,
    rows: set[int],
) -> dict[int, Standing]:
    """By row, as if the one that asks for its like were not in the gallery."""
    own, wide = own_row(search), with_room(search, options)
    asked = sorted(rows if own is None else {*rows, own})
    found = standings(engine.cascade, search.direction, embedding, wide, asked)
    stood = dict(zip(asked, found, strict=True))
    if own is None:
        return stood
    left = {row: standing_without(row, stood[row], stood[own], page) for row in asked}
    return {**left, own: Standing(Fate.ASKED_WITH)}


def _told(engine: SearchEngine, search: Search, item_id: str, standing: Standing | None) -> Told:
    if standing is None:
        return Told(item_id, Standing(_elsewhere(engine, item_id)))
    hit = standing.represented_by
    items = engine.artifact.side(search.direction.candidate).items
    return Told(item_id, standing, None if hit is None else items.id(hit))


def _elsewhere(engine: SearchEngine, item_id: str) -> Fate:
    try:
        engine.artifact.find(item_id)
    except UnknownItemError:
        return Fate.UNKNOWN
    return Fate.OTHER_KIND
