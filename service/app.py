"""The app over an engine that is handed in; nothing loads at import."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI

from model.reverse_lists.redis_door import RedisDoor
from service import handlers, openapi
from service.access import Access, require_admin, require_reader
from service.activation import Activator
from service.answer_cache import AnswerCache
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.evaluating import Evaluator
from service.head import HeadAsGet
from service.headers import CORS, security_headers
from service.index_series import collectors
from service.metrics import Metrics
from service.middleware import BodyLimit, RequestScope
from service.origins import Origins
from service.patience import Patience
from service.readiness import Readiness
from service.release import installed_version
from service.request_log import RequestLog
from service.routes import admin, items, operations, page, search
from service.routes.dependencies import Parts
from service.serving import Serving
from service.settings import ServiceSettings
from service.shadow import Shadows
from service.sharing import RedisCollector, open_door, share_lists
from service.tracing import Traced
from service.watch import Watcher, watching

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

DESCRIPTION = "Image-text retrieval in both directions. Errors are RFC 9457 problem documents."

# Every router, and what lets a request through to all of its routes.
ROUTES: Sequence[tuple[ModuleType, Sequence[Callable[..., Any]]]] = (
    (search, ()),  # its routes guard themselves
    (items, (require_reader,)),
    (operations, ()),
    (admin, (require_admin,)),
    (openapi, ()),
    (page, ()),
)


def create_app(
    settings: ServiceSettings, engine: SearchEngine, traces: "TracerProvider | None" = None
) -> FastAPI:
    """The app; its lifespan owns the threads. With `traces` every request is traced.

    Nothing but `Serving` holds on to the engine.
    """
    serving, metrics, door = Serving(engine), Metrics(), open_door(settings)
    answers = AnswerCache(door, settings.redis_answer_seconds)
    shadows = Shadows(serving, settings.shadow_share, metrics.registry)
    metrics.lookups(serving.lookups)
    for collector in collectors(serving, installed_version(), settings.device):
        metrics.collect(collector)
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
        version=installed_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # `service/openapi.py` has the route
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.parts, app.state.metrics = None, metrics
    app.state.access = Access.of(settings, door)
    _assemble(app, metrics)
    _surround(app, settings, metrics, lambda: serving.engine.version, traces)
    return app


def _assemble(app: FastAPI, metrics: Metrics) -> None:
    for routes, guards in ROUTES:
        app.include_router(routes.router, dependencies=[Depends(guard) for guard in guards])
        metrics.expect(routes.router.routes)
    handlers.install(app)
    app.openapi = openapi.describe(app)  # type: ignore[method-assign]


def _share(settings: ServiceSettings, door: RedisDoor | None, engine: SearchEngine) -> None:
    if door is not None:
        share_lists(engine, door, settings.redis_list_seconds)


def _surround(
    app: FastAPI,
    settings: ServiceSettings,
    metrics: Metrics,
    version: Callable[[], str],
    traces: "TracerProvider | None",
) -> None:
    """Put the layers around the routes; the last one added is the outermost."""
    most, together = settings.limits.max_body_bytes, settings.max_waiting_bytes
    app.add_middleware(BodyLimit, max_bytes=most, max_together=together)
    app.add_middleware(Patience, body_seconds=settings.body_seconds)
    app.add_middleware(handlers.Rescue)
    app.add_middleware(HeadAsGet)
    if settings.cors_origins:
        app.add_middleware(Origins, allow_origins=settings.cors_origins, **CORS)
    if traces is not None:
        app.add_middleware(Traced, provider=traces)
    app.add_middleware(
        RequestScope,
        metrics=metrics,
        told=RequestLog(settings),
        version=version,
        headers=security_headers(shared=bool(settings.cors_origins)),
    )
