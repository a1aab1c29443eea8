"""What routes are handed: the parts that the app's lifespan opened."""

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request

from service.activation import Activator
from service.answer_cache import AnswerCache
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.evaluating import Evaluator
from service.metrics import Metrics
from service.readiness import Readiness
from service.searching import Searcher
from service.serving import Serving
from service.settings import ServiceSettings


@dataclass(frozen=True)
class Parts:
    """Everything that one running app holds.

    A request gets them with the engine that is served when it comes: all that it asks of one, it
    asks of that one, whatever is activated meanwhile.
    """

    settings: ServiceSettings
    serving: Serving
    dispatcher: Dispatcher
    metrics: Metrics
    answers: AnswerCache
    readiness: Readiness
    activator: Activator
    evaluator: Evaluator
    pinned: SearchEngine | None = None

    @property
    def engine(self) -> SearchEngine:
        """The request's engine; outside a request the one served now."""
        return self.pinned or self.serving.engine

    @property
    def searcher(self) -> Searcher:
        """Searches over that engine."""
        limits = self.settings.limits
        return Searcher(self.engine, self.dispatcher, limits, self.metrics, self.answers)

    def of_request(self) -> "Parts":
        """The same with the engine that is served now, for good."""
        return replace(self, pinned=self.serving.engine)

    def drain(self) -> None:
        """Answer what comes, be ready no more, and begin nothing that takes long."""
        self.readiness.drain()
        self.activator.stop()
        self.evaluator.stop()


def parts_of(request: Request) -> Parts:
    """What the app that the request came to holds, with the engine that is served now."""
    parts = request.app.state.parts
    if not isinstance(parts, Parts):
        raise TypeError(f"the app was not opened, its parts are {type(parts).__name__}")
    return parts.of_request()


async def _opened(request: Request) -> Parts:
    return parts_of(request)


Opened = Annotated[Parts, Depends(_opened)]
