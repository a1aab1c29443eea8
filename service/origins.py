"""Requests from pages of other origins: a preflight that is refused is a problem document."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.problems import http_kind, problem_response

BAD_REQUEST = 400
SAID = "Disallowed CORS "  # what the framework begins its plain text with


class Origins(CORSMiddleware):
    """The framework's own rules, with this service's answer where one is broken."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight; pass on everything else."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        asks = "origin" in headers and "access-control-request-method" in headers
        if not asks or scope["method"] != "OPTIONS":
            await super().__call__(scope, receive, send)
            return
        answer = self.preflight_response(headers)
        if answer.status_code == BAD_REQUEST:
            answer = _refused(Request(scope), answer)
        await answer(scope, receive, send)


def _refused(request: Request, answer: Response) -> Response:
    """The refusal with its reason as a problem, and what it says to the browser."""
    broken = bytes(answer.body).decode().removeprefix(SAID)
    detail = f"the preflight asks for what pages of other origins may not: {broken}"
    told = {name: one for name, one in answer.headers.items() if not name.startswith("content-")}
    return problem_response(request, http_kind(BAD_REQUEST), detail, headers=told)
