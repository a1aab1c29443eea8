"""What became of the items that a search was asked about by id."""

from dataclasses import dataclass

from model.cascade import Ranking, SearchOptions
from model.core.errors import UnknownItemError
from model.core.types import Fate, FloatArray
from model.why_not import Standing, standings
from service.engine import SearchEngine
from service.likeness import own_id, standing_without, with_room
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
    rows = {one: engine.row(search.direction.candidate, one) for one in search.why_not}
    known = {one: row for one, row in rows.items() if row is not None}
    stood = _standings(engine, search, options, embedding, known)
    own = own_id(search)
    if own is not None:
        lone = stood[own]
        stood = {n: standing_without(known[n], stood[n], lone, page) for n in known}
        stood[own] = Standing(Fate.ASKED_WITH)
    return tuple(_told(engine, search, one, stood.get(one)) for one in search.why_not)


def _standings(
    engine: SearchEngine,
    search: Search,
    options: SearchOptions,
    embedding: FloatArray,
    rows: dict[str, int],
) -> dict[str, Standing]:
    """By id, the one that asks for its like among them."""
    way, own = search.direction, own_id(search)
    if own is not None:
        rows = {**rows, own: engine.require_row(way.candidate, own)}
    wide = with_room(search, options)
    found = standings(engine.cascade, way, embedding, wide, list(rows.values()))
    return dict(zip(rows, found, strict=True))


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
