"""The app over an engine that is handed in; nothing loads at import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from service import handlers, openapi
from service.answer_cache import AnswerCache
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.metrics import Metrics
from service.middleware import BodyLimit, RequestScope
from service.patience import Patience
from service.readiness import Readiness
from service.routes import items, operations, page, search
from service.routes.dependencies import Parts
from service.searching import Searcher
from service.settings import ServiceSettings
from service.sharing import RedisCollector, open_door, share_lists

DESCRIPTION = "Image-text retrieval in both directions. Errors are RFC 9457 problem documents."


def create_app(settings: ServiceSettings, engine: SearchEngine) -> FastAPI:
    """The app; its lifespan owns the threads."""
    metrics, door = _metrics_of(engine), open_door(settings)
    answers = AnswerCache(door, settings.redis_answer_seconds)
    if door is not None:
        share_lists(engine, door, settings.redis_list_seconds)
        metrics.registry.register(RedisCollector(door.health, answers.lookups))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dispatcher = Dispatcher(lambda: engine, settings, metrics)
        metrics.queue(lambda: dispatcher.waiting)
        searcher = Searcher(engine, dispatcher, settings.limits, metrics, answers)
        readiness = Readiness(engine, dispatcher, settings.probe_seconds)
        app.state.parts = Parts(settings, engine, dispatcher, metrics, searcher, readiness)
        yield
        await dispatcher.close()
        answers.close()
        if door is not None:
            door.close()

    app = FastAPI(
        title="MEET",
        version=_installed_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts = None
    _assemble(app, settings, metrics)
    return app


def _assemble(app: FastAPI, settings: ServiceSettings, metrics: Metrics) -> None:
    for routes in (search, items, operations, openapi, page):
        app.include_router(routes.router)
    handlers.install(app)
    # The last one added is the outermost.
    most, together = settings.limits.max_body_bytes, settings.max_waiting_bytes
    app.add_middleware(BodyLimit, max_bytes=most, max_together=together)
    app.add_middleware(Patience, body_seconds=settings.body_seconds)
    app.add_middleware(RequestScope, metrics=metrics)
    app.openapi = openapi.describe(app)  # type: ignore[method-assign]


def _metrics_of(engine: SearchEngine) -> Metrics:
    metrics = Metrics()
    metrics.index(engine.version, engine.encoder.identity.name, engine.artifact.manifest.counts)
    metrics.lookups(engine.lookups)
    return metrics


def _installed_version() -> str:
    try:
        return version("meet-retrieval")
    except PackageNotFoundError:
        return "0"
