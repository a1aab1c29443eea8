"""The app over an engine that is handed in; nothing loads at import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from model.reverse_lists.redis_door import RedisDoor
from service import handlers, openapi
from service.activation import Activator
from service.answer_cache import AnswerCache
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.evaluating import Evaluator
from service.index_metrics import IndexCollector
from service.metrics import Metrics
from service.middleware import BodyLimit, RequestScope
from service.patience import Patience
from service.readiness import Readiness
from service.routes import admin, items, operations, page, search
from service.routes.dependencies import Parts
from service.serving import Serving
from service.settings import ServiceSettings
from service.shadow import Shadows
from service.sharing import RedisCollector, open_door, share_lists
from service.watch import Watcher, watching

DESCRIPTION = "Image-text retrieval in both directions. Errors are RFC 9457 problem documents."


def create_app(settings: ServiceSettings, engine: SearchEngine) -> FastAPI:
    """The app; its lifespan owns the threads. Nothing but `Serving` holds on to the engine."""
    serving, metrics, door = Serving(engine), Metrics(), open_door(settings)
    answers = AnswerCache(door, settings.redis_answer_seconds)
    shadows = Shadows(serving, settings.shadow_share, metrics.registry)
    metrics.lookups(serving.lookups)
    metrics.registry.register(IndexCollector(serving))
    if door is not None:
        metrics.registry.register(RedisCollector(door.health, answers.lookups))
    share = partial(_share, settings, door)
    share(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dispatcher = Dispatcher(settings, metrics, shadows)
        metrics.queue(lambda: dispatcher.waiting)
        activator = Activator(serving, dispatcher, settings, share)
        app.state.parts = Parts(
            settings=settings,
            serving=serving,
            dispatcher=dispatcher,
            metrics=metrics,
            answers=answers,
            readiness=Readiness(serving, dispatcher, settings.probe_seconds),
            activator=activator,
            evaluator=Evaluator(serving, dispatcher),
        )
        watcher = Watcher(serving, activator.activate, settings.index)
        async with watching(watcher, settings.watch_seconds):
            yield
        app.state.parts.drain()
        await activator.close()
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
    for routes in (search, items, operations, admin, openapi, page):
        app.include_router(routes.router)
    handlers.install(app)
    # The last one added is the outermost.
    most, together = settings.limits.max_body_bytes, settings.max_waiting_bytes
    app.add_middleware(BodyLimit, max_bytes=most, max_together=together)
    app.add_middleware(Patience, body_seconds=settings.body_seconds)
    app.add_middleware(RequestScope, metrics=metrics)
    app.openapi = openapi.describe(app)  # type: ignore[method-assign]


def _share(settings: ServiceSettings, door: RedisDoor | None, engine: SearchEngine) -> None:
    if door is not None:
        share_lists(engine, door, settings.redis_list_seconds)


def _installed_version() -> str:
    try:
        return version("meet-retrieval")
    except PackageNotFoundError:
        return "0"
