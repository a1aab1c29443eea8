"""From checked requests to answers: limits, decoding, the device's thread, the hits."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, TypeAlias

from model.cascade import SearchOptions
from model.core.errors import MeetError
from model.core.types import InputKind, Way, way_between
from model.data.image_limits import ImageLimits
from model.data.images import decode_image
from service import notes
from service.answer_cache import AnswerCache, AnswerKey
from service.answers import search_answer, timed
from service.asked import Asked, Several, entries, move_of
from service.checks import check_limit, checked_text, image_bytes
from service.choosing import check_choice, filter_of, prepare
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.errors import DeadlineError, InvalidRequestError
from service.halving import Outcome
from service.jobs import Found
from service.limits import Limits
from service.metrics import Metrics
from service.noticing import of_texts
from service.problems import violation
from service.queries import ImageQuery, Query, Search, StoredQuery, TextQuery, VectorQuery
from service.refusals import Refused
from service.schemas import ImageSearch, ImageUpload, SearchFields, SimilarSearch, TextSearch

Answer: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class _Ready:
    """A search that can be queued, the key of its answer, and what it has taken so far."""

    search: Search
    key: AnswerKey
    spent: dict[str, float]
    began: float = field(default_factory=perf_counter)

    def total(self) -> dict[str, float]:
        """The milliseconds outside the device's thread, with the total until now."""
        return {**self.spent, "total": sum(self.spent.values()) + _milliseconds(self.began)}


