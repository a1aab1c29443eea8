"""Both directions of search."""

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
from service.answers import reply
from service.bodies import FORM, JSON, media_type, read_json, read_upload, refuse_media_type
from service.errors import (
    BodyTooLargeError,
    BrokenFormError,
    BrokenJsonError,
    DeadlineError,
    DeviceMemoryError,
    InvalidRequestError,
    MissingModalityError,
    QueueFullError,
    SlowBodyError,
    StoppingError,
    UnsupportedMediaTypeError,
)
from service.openapi import body, problems
from service.routes.dependencies import Opened
from service.schemas import ImageSearch, ImageUpload, SearchAnswer, TextSearch

COMMON = (
    BrokenJsonError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
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
)
router = APIRouter(prefix="/search", tags=["search"])


@router.post(
    "/text-to-image",
    response_model=SearchAnswer,
    responses=problems(*COMMON, TextRejectedError),
    openapi_extra=body(json=TextSearch),
)
async def text_to_image(request: Request, opened: Opened) -> Response:
    """Find images by a text or a vector."""
    search = await read_json(request, TextSearch)
    return reply(await opened.searcher.by_text(search))


@router.post(
    "/image-to-text",
    response_model=SearchAnswer,
    responses=problems(*COMMON, BrokenFormError, ImageRejectedError, UnknownItemError),
    openapi_extra=body(json=ImageSearch, form=ImageUpload),
)
async def image_to_text(request: Request, opened: Opened) -> Response:
    """Find captions by an uploaded image, one in base64, a gallery image's id or a vector."""
    match media_type(request):
        case "application/json":
            search = await read_json(request, ImageSearch)
            return reply(await opened.searcher.by_image(search))
        case "multipart/form-data":
            upload = await read_upload(request)
            return reply(await opened.searcher.by_upload(upload))
        case other:
            raise refuse_media_type(other, JSON, FORM)
