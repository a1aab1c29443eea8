"""From a checked request to its answer: limits, decoding, the device's thread, the hits."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter

from PIL.Image import Image

from model.cascade import SearchOptions
from model.core.errors import ImageRejectedError, TextRejectedError
from model.core.types import Direction, InputKind
from model.data.images import ImageLimits, decode_image
from service.answer_cache import AnswerCache, AnswerKey
from service.answers import search_answer, timed
from service.choosing import check_choice, check_limit, filter_of, prepare
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.errors import DeadlineError
from service.metrics import Metrics
from service.queries import ImageQuery, Query, Search, StoredQuery, TextQuery, VectorQuery
from service.schemas import ImageSearch, ImageUpload, SearchFields, TextSearch
from service.settings import Limits

ASCII_WHITESPACE = b" \t\r\n"


@dataclass(frozen=True)
class Searcher:
    """Answers searches over one engine."""

    engine: SearchEngine
    dispatcher: Dispatcher
    limits: Limits
    metrics: Metrics
    answers: AnswerCache

    async def by_text(self, search: TextSearch) -> dict[str, object]:
        """Images for a text or a vector."""
        self._check(Direction.TEXT_TO_IMAGE, search)
        if search.query is None:
            vector = VectorQuery(search.vector or [])
            return await self._search(Direction.TEXT_TO_IMAGE, search, vector)
        self.engine.encoder.require(InputKind.TEXT)
        text = TextQuery(checked_text(search.query, self.limits))
        return await self._search(Direction.TEXT_TO_IMAGE, search, text)

    async def by_image(self, search: ImageSearch) -> dict[str, object]:
        """Captions for an image in base64, a gallery image or a vector."""
        self._check(Direction.IMAGE_TO_TEXT, search)
        if search.image is not None:
            encoded = search.image
            return await self._by_file(search, lambda: base64_bytes(encoded))
        if search.id is not None:
            return await self._search(Direction.IMAGE_TO_TEXT, search, StoredQuery(search.id))
        vector = VectorQuery(search.vector or [])
        return await self._search(Direction.IMAGE_TO_TEXT, search, vector)

    async def by_upload(self, upload: ImageUpload) -> dict[str, object]:
        """Captions for an image file."""
        self._check(Direction.IMAGE_TO_TEXT, upload)
        return await self._by_file(upload, lambda: upload.image)

    async def _by_file(self, search: SearchFields, read: Callable[[], bytes]) -> dict[str, object]:
        self.engine.encoder.require(InputKind.IMAGE)
        begin, deadline = perf_counter(), self._deadline(search)
        try:
            async with asyncio.timeout_at(deadline):
                image = await self.dispatcher.decode(self._decode, read)
        except TimeoutError as error:
            raise DeadlineError("the image was not read within the search's time") from error
        job = Search(Direction.IMAGE_TO_TEXT, ImageQuery(image), self._options(search), deadline)
        return await self._answer(search, job, decode=_milliseconds(begin))

    async def _search(
        self, direction: Direction, search: SearchFields, query: Query
    ) -> dict[str, object]:
        job = Search(direction, query, self._options(search), self._deadline(search))
        return await self._answer(search, job)

    async def _answer(
        self, asked: SearchFields, search: Search, **spent: float
    ) -> dict[str, object]:
        """The answer that was kept of the same fields, or what the search finds."""
        begin = perf_counter()
        reach, budget = search.options.reach, self.engine.budget
        key = AnswerKey(self.engine.version, search.direction, asked, budget, reach)
        if (kept := await self.answers.get(key)) is not None:
            spent["total"] = sum(spent.values()) + _milliseconds(begin)
            self.metrics.search(search.direction, spent)
            return timed(kept, spent)
        await prepare(self.dispatcher, self.engine, search, self.limits)
        found = await self.dispatcher.search(search)
        spent["total"] = sum(spent.values()) + _milliseconds(begin)
        self.metrics.search(search.direction, {**found.milliseconds, **spent}, found.degraded)
        answer = search_answer(search.direction, found, spent)
        self.answers.put(key, answer)
        return answer

    def _deadline(self, search: SearchFields) -> float:
        """When the answer is due, on the monotonic clock."""
        most = self.limits.max_timeout_ms
        return monotonic() + min(search.timeout_ms or most, most) / 1000

    def _options(self, search: SearchFields) -> SearchOptions:
        budget, count = self.engine.budget, search.candidates
        if count is not None:
            budget = budget.model_copy(update={"at_least": count, "max_pq": count})
        return SearchOptions(
            search.k,
            search.rerank,
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

    def _check(self, direction: Direction, search: SearchFields) -> None:
        """Refuse what the limits or the gallery do not allow, before anything is encoded."""
        check_limit("k", search.k, self.limits.max_k)
        check_limit("candidates", search.candidates or 0, self.limits.max_candidates)
        self.engine.require_candidates(direction)
        check_choice(self.engine, direction, search, self.limits)
        self.engine.cascade.second.mode(search.rerank)

    def _decode(self, read: Callable[[], bytes]) -> Image:
        limits = ImageLimits(
            max_bytes=self.limits.max_body_bytes, max_pixels=self.limits.max_pixels
        )
        return decode_image(read(), limits)


def checked_text(text: str, limits: Limits) -> str:
    """The text, stripped.

    Raises:
        TextRejectedError: empty, or above the limit of characters or words.
    """
    text = text.strip()
    if not text:
        raise TextRejectedError("a query needs at least one word, got none")
    if len(text) > limits.max_text_chars:
        raise TextRejectedError(
            f"a query takes at most {limits.max_text_chars} characters, got {len(text)}"
        )
    if (words := len(text.split())) > limits.max_text_words:
        raise TextRejectedError(f"a query takes at most {limits.max_text_words} words, got {words}")
    return text


def base64_bytes(text: str) -> bytes:
    """The bytes behind base64, line breaks allowed.

    Raises:
        ImageRejectedError: it is no base64.
    """
    try:
        plain = text.encode("ascii").translate(None, ASCII_WHITESPACE)
        return base64.b64decode(plain, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ImageRejectedError("`image` needs the bytes of an image file in base64") from error


def _milliseconds(begin: float) -> float:
    return 1000 * (perf_counter() - begin)
