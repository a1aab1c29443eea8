"""Exception handlers: whatever is raised leaves as a problem document."""

import logging
import math
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.core.brief import shortened
from model.core.errors import MeetError
from service.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    SlowBodyError,
    UnauthorizedError,
)
from service.problems import (
    INTERNAL,
    document,
    http_kind,
    kind_of,
    problem_response,
    request_id_of,
    violation,
)
from service.schemas import Problem

RETRY_SECONDS = "1"
CHALLENGE, WRONG = 'Bearer realm="meet"', ', error="invalid_token"'

log = logging.getLogger(__name__)


async def on_meet_error(request: Request, error: Exception) -> Response:
    """The caller's errors by name; an error of the project that no caller causes is ours."""
    kind = kind_of(type(error)) if isinstance(error, MeetError) else INTERNAL
    if kind is INTERNAL:
        log.error("request %s failed", request_id_of(request), exc_info=error)
        return _internal(request)
    violations = error.violations if isinstance(error, InvalidRequestError) else ()
    return problem_response(request, kind, str(error), violations, _headers(error))


def problem_of(request: Request, error: Exception) -> Problem:
    """The document of what went wrong with one part of a request that is answered otherwise."""
    kind = kind_of(type(error)) if isinstance(error, MeetError) else INTERNAL
    if kind is INTERNAL:
        log.error("a part of request %s failed", request_id_of(request), exc_info=error)
        return document(request, kind, _unexpected(request))
    violations = error.violations if isinstance(error, InvalidRequestError) else ()
    return document(request, kind, str(error), violations)


def _headers(error: Exception) -> dict[str, str] | None:
    match error:
        case RateLimitedError():
            return {"Retry-After": str(max(1, math.ceil(error.retry_seconds)))}
        case UnauthorizedError():
            return {"WWW-Authenticate": CHALLENGE + (WRONG if error.given else "")}
        case OverloadedError():
            return {"Retry-After": RETRY_SECONDS}
        case SlowBodyError() | BodyTooLargeError():
            return {"Connection": "close"}  # what is left of the body is not waited for
        case _:
            return None


async def on_parameters(request: Request, error: Exception) -> Response:
    """A path or query parameter that the framework refused."""
    entries = error.errors() if isinstance(error, RequestValidationError) else ()
    invalid = InvalidRequestError([violation(entry) for entry in entries])
    return await on_meet_error(request, invalid)


async def on_http(request: Request, error: Exception) -> Response:
    """An unknown route, a method that it does not have, and the like."""
    status, headers = 500, None
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
    asked = shortened(f"{request.method} {request.url.path}")
    detail = f"{asked}: {http_kind(status).title.lower()}"
    return problem_response(request, http_kind(status), detail, headers=_allowing(headers))


def _allowing(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """The same; what answers GET answers HEAD, too."""
    if headers is None or headers.get("Allow") != "GET":
        return headers
    return {**headers, "Allow": "GET, HEAD"}


async def on_disconnect(request: Request, _: Exception) -> Response:
    """The caller hung up while sending: nobody reads this answer, and nothing is wrong here."""
    return problem_response(request, http_kind(400), "the connection was closed while sending")


def _internal(request: Request) -> Response:
    return problem_response(request, INTERNAL, _unexpected(request))


def _unexpected(request: Request) -> str:
    request_id = request_id_of(request)
    return f"an unexpected error; the server's log has it under request {request_id}"


class Rescue:
    """Answers 500 without internals for whatever else is raised; the log has the traceback.

    The framework's own last resort stands outside of all layers, where its answer would get no
    headers and be counted by nobody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; an answer that has begun is broken off."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            request = Request(scope)
            log.exception("request %s failed: %s", request_id_of(request), type(error).__name__)
            await _internal(request)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Register every handler."""
    app.add_exception_handler(MeetError, on_meet_error)
    app.add_exception_handler(RequestValidationError, on_parameters)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
