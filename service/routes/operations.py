"""Health, readiness, metrics, and what is served."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.access import require_any, require_search
from service.answers import index_answer, reply
from service.errors import NotReadyError, RateLimitedError, StuckError, UnauthorizedError
from service.openapi import Responses, problems
from service.routes.dependencies import Opened
from service.schemas import IndexAnswer, Status

METRICS_CONTENT: Responses = {
    200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
router = APIRouter(tags=["operations"])


@router.get("/healthz", response_model_exclude_none=True, responses=problems(StuckError))
async def healthz(opened: Opened) -> Status:
    """Whether the process answers and the device's thread still comes back from its work."""
    opened.dispatcher.require_alive()
    return Status(status="ok")


@router.get("/readyz", responses=problems(NotReadyError))
async def readyz(opened: Opened) -> Status:
    """Whether a real query, sent through the device's thread, is answered in time.

    It goes before all searches that wait: load does not make a server unready.
    """
    return Status(status="ready", index_version=await opened.readiness.check())


@router.get(
    "/metrics",
    response_class=Response,
    responses=METRICS_CONTENT | problems(UnauthorizedError),
    dependencies=[Depends(require_any)],
)
async def metrics(opened: Opened) -> Response:
    """Prometheus metrics."""
    return Response(opened.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/index",
    response_model=IndexAnswer,
    responses=problems(UnauthorizedError, RateLimitedError),
    dependencies=[Depends(require_search)],
)
async def index(opened: Opened) -> Response:
    """The index served, what can be asked of it, and the limits of a request."""
    return reply(index_answer(opened.engine, opened.settings.limits))
