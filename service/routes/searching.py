"""The kind of route that every search takes: guarded by itself, and called without detours."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.access import require_search
from service.routes.dependencies import parts_of


class SearchRoute(APIRoute):
    """Calls `endpoint(request, opened)` for whoever may search; bodies are read by the endpoint.

    To the API's description it is a route like any other. What the framework does to find the
    values of two parameters anew for each request would take as long as to rank the hits.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The guard, then the endpoint."""
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            await require_search(request)
            response: Response = await endpoint(request, parts_of(request))
            return response

        return handle
