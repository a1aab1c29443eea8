"""What became of the items that a search was asked about by id."""

from dataclasses import dataclass

from model.cascade import SearchOptions
from model.core.errors import UnknownItemError
from model.core.types import Fate, FloatArray
from model.why_not import Standing, standings
from service.engine import SearchEngine
from service.likeness import own_id, standing_without, with_room
from service.queries import Search


@dataclass(frozen=True)
class Told:
    """An id and what became of its item."""

    id: str
    standing: Standing


def fates(
    engine: SearchEngine, search: Search, options: SearchOptions, embedding: FloatArray
) -> tuple[Told, ...]:
    """What became of each id in the search's `why_not`, done with these options."""
    if not search.why_not:
        return ()
    rows = {one: engine.row(search.direction.candidate, one) for one in search.why_not}
    known = {one: row for one, row in rows.items() if row is not None}
    stood = _standings(engine, search, options, embedding, known)
    return tuple(Told(one, stood.get(one) or _nowhere(engine, one)) for one in search.why_not)


def _standings(
    engine: SearchEngine,
    search: Search,
    options: SearchOptions,
    embedding: FloatArray,
    rows: dict[str, int],
) -> dict[str, Standing]:
    """By id; in a search for more like an item, as if that item were not there."""
    own = own_id(search)
    if own is not None:
        rows = {**rows, own: engine.require_row(search.direction.candidate, own)}
    asked = with_room(search, options)
    found = (
        standings(engine.cascade, search.direction, embedding, asked, list(rows.values()))
        if rows
        else []
    )
    stood = dict(zip(rows, found, strict=True))
    if own is None:
        return stood
    left = {one: standing_without(each, stood[own], options.k) for one, each in stood.items()}
    return {**left, own: Standing(Fate.ASKED_WITH)}


def _nowhere(engine: SearchEngine, item_id: str) -> Standing:
    try:
        engine.artifact.find(item_id)
    except UnknownItemError:
        return Standing(Fate.UNKNOWN)
    return Standing(Fate.OTHER_KIND)
