"""From a checked request to its answer: limits, decoding, the device's thread, the hits."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from PIL.Image import Image

from model.cascade import SearchOptions
from model.core.errors import ImageRejectedError, TextRejectedError
from model.core.types import Direction, InputKind
from model.data.images import ImageLimits, decode_image
from service.answers import search_answer
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.errors import InvalidRequestError, Violation
from service.metrics import Metrics
from service.queries import ImageQuery, Query, Search, StoredQuery, TextQuery, VectorQuery
from service.schemas import ImageSearch, ImageUpload, SearchAnswer, SearchFields, TextSearch
from service.settings import Limits

ASCII_WHITESPACE = b" \t\r\n"


@dataclass(frozen=True)
class Searcher:
    """Answers searches over one engine."""

    engine: SearchEngine
    dispatcher: Dispatcher
    limits: Limits
    metrics: Metrics

    async def by_text(self, search: TextSearch) -> SearchAnswer:
        """Images for a text or a vector."""
        self._check(Direction.TEXT_TO_IMAGE, search)
        if search.query is None:
            return await self._by_vector(Direction.TEXT_TO_IMAGE, search, search.vector or [])
        self.engine.encoder.require(InputKind.TEXT)
        text = TextQuery(checked_text(search.query, self.limits))
        return await self._search(Direction.TEXT_TO_IMAGE, search, text)

    async def by_image(self, search: ImageSearch) -> SearchAnswer:
        """Captions for an image in base64, a gallery image or a vector."""
        self._check(Direction.IMAGE_TO_TEXT, search)
        if search.image is not None:
            encoded = search.image
            return await self._by_file(search, lambda: base64_bytes(encoded))
        if search.id is not None:
            return await self._search(Direction.IMAGE_TO_TEXT, search, StoredQuery(search.id))
        return await self._by_vector(Direction.IMAGE_TO_TEXT, search, search.vector or [])

    async def by_upload(self, upload: ImageUpload) -> SearchAnswer:
        """Captions for an image file."""
        self._check(Direction.IMAGE_TO_TEXT, upload)
        return await self._by_file(upload, lambda: upload.image)

    async def _by_file(self, search: SearchFields, read: Callable[[], bytes]) -> SearchAnswer:
        self.engine.encoder.require(InputKind.IMAGE)
        begin = perf_counter()
        image = await self.dispatcher.decode(self._decode, read)
        decoded = _milliseconds(begin)
        query = ImageQuery(image)
        return await self._search(Direction.IMAGE_TO_TEXT, search, query, decode=decoded)

    async def _by_vector(
        self, direction: Direction, search: SearchFields, vector: list[float]
    ) -> SearchAnswer:
        return await self._search(direction, search, VectorQuery(vector))

    async def _search(
        self, direction: Direction, search: SearchFields, query: Query, **spent: float
    ) -> SearchAnswer:
        begin = perf_counter()
        options = SearchOptions(
            k=search.k, rerank=search.rerank, budget=self.engine.budget, explain=search.explain
        )
        found = await self.dispatcher.search(Search(direction, query, options))
        spent["total"] = sum(spent.values()) + _milliseconds(begin)
        self.metrics.search(direction, {**found.milliseconds, **spent})
        return search_answer(direction, found, spent)

    def _check(self, direction: Direction, search: SearchFields) -> None:
        if search.k > self.limits.max_k:
            rule = f"Input should be at most {self.limits.max_k}"
            raise InvalidRequestError([Violation(field="k", rule=rule, value=str(search.k))])
        self.engine.require_candidates(direction)
        self.engine.cascade.second.mode(search.rerank)  # refused before anything is encoded

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