@dataclass(frozen=True)
class Searcher:
    """Answers searches over one engine; each request gets its own, over the engine served then."""

    engine: SearchEngine
    dispatcher: Dispatcher
    limits: Limits
    metrics: Metrics
    answers: AnswerCache

    async def one(self, way: Way, asked: Asked) -> Answer:
        """The answer to one query."""
        self._check(way, asked)
        ready = await self._ready(way, asked, self._deadline(asked), self.limits.max_pixels)
        if (kept := await self._kept(ready)) is not None:
            return kept
        notices = await prepare(self.dispatcher, self.engine, ready.search, self.limits)
        found = await self.dispatcher.search(ready.search, self.engine)
        return self._answer(ready, found, notices)

    async def several(self, way: Way, asked: Several) -> list[Outcome[Answer]]:
        """The answer to each query of one call, or why it has none; all wait at once, or none.

        Raises:
            InvalidRequestError: more queries than one call may hold.
            QueueFullError: too much waits for so many more.
        """
        parts = entries(asked)
        check_limit("queries", len(parts), self.limits.max_queries, "limits.max_queries")
        self._check(way, asked)
        self.dispatcher.require_room(len(parts))
        return await self._answer_all(await self._all_ready(way, parts, self._deadline(asked)))

    async def similar(self, asked: SimilarSearch) -> Answer:
        """More like an item of the gallery, of its own kind or of the other.

        Raises:
            UnknownItemError: no such item.
        """
        modality, _ = self.engine.artifact.find(asked.id)
        return await self.one(way_between(modality, asked.to or modality), asked)

    async def _all_ready(
        self, way: Way, parts: Sequence[Asked | Refused], deadline: float
    ) -> list[Outcome[_Ready]]:
        """Each entry as a search, one after another: their images share the limit of pixels."""
        found: list[Outcome[_Ready]] = []
        pixels = self.limits.max_pixels
        for part in parts:
            try:
                if isinstance(part, Refused):
                    raise InvalidRequestError([violation(entry) for entry in part.entries])
                ready = await self._ready(way, part, deadline, pixels)
            except MeetError as error:
                found.append(error)
            else:
                pixels -= ready.search.pixels
                found.append(ready)
        return found

    async def _answer_all(self, parts: Sequence[Outcome[_Ready]]) -> list[Outcome[Answer]]:
        kept = await asyncio.gather(*map(self._kept_or_failed, parts))
        asked = [
            part
            for part, answer in zip(parts, kept, strict=True)
            if isinstance(part, _Ready) and answer is None
        ]
        notices: list[str] = []
        if asked:  # all of them share one filter
            notices = await prepare(self.dispatcher, self.engine, asked[0].search, self.limits)
        found = await self.dispatcher.search_all([one.search for one in asked], self.engine)
        told = iter(
            one if isinstance(one, Exception) else self._answer(ready, one, notices)
            for ready, one in zip(asked, found, strict=True)
        )
        return [next(told) if answer is None else answer for answer in kept]

    async def _ready(self, way: Way, asked: Asked, deadline: float, pixels: int) -> _Ready:
        """The search of a request whose limits are checked; an image is decoded."""
        move, began = move_of(asked, self.limits), perf_counter()
        if move is not None:
            self.engine.encoder.require(InputKind.TEXT)
        query = await self._query(way, asked, deadline, pixels)
        options, why_not = self._options(way, asked), tuple(asked.why_not or ())
        search = Search(way, query, options, deadline, move, why_not)
        key = AnswerKey(self.engine.version, way, asked, self.engine.budget, options.reach)
        spent = {"decode": _milliseconds(began)} if isinstance(query, ImageQuery) else {}
        return _Ready(search, key, spent)

    async def _query(self, way: Way, asked: Asked, deadline: float, pixels: int) -> Query:
        match asked:
            case SimilarSearch() | ImageSearch(id=str()) | TextSearch(id=str()):
                row = self.engine.require_row(way.query, str(asked.id))
                return StoredQuery(row, way.query)
            case TextSearch(query=str(text)):
                self.engine.encoder.require(InputKind.TEXT)
                return TextQuery(checked_text("query", text, self.limits))
            case ImageSearch(image=str(text)):
                return await self._image(lambda: image_bytes(text), deadline, pixels)
            case ImageUpload():
                return await self._image(lambda: asked.image, deadline, pixels)
            case _:
                return VectorQuery(asked.vector or [])

    async def _image(self, read: Callable[[], bytes], deadline: float, pixels: int) -> ImageQuery:
        self.engine.encoder.require(InputKind.IMAGE)
        began = perf_counter()
        limits = ImageLimits(max_bytes=self.limits.max_body_bytes, max_pixels=pixels)
        try:
            async with asyncio.timeout_at(deadline):
                image = await self.dispatcher.decode(lambda: decode_image(read(), limits))
        except TimeoutError as error:
            raise DeadlineError("the image was not read within the search's time") from error
        notes.current().spans["decode"] = began, perf_counter()
        return ImageQuery(image)

    async def _kept(self, ready: _Ready) -> Answer | None:
        """The answer that was kept of the same fields, None where there is none."""
        if (kept := await self.answers.get(ready.key)) is None:
            return None
        spent = ready.total()
        self.metrics.search(ready.search.direction, spent)
        notes.current().search(ready.search, spent)
        return timed(kept, spent)

    async def _kept_or_failed(self, part: Outcome[_Ready]) -> Outcome[Answer] | None:
        return part if isinstance(part, Exception) else await self._kept(part)

    def _answer(self, ready: _Ready, found: Found, notices: Sequence[str]) -> Answer:
        spent = {**found.milliseconds, **ready.total()}
        self.metrics.search(ready.search.direction, spent, found.degraded)
        notes.current().search(ready.search, spent, found)
        answer = search_answer(ready.search, found, spent)
        if told := [*of_texts(self.engine, ready.search), *notices]:
            answer["notices"] = told
        self.answers.put(ready.key, answer)
        return answer

    def _deadline(self, search: SearchFields) -> float:
        """When the answer is due, on the monotonic clock."""
        return monotonic() + (search.timeout_ms or self.limits.max_timeout_ms) / 1000

    def _options(self, way: Way, search: SearchFields) -> SearchOptions:
        budget, count = self.engine.budget, search.candidates
        if count is not None:
            budget = budget.model_copy(update={"at_least": count, "max_pq": count})
        return SearchOptions(
            search.k,
            self.engine.cascade.second.mode_of(way, search.rerank),
            budget,
            search.explain,
            offset=search.offset,
            filter=filter_of(search.filter),
            exact=search.exact,
            calibrate=True,
            min_score=search.min_score,
            collapse=search.collapse,
            reach=self.limits.max_candidates,
        )

    def _check(self, way: Way, search: SearchFields) -> None:
        """Refuse what the limits or the gallery do not allow, before anything is encoded."""
        limits, candidates, time_out = self.limits, search.candidates, search.timeout_ms
        check_limit("k", search.k, limits.max_k, "limits.max_k")
        check_limit("candidates", candidates or 0, limits.max_candidates, "limits.max_candidates")
        check_limit("timeout_ms", time_out or 0, limits.max_timeout_ms, "limits.max_timeout_ms")
        self.engine.require_candidates(way)
        check_choice(self.engine, way, search, self.limits)
        self.engine.cascade.second.mode_of(way, search.rerank)


def _milliseconds(begin: float) -> float:
    return 1000 * (perf_counter() - begin)
