"""Items of the gallery and their pictures."""

from enum import StrEnum

from fastapi import APIRouter, Request, Response

from model.core.errors import UnknownItemError
from service.answers import item_answer, reply
from service.engine import Picture
from service.errors import (
    InvalidRequestError,
    NoImageError,
    RateLimitedError,
    UnauthorizedError,
)
from service.openapi import Responses, problems
from service.routes.dependencies import Opened, Parts
from service.schemas import ItemAnswer

PICTURE_SUFFIX = "/image"
PICTURE_CONTENT: Responses = {
    200: {"description": "An image file", "content": {"image/*": {"schema": {"type": "string"}}}}
}
COMMON = (UnknownItemError, InvalidRequestError, UnauthorizedError, RateLimitedError)
router = APIRouter(prefix="/items", tags=["items"])


class PictureSize(StrEnum):
    """Which picture of an image."""

    THUMBNAIL = "thumbnail"
    FULL = "full"


@router.get(
    "/{item_id:path}/image",
    response_class=Response,
    responses=PICTURE_CONTENT | problems(*COMMON, NoImageError),
)
async def picture(
    request: Request, item_id: str, opened: Opened, size: PictureSize = PictureSize.THUMBNAIL
) -> Response:
    """An image's thumbnail, or the file it was built from.

    A slash inside an id may stay as it is; as `%2F` it is never taken for the end of the id.
    """
    if not _ends_literally(request):
        return _item(opened, item_id + PICTURE_SUFFIX)
    engine = opened.engine
    read = engine.original if size is PictureSize.FULL else engine.thumbnail
    return _file(await opened.dispatcher.decode(read, item_id))


@router.get(
    "/{item_id:path}",
    response_model=ItemAnswer,
    responses=problems(*COMMON),
)
async def item(item_id: str, opened: Opened) -> Response:
    """One item: an image with the ids of its captions, or a caption with its image."""
    return _item(opened, item_id)


def _ends_literally(request: Request) -> bool:
    """Whether the path ends in `/image` as sent: `%2Fimage` belongs to an id."""
    raw_path: bytes = request.scope.get("raw_path") or PICTURE_SUFFIX.encode()
    return raw_path.endswith(PICTURE_SUFFIX.encode())


def _item(opened: Parts, item_id: str) -> Response:
    engine = opened.engine
    return reply(item_answer(engine, engine.item(item_id)))


def _file(shown: Picture) -> Response:
    return Response(shown.data, media_type=shown.media_type)
