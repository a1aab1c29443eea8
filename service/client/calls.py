"""The calls: what each one sends and how its answer is read, written once for both clients."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from model.core.errors import InputError
from model.core.types import Direction, Modality, RerankMode
from service.client.bodies import encoded
from service.client.effects import ReadFile
from service.client.errors import foreign
from service.schemas import Answers, IndexAnswer, ItemAnswer, Problem, SearchAnswer

T = TypeVar("T")
Answer = TypeVar("Answer", bound=BaseModel)
Fields = Mapping[str, Any]

NOT_READY = 503


class QueryParams(TypedDict, total=False):
    """What a query can say of itself: unit(query + w₊ · mean(plus) - w₋ · mean(minus))."""

    plus: str | Sequence[str] | None
    minus: str | Sequence[str] | None
    plus_weight: float
    minus_weight: float


class SearchParams(QueryParams, total=False):
    """What a search can say beside its query; it is sent as it is, and the server has the rules.

    A field that the server does not know comes back as a `RequestRefusedError` that names it.
    """

    k: int
    offset: int
    explain: bool
    rerank: RerankMode | Literal["learned", "relationship", "reference", "pillar", "none"] | None
    candidates: int | None
    exact: bool
    filter: Mapping[str, JsonValue] | None
    min_score: float | None
    collapse: int | None
    timeout_ms: int | None
    why_not: Sequence[str] | None


class TextQuery(QueryParams, total=False):
    """One of several queries for images: exactly one of `query`, `id` and `vector`."""

    query: str
    id: str
    vector: Iterable[float]


class ImageQuery(QueryParams, total=False):
    """One of several queries for captions: exactly one of `image`, `id` and `vector`."""

    image: bytes
    id: str
    vector: Iterable[float]


@dataclass(frozen=True)
class PictureFile:
    """An image file and what it is."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, how its answer is read, and whether asking twice does no harm."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    fields: Fields | None = None
    image: Path | bytes | None = None
    repeatable: bool = True
    statuses: tuple[int, ...] = ()  # answers like those of success

    def __post_init__(self) -> None:
        """Refuse to carry a key to another server.

        Raises:
            InputError: the path is a whole URL, or relative.
        """
        if not self.path.startswith("/"):
            raise InputError(f"a call's path starts with /, got {self.path!r}")

    async def content(self) -> dict[str, Any]:
        """The body, as `httpx.Client.request` takes it."""
        fields = {} if self.fields is None else _given(self.fields)
        if self.image is None:
            return {} if self.fields is None else encoded(fields)
        data = self.image if isinstance(self.image, bytes) else await ReadFile(self.image)
        if any(isinstance(value, Mapping | list | tuple) for value in fields.values()):
            # A form's fields hold no lists and no objects.
            return encoded(fields | {"image": data})
        return {"files": {"image": ("image", data)}, "data": fields}


def search_text(
    query: str | None = None,
    *,
    id: str | None = None,
    vector: Iterable[float] | None = None,
    **params: Unpack[SearchParams],
) -> Call[SearchAnswer]:
    """Images for a text, a gallery caption's id or a vector, best first."""
    return _search(
        Direction.TEXT_TO_IMAGE, {"query": query, "id": id, "vector": _values(vector), **params}
    )


def search_texts(
    queries: Iterable[str | TextQuery], **params: Unpack[SearchParams]
) -> Call[list[SearchAnswer | Problem]]:
    """Images for each of several queries that share the other fields, asked in one call.

    An answer for each, in order; a query that failed has its problem in its place.
    """
    return _searches(Direction.TEXT_TO_IMAGE, {"queries": list(queries), **params})


def search_image(
    image: str | PathLike[str] | bytes | None = None,
    *,
    id: str | None = None,
    vector: Iterable[float] | None = None,
    **params: Unpack[SearchParams],
) -> Call[SearchAnswer]:
    """Captions for an image file (its path or its bytes), a gallery image's id, or a vector."""
    file = image if image is None or isinstance(image, bytes) else Path(image)
    return _search(Direction.IMAGE_TO_TEXT, {"id": id, "vector": _values(vector), **params}, file)


