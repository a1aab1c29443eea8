"""Searches turned into embeddings: whatever is of one kind shares one call of the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np

from model.core.errors import VectorRejectedError
from model.core.types import FloatArray, Interval
from model.core.vectors import shifted
from service.engine import SearchEngine
from service.grouping import in_groups
from service.halving import Note, Outcome, in_halves
from service.queries import ImageQuery, Move, Query, Search, StoredQuery, TextQuery, VectorQuery


@dataclass(frozen=True)
class Encoded:
    """A search with its query's unit embedding (D,) the milliseconds that it took, and when."""

    search: Search
    embedding: FloatArray
    milliseconds: float
    span: Interval


class _Part(NamedTuple):
    """One embedding (D,) that a search needs, and the milliseconds that it took."""

    embedding: FloatArray
    milliseconds: float
    span: Interval


def encoded(
    engine: SearchEngine, searches: Sequence[Search], halved: Note
) -> list[Outcome[Encoded]]:
    """Each search with its embedding, or why it has none.

    The texts that searches are moved by are encoded together with those that are searched for.
    """
    queries = [query for search in searches for query in search.queries]
    parts = iter(_parts(engine, queries, halved))
    return [_put_together(search, [next(parts) for _ in search.queries]) for search in searches]


def _parts(engine: SearchEngine, queries: Sequence[Query], halved: Note) -> list[Outcome[_Part]]:
    work = partial(_embedded, engine)
    return in_groups(queries, type, lambda _, alike: in_halves(alike, work, halved))


def _embedded(engine: SearchEngine, queries: Sequence[Query]) -> list[_Part]:
    """Queries that are all of one kind, with their embeddings; the time is shared."""
    began = perf_counter()
    embeddings = _embeddings(engine, queries)
    span = began, perf_counter()
    share = 1000 * (span[1] - span[0]) / len(queries)
    return [_Part(embedding, share, span) for embedding in embeddings]


def _put_together(search: Search, parts: Sequence[Outcome[_Part]]) -> Outcome[Encoded]:
    """The search with its query's embedding, moved where it asks for that."""
    if search.move is None:
        [part] = parts
        return part if isinstance(part, Exception) else Encoded(search, *part)
    whole = [part for part in parts if isinstance(part, _Part)]
    if failure := next((part for part in parts if isinstance(part, Exception)), None):
        return failure
    try:
        embedding = _moved(search.move, [part.embedding for part in whole])
    except VectorRejectedError as error:
        return error
    begins, ends = zip(*(part.span for part in whole), strict=True)
    spent = sum(part.milliseconds for part in whole)
    return Encoded(search, embedding, spent, (min(begins), max(ends)))


def _moved(move: Move, embeddings: Sequence[FloatArray]) -> FloatArray:
    rows = np.stack(embeddings)
    plus, minus = np.split(rows[1:], [len(move.plus)])
    return shifted(rows[0], plus, minus, move.weights)


def _embeddings(engine: SearchEngine, queries: Sequence[Query]) -> FloatArray:
    """Unit embeddings (B, D) of queries that are all of one kind."""
    if vectors := [query.values for query in queries if isinstance(query, VectorQuery)]:
        return engine.embed_vectors(vectors)
    if items := [(one.modality, one.row) for one in queries if isinstance(one, StoredQuery)]:
        return engine.embed_stored(items)
    if texts := [query.text for query in queries if isinstance(query, TextQuery)]:
        return engine.encoder.encode_texts(texts)
    images = [query.image for query in queries if isinstance(query, ImageQuery)]
    return engine.encoder.encode_images(images)
