"""What searches of an index may say: field by field, and route by route."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from model.core.types import Direction, InputKind, Kinship
from service.engine import SearchEngine
from service.schemas import (
    ImageSearch,
    QueryFields,
    SearchFields,
    Shift,
    SimilarSearch,
    TextSearch,
)

MOVES = tuple(Shift.model_fields)
ROUTE = "/search/{}"
SIMILAR = ROUTE.format("similar")
SCHEMAS: Mapping[Direction, type[QueryFields]] = {
    Direction.TEXT_TO_IMAGE: TextSearch,
    Direction.IMAGE_TO_TEXT: ImageSearch,
}


def options(engine: SearchEngine) -> list[str]:
    """Fields that every search takes beside its query."""
    return _taken(engine, [*SearchFields.model_fields, *MOVES])


def fields(engine: SearchEngine) -> dict[str, list[str]]:
    """All fields of a search by its route, those that say the query first; none: not answered."""
    found = {ROUTE.format(way): _of_direction(engine, way) for way in Direction}
    is_answered = any(engine.accepts(way) for way in Kinship)
    return found | {SIMILAR: _named(engine, SimilarSearch, ["id"] if is_answered else [])}


def _of_direction(engine: SearchEngine, way: Direction) -> list[str]:
    accepted = engine.accepts(way)
    return _named(engine, SCHEMAS[way], [*accepted, "queries"] if accepted else [])


def _named(engine: SearchEngine, schema: type[BaseModel], queries: list[str]) -> list[str]:
    """The queries that are taken, and every other field of the schema."""
    if not queries:
        return []
    asked = {*getattr(schema, "choices", ()), *queries}
    others = [name for name in schema.model_fields if name not in asked]
    return [*queries, *_taken(engine, others)]


def _taken(engine: SearchEngine, names: Iterable[str]) -> list[str]:
    """The fields that this index can answer: texts that move a query need an encoder of texts."""
    reads_texts = InputKind.TEXT in engine.encoder.identity.accepts
    return [name for name in names if reads_texts or name not in MOVES]