def search_images(
    queries: Iterable[str | bytes | ImageQuery], **params: Unpack[SearchParams]
) -> Call[list[SearchAnswer | Problem]]:
    """Captions for each of several queries: a gallery image's id, a file's bytes, or more.

    An answer for each, in order; a query that failed has its problem in its place.
    """
    each = [{"image": one} if isinstance(one, bytes) else one for one in queries]
    return _searches(Direction.IMAGE_TO_TEXT, {"queries": each, **params})


def similar(
    id: str,
    *,
    to: Modality | Literal["image", "text"] | None = None,
    **params: Unpack[SearchParams],
) -> Call[SearchAnswer]:
    """More like an item of the gallery: of its own kind, or of the kind that `to` names."""
    fields = {"id": id, "to": to, **params}
    return Call("POST", "/search/similar", _reader(SearchAnswer), fields)


def index() -> Call[IndexAnswer]:
    """The index served, what can be asked of it, and the limits of a request."""
    return Call("GET", "/index", _reader(IndexAnswer))


def item(id: str) -> Call[ItemAnswer]:
    """One item of the gallery."""
    return Call("GET", _item_path(id), _reader(ItemAnswer))


def thumbnail(id: str) -> Call[PictureFile]:
    """A small picture of an image."""
    return Call("GET", f"{_item_path(id)}/image", _picture)


def original(id: str) -> Call[PictureFile]:
    """The file that an image was built from."""
    return Call("GET", f"{_item_path(id)}/image?size=full", _picture)


def ready() -> Call[bool]:
    """Whether the server answers a real query now; asked once, False where it says no."""
    return Call("GET", "/readyz", _is_success, repeatable=False, statuses=(NOT_READY,))


def request(method: str, path: str, body: Fields | None = None) -> Call[JsonValue]:
    """The JSON answer of any other route, such as the admin's; only a GET is ever tried again."""
    return Call(method, path, _any_json, body, repeatable=method.upper() == "GET")


def _search(
    direction: Direction, fields: Fields, image: Path | bytes | None = None
) -> Call[SearchAnswer]:
    return Call("POST", f"/search/{direction}", _reader(SearchAnswer), fields, image)


def _searches(direction: Direction, fields: Fields) -> Call[list[SearchAnswer | Problem]]:
    read = _reader(Answers)
    return Call("POST", f"/search/{direction}", lambda answered: read(answered).answers, fields)


def _given(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _values(vector: Iterable[float] | None) -> list[float] | None:
    return None if vector is None else list(vector)


def _item_path(item_id: str) -> str:
    """The path of an id; dots too are encoded, or `..` would leave the items."""
    return f"/items/{quote(item_id, safe='').replace('.', '%2E')}"


def _reader(schema: type[Answer]) -> Callable[[httpx.Response], Answer]:
    def read(response: httpx.Response) -> Answer:
        try:
            # What a newer server says beyond the schema stays reachable as `model_extra`.
            return schema.model_validate_json(response.content, extra="allow")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "body"
            reason = f"it is no {schema.__name__}: {place}: {first['msg']}"
            raise foreign(response, reason) from error

    return read


def _picture(response: httpx.Response) -> PictureFile:
    media_type = response.headers.get("content-type", "")
    if not media_type.startswith("image/"):
        raise foreign(response, f"its content type is {media_type or 'not given'}, no image/*")
    return PictureFile(response.content, media_type)


def _is_success(response: httpx.Response) -> bool:
    return response.is_success


def _any_json(response: httpx.Response) -> JsonValue:
    try:
        answer: JsonValue = response.json()
    except ValueError as error:
        raise foreign(response, "it is no JSON") from error
    return answer
