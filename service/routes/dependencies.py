"""What routes are handed: the parts that the app's lifespan opened."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.metrics import Metrics
from service.readiness import Readiness
from service.searching import Searcher
from service.settings import ServiceSettings


@dataclass(frozen=True)
class Parts:
    """Everything that one running app holds."""

    settings: ServiceSettings
    engine: SearchEngine
    dispatcher: Dispatcher
    metrics: Metrics
    searcher: Searcher
    readiness: Readiness


async def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    if not isinstance(parts, Parts):
        raise TypeError(f"the app was not opened, its parts are {type(parts).__name__}")
    return parts


Opened = Annotated[Parts, Depends(_parts)]
