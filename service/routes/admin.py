"""What those who run a server ask of it: another version of the index, and how good it is."""

from fastapi import APIRouter, Request, Response

from model.core.errors import VersionNotFoundError
from service.admin_schemas import Activate, ActivateAnswer, Evaluate, EvaluateAnswer
from service.answers import reply
from service.bodies import read_json
from service.errors import (
    BodyTooLargeError,
    BrokenJsonError,
    DeviceMemoryError,
    EvaluationRunningError,
    ForbiddenError,
    IndexBusyError,
    IndexReadOnlyError,
    IndexRefusedError,
    IndexReplacedError,
    InvalidRequestError,
    NoPairsError,
    NotReadyError,
    QueueFullError,
    RateLimitedError,
    SlowBodyError,
    StoppingError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from service.openapi import body, problems
from service.routes.dependencies import Opened

COMMON = (
    BrokenJsonError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
    SlowBodyError,
    QueueFullError,
    StoppingError,
    UnauthorizedError,
    ForbiddenError,
    RateLimitedError,
)
router = APIRouter(prefix="/index", tags=["admin"])


@router.post(
    "/activate",
    response_model=ActivateAnswer,
    responses=problems(
        *COMMON,
        VersionNotFoundError,
        IndexRefusedError,
        IndexReadOnlyError,
        IndexBusyError,
        NotReadyError,
        DeviceMemoryError,
    ),
    openapi_extra=body(json=Activate, required=False),
)
async def activate(request: Request, opened: Opened) -> Response:
    """Serve another version, or the one that is published by now, once it answers a probe.

    A version by name is published first, so that other servers of the index follow. Whatever is
    wrong with it, the one served before serves on.
    """
    asked = await read_json(request, Activate, optional=True)
    done = await opened.activator.activate(asked.version)
    return reply(ActivateAnswer(version=done.version, previous=done.previous, seconds=done.seconds))


@router.post(
    "/evaluate",
    response_model=EvaluateAnswer,
    responses=problems(*COMMON, NoPairsError, EvaluationRunningError, IndexReplacedError),
    openapi_extra=body(json=Evaluate, required=False),
)
async def evaluate(request: Request, opened: Opened) -> Response:
    """RSum of the gallery's own pairs, asked for one by one while no search waits."""
    asked = await read_json(request, Evaluate, optional=True)
    found = await opened.evaluator.evaluate(asked.queries, asked.seed)
    return reply(
        EvaluateAnswer(
            index_version=found.version,
            rerank=found.rerank,
            queries=found.queries,
            seconds=found.seconds,
            **found.recalls.model_dump(),
        )
    )
