"""Exception handlers: whatever is raised leaves as a problem document."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from model.core.errors import MeetError
from service.errors import BodyTooLargeError, InvalidRequestError, OverloadedError, SlowBodyError
from service.middleware import REQUEST_ID_HEADER
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
    detail = f"{request.method} {request.url.path}: {http_kind(status).title.lower()}"
    return problem_response(request, http_kind(status), detail, headers=headers)


async def on_disconnect(request: Request, _: Exception) -> Response:
    """The caller hung up while sending: nobody reads this answer, and nothing is wrong here."""
    return problem_response(request, http_kind(400), "the connection was closed while sending")


async def on_unexpected(request: Request, error: Exception) -> Response:
    """500 without internals; the server's log has the traceback under the request's id."""
    log.error("request %s failed: %s", request_id_of(request), type(error).__name__)
    return _internal(request)


def _internal(request: Request) -> Response:
    headers = {REQUEST_ID_HEADER: request_id_of(request)}
    return problem_response(request, INTERNAL, _unexpected(request), headers=headers)


def _unexpected(request: Request) -> str:
    request_id = request_id_of(request)
    return f"an unexpected error; the server's log has it under request {request_id}"


def install(app: FastAPI) -> None:
    """Register every handler."""
    app.add_exception_handler(MeetError, on_meet_error)
    app.add_exception_handler(RequestValidationError, on_parameters)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_unexpected)
