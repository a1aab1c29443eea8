"""Health, readiness, metrics, and what is served."""

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from model.core.errors import MeetError
from service.answers import index_answer, reply
from service.errors import NotReadyError
from service.openapi import Responses, problems
from service.routes.dependencies import Opened
from service.schemas import IndexAnswer, Status

METRICS_CONTENT: Responses = {
    200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
router = APIRouter(tags=["operations"])


@router.get("/healthz", response_model_exclude_none=True, responses=problems())
async def healthz() -> Status:
    """Whether the process answers."""
    return Status(status="ok")


@router.get("/readyz", responses=problems(NotReadyError))
async def readyz(opened: Opened) -> Status:
    """Whether a real query, sent through the device's thread, is answered in time."""
    seconds = opened.settings.probe_seconds
    try:
        probe = opened.dispatcher.search(opened.engine.probe(), urgent=True)
        found = await asyncio.wait_for(probe, seconds)
    except TimeoutError as error:
        raise NotReadyError(f"a probe query takes at most {seconds} s, it took longer") from error
    except (MeetError, RuntimeError, ValueError, OSError) as error:
        raise NotReadyError(f"the probe query failed: {type(error).__name__}") from error
    if not len(found.ranking.rows):
        raise NotReadyError("the probe query found nothing")
    return Status(status="ready", index_version=found.engine.version)


@router.get("/metrics", response_class=Response, responses=METRICS_CONTENT | problems())
async def metrics(opened: Opened) -> Response:
    """Prometheus metrics."""
    return Response(opened.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get("/index", response_model=IndexAnswer, responses=problems())
async def index(opened: Opened) -> Response:
    """The index served, what can be asked of it, and the limits of a request."""
    return reply(index_answer(opened.engine, opened.settings.limits))
