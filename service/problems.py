"""RFC 9457 problem documents: one table from errors to statuses."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response

from model.core import errors as core
from model.core.brief import brief, shortened
from model.core.errors import MeetError
from service import errors
from service.errors import Violation
from service.schemas import Problem

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """What a sort of error is answered with."""

    status: int
    code: str
    title: str


# What the framework and the protocol answer with by themselves.
BARE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)
INTERNAL = Kind(500, "internal", "Something went wrong on the server")
_TABLE: Mapping[type[MeetError], tuple[int, str]] = {
    errors.BrokenJsonError: (400, "The body is not JSON"),
    errors.BrokenMsgpackError: (400, "The body is not msgpack"),
    errors.BrokenFormError: (400, "The body is not a multipart form"),
    errors.BodyTooLargeError: (413, "The body is too large"),
    errors.NotAcceptableError: (406, "Answers are not given in that form"),
    errors.UnsupportedMediaTypeError: (415, "The content type is not read here"),
    errors.InvalidRequestError: (422, "A field breaks a rule"),
    errors.MissingModalityError: (409, "The gallery holds no such items"),
    errors.NoImageError: (404, "The item has no picture"),
    errors.NotReadyError: (503, "The service is not ready"),
    errors.SlowBodyError: (408, "The body did not arrive in time"),
    errors.NoPairsError: (422, "The gallery has no pairs"),
    errors.IndexRefusedError: (409, "The version cannot be served"),
    errors.IndexReadOnlyError: (409, "The index cannot be written to here"),
    errors.IndexBusyError: (409, "Another process writes to the index"),
    errors.IndexReplacedError: (409, "The index was replaced"),
    errors.EvaluationRunningError: (409, "An evaluation runs already"),
    errors.UnauthorizedError: (401, "An API key is needed"),
    errors.ForbiddenError: (403, "The route is closed"),
    errors.RateLimitedError: (429, "Too many requests of one caller"),
    errors.StuckError: (503, "The device is stuck"),
    errors.DeadlineError: (504, "The time is over"),
    errors.QueueFullError: (429, "Too many searches wait"),
    errors.StoppingError: (503, "The service stops"),
    errors.DeviceMemoryError: (503, "The device has no memory left"),
    core.VersionNotFoundError: (404, "The index has no such version"),
    core.UnsupportedInputError: (409, "The encoder does not take this kind of input"),
    core.UnsupportedRerankError: (409, "The index has no parts for this re-ranking"),
    core.UnknownItemError: (404, "The gallery has no such item"),
    core.ImageRejectedError: (422, "The image cannot be used"),
    core.TextRejectedError: (422, "The text cannot be used"),
    core.VectorRejectedError: (422, "The vector cannot be used"),
    core.FilterRejectedError: (422, "The filter cannot be used"),
    core.UncalibratedError: (422, "The index has nothing to compare scores with"),
    core.InputError: (422, "The input breaks a rule"),
}


def kind_of(error: type[MeetError]) -> Kind:
    """The row of the nearest class in the error's ancestry; `internal` where there is none."""
    row = next((_TABLE[base] for base in error.__mro__ if base in _TABLE), None)
    code = error.__new__(error).code
    return INTERNAL if row is None else Kind(row[0], code, row[1])


def problem_codes() -> tuple[str, ...]:
    """The codes of all problems that are answered as a rule, each once."""
    named = [kind_of(error).code for error in _TABLE]
    bare = [http_kind(status).code for status in BARE]
    return tuple(dict.fromkeys([*named, *bare, INTERNAL.code]))


def http_kind(status: int) -> Kind:
    """What a bare HTTP status, such as 404 for an unknown route, is answered with."""
    status = HTTPStatus(status)
    return Kind(status, status.name.lower(), status.phrase)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request."""
    return str(request.scope.get("request_id", ""))


def problem_response(
    request: Request,
    kind: Kind,
    detail: str,
    violations: tuple[Violation, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The document as a response; its code stays in the scope for the metrics."""
    request.scope["problem_code"] = kind.code
    content = document(request, kind, detail, violations).model_dump_json(exclude_none=True)
    return Response(content, kind.status, headers, media_type=MEDIA_TYPE)


def document(
    request: Request, kind: Kind, detail: str, violations: tuple[Violation, ...] = ()
) -> Problem:
    """The problem document of one request, or of one part of it."""
    return Problem(
        type=f"urn:meet:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=shortened(request.url.path),
        code=kind.code,
        request_id=request_id_of(request),
        errors=list(violations) or None,
    )


def violation(entry: Mapping[str, Any]) -> Violation:
    """One entry of a pydantic error list as field, rule and (shortened) value."""
    field = shortened(".".join(str(part) for part in entry["loc"])) or "body"
    rule = str(entry["msg"]).removeprefix("Value error, ")
    return Violation(field=field, rule=rule, value=brief(entry.get("input")))
