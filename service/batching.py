"""A batch of searches answered together, so that one that fails fails alone."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TypeAlias, TypeVar, assert_never

import numpy as np
import torch

from model.core.types import Direction, FloatArray, Interval
from service.deadlines import Pace, Plan, planned
from service.engine import SearchEngine
from service.errors import DeviceMemoryError
from service.jobs import Found
from service.queries import ImageQuery, Query, Search, StoredQuery, TextQuery, VectorQuery

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome: TypeAlias = Result | Exception
Note: TypeAlias = Callable[[Exception], None]

OUT_OF_MEMORY = "out of memory"  # how drivers say it in a plain RuntimeError


def in_halves(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]], halved: Note
) -> list[Outcome[Result]]:
    """Each item's result, or the exception that it raises when it is worked on alone.

    What fails together is halved and tried again: a bad item is found in log2(B) steps, and a
    batch that was too large for the device's memory becomes batches that fit.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
        failure = _named(error)
    if isinstance(failure, DeviceMemoryError) and torch.cuda.is_available():
        torch.cuda.empty_cache()  # after the error's frames, which held on to what they had
    if len(items) == 1:
        return [failure]
    halved(failure)
    middle = len(items) // 2
    return in_halves(items[:middle], work, halved) + in_halves(items[middle:], work, halved)


def _named(error: Exception) -> Exception:
    """The error; a lack of memory, whoever reports it, under one name."""
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if not lacking and not (isinstance(error, RuntimeError) and OUT_OF_MEMORY in str(error)):
        return error
    return DeviceMemoryError("the device has no memory for this search, try again later")


@dataclass(frozen=True)
class _Encoded:
    """A search with its query's unit embedding (D,) and the milliseconds that it took."""

    search: Search
    embedding: FloatArray
    milliseconds: float
    span: Interval


@dataclass(frozen=True)
class Batch:
    """Searches that are encoded together, then searched for together by direction.

    `halved` is told whatever made a part of the batch be tried again in halves.
    """

    engine: SearchEngine
    searches: Sequence[Search]
    pace: Pace
    halved: Note

    def answer(self) -> list[Outcome[Found]]:
        """What each search finds, or why it fails."""
        outcomes: dict[int, Outcome[Found]] = {}
        ready: dict[Direction, list[tuple[int, _Encoded]]] = defaultdict(list)
        for place, encoded in enumerate(self._encode()):
            if isinstance(encoded, Exception):
                outcomes[place] = encoded
            else:
                ready[encoded.search.direction].append((place, encoded))
        for direction, group in ready.items():
            places, parts = zip(*group, strict=True)
            found = in_halves(parts, partial(self._find, direction), self.halved)
            outcomes |= zip(places, found, strict=True)
        return [outcomes[place] for place in range(len(self.searches))]

    def _encode(self) -> list[Outcome[_Encoded]]:
        """Each search with its embedding: texts in one call, images in one call."""
        outcomes: dict[int, Outcome[_Encoded]] = {}
        kinds: dict[type[Query], list[int]] = defaultdict(list)
        for place, search in enumerate(self.searches):
            kinds[type(search.query)].append(place)
        for places in kinds.values():
            alike = [self.searches[place] for place in places]
            encoded = in_halves(alike, partial(_encode, self.engine), self.halved)
            outcomes |= zip(places, encoded, strict=True)
        return [outcomes[place] for place in range(len(self.searches))]

    def _find(self, direction: Direction, group: Sequence[_Encoded]) -> list[Found]:
        """Rankings of one direction, each as whole as its deadline leaves time for."""
        plans = self._plans(direction, [one.search for one in group])
        embeddings = np.stack([one.embedding for one in group])
        options = [plan.options for plan in plans]
        rankings = self.engine.cascade.search(direction, embeddings, options)
        for plan, ranking in zip(plans, rankings, strict=True):
            self.pace.note(direction, plan, sum(ranking.milliseconds.values()) / 1000)
        return [
            Found(
                self.engine,
                ranking,
                {"encode": one.milliseconds, **ranking.milliseconds},
                plan.degraded,
                one.embedding,
                plan.options,
                {"encode": one.span, **ranking.spans},
            )
            for one, plan, ranking in zip(group, plans, rankings, strict=True)
        ]

    def _plans(self, direction: Direction, searches: Sequence[Search]) -> list[Plan]:
        mode = self.engine.cascade.second.mode
        asked = [replace(one.options, rerank=mode(one.options.rerank)) for one in searches]
        return planned(self.pace, direction, asked, [one.deadline for one in searches])


def _encode(engine: SearchEngine, searches: Sequence[Search]) -> list[_Encoded]:
    """Searches whose queries are all of one kind, with their embeddings; the time is shared."""
    began = perf_counter()
    embeddings = _embeddings(engine, [search.query for search in searches])
    span = began, perf_counter()
    share = 1000 * (span[1] - span[0]) / len(searches)
    return [_Encoded(*both, share, span) for both in zip(searches, embeddings, strict=True)]


def _embeddings(engine: SearchEngine, queries: Sequence[Query]) -> FloatArray:
    """Unit embeddings (B, D) of queries that are all of one kind."""
    if texts := [query.text for query in queries if isinstance(query, TextQuery)]:
        return engine.encoder.encode_texts(texts)
    if images := [query.image for query in queries if isinstance(query, ImageQuery)]:
        return engine.encoder.encode_images(images)
    return np.concatenate([_known(engine, query) for query in queries])


def _known(engine: SearchEngine, query: Query) -> FloatArray:
    """The embedding (1, D) of a query that needs no encoder."""
    match query:
        case StoredQuery():
            return engine.embed_stored(query.item_id)
        case VectorQuery():
            return engine.embed_vector(query.values)
        case TextQuery() | ImageQuery():
            raise TypeError(f"an encoder embeds a {type(query).__name__}")
        case _:
            assert_never(query)
