"""Both directions of search, and more like an item."""

from fastapi import APIRouter, Request, Response

from model.core.errors import (
    FilterRejectedError,
    ImageRejectedError,
    TextRejectedError,
    UncalibratedError,
    UnknownItemError,
    UnsupportedInputError,
    UnsupportedRerankError,
    VectorRejectedError,
)
from model.core.types import Direction
from service.access import access_of
from service.bodies import BODIES, FORM, media_type, read_json, read_upload, refuse_media_type
from service.errors import (
    BodyTooLargeError,
    BrokenFormError,
    BrokenJsonError,
    BrokenMsgpackError,
    DeadlineError,
    DeviceMemoryError,
    InvalidRequestError,
    MissingModalityError,
    NotAcceptableError,
    QueueFullError,
    RateLimitedError,
    SlowBodyError,
    StoppingError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from service.formats import accepted, in_form
from service.halving import Outcome
from service.handlers import problem_of
from service.openapi import body, forms, problems
from service.routes.dependencies import Opened, Parts
from service.routes.searching import SearchRoute
from service.schemas import (
    Answers,
    ImageSearch,
    ImageUpload,
    SearchAnswer,
    SimilarSearch,
    TextSearch,
)

COMMON = (
    BrokenJsonError,
    BrokenMsgpackError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    NotAcceptableError,
    InvalidRequestError,
    TextRejectedError,
    UnknownItemError,
    VectorRejectedError,
    FilterRejectedError,
    UncalibratedError,
    MissingModalityError,
    UnsupportedInputError,
    UnsupportedRerankError,
    SlowBodyError,
    QueueFullError,
    StoppingError,
    DeviceMemoryError,
    DeadlineError,
    UnauthorizedError,
    RateLimitedError,
)
router = APIRouter(prefix="/search", tags=["search"], route_class=SearchRoute)


@router.post(
    "/text-to-image",
    response_model=SearchAnswer | Answers,
    responses=forms(SearchAnswer, Answers) | problems(*COMMON),
    openapi_extra=body(json=TextSearch),
)
async def text_to_image(request: Request, opened: Opened) -> Response:
    """Find images by a text, a caption's id or a vector, or by several of them in one call."""
    form = accepted(request.headers.get("accept", ""))
    search = await read_json(request, TextSearch)
    return in_form(await _found(request, opened, Direction.TEXT_TO_IMAGE, search), form)


@router.post(
    "/image-to-text",
    response_model=SearchAnswer | Answers,
    responses=forms(SearchAnswer, Answers) | problems(*COMMON, BrokenFormError, ImageRejectedError),
    openapi_extra=body(json=ImageSearch, form=ImageUpload),
)
async def image_to_text(request: Request, opened: Opened) -> Response:
    """Find captions by an image (uploaded, base64, of the gallery), by a vector, or by several.

    A form takes one image, and lists or objects in its other fields as JSON.
    """
    form = accepted(request.headers.get("accept", ""))
    way = Direction.IMAGE_TO_TEXT
    match media_type(request):
        case kind if kind in BODIES:
            search = await read_json(request, ImageSearch)
            return in_form(await _found(request, opened, way, search), form)
        case "multipart/form-data":
            upload = await read_upload(request)
            return in_form(await opened.searcher.one(way, upload), form)
        case other:
            raise refuse_media_type(other, *BODIES, FORM)


@router.post(
    "/similar",
    response_model=SearchAnswer,
    responses=forms(SearchAnswer) | problems(*COMMON),
    openapi_extra=body(json=SimilarSearch),
)
async def similar(request: Request, opened: Opened) -> Response:
    """Find more like an item of the gallery, by its stored embedding.

    Items of its own kind are ranked by cosine (`rerank` is `none`), and the item itself is left
    out. Hits that belong to the same image, as a caption's siblings do, are kept and marked
    with `same_image`. `to` names the other kind to search across: an image's captions, or a
    caption's pictures.
    """
    form = accepted(request.headers.get("accept", ""))
    search = await read_json(request, SimilarSearch)
    return in_form(await opened.searcher.similar(search), form)


async def _found(
    request: Request, opened: Parts, way: Direction, search: TextSearch | ImageSearch
) -> dict[str, object]:
    """A `SearchAnswer`, or `Answers` where several are asked for, as plain values."""
    if search.queries is None:
        return await opened.searcher.one(way, search)
    await access_of(request).charge(request.scope, len(search.queries) - 1)
    outcomes = await opened.searcher.several(way, search)
    return {"answers": [_told(request, opened, outcome) for outcome in outcomes]}


def _told(
    request: Request, opened: Parts, outcome: Outcome[dict[str, object]]
) -> dict[str, object]:
    if not isinstance(outcome, Exception):
        return outcome
    problem = problem_of(request, outcome)
    opened.metrics.problem(problem.code)
    return problem.model_dump(exclude_none=True)
