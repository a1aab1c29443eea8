"""What a call can end with instead of an answer.

ClientError (a MeetError)
├── UnreachableError         no answer: refused, dropped, no such host
│   └── TimedOutError        no answer in time
├── ForeignAnswerError       an answer, but not one of this API
└── ProblemError             the server said why not: `status`, `code`, `request_id`, `detail`
    ├── AccessRefusedError   401, 403: the key is missing, wrong, or of another kind
    ├── NotFoundError        404: no such item, picture or route
    ├── UnavailableError     429, 503: too much at once, or not ready; `retry_after` says how long
    ├── RequestRefusedError  any other 4xx: asking again will not help
    └── ServerFaultError     any other 5xx
"""

from http import HTTPStatus

import httpx
from pydantic import ValidationError

from model.core.errors import MeetError
from service.client.retry_after import seconds_to_wait
from service.errors import Violation
from service.schemas import Problem

REQUEST_ID_HEADER = "X-Request-ID"
# The request did not reach a server, or its answer did not come back whole.
_PASSING = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)


class ClientError(MeetError):
    """A call ended without its answer."""

    passing = False
    retry_after: float | None = None


class UnreachableError(ClientError):
    """No answer: refused, dropped, no such host."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message, passing)
        self.passing = passing

    def __str__(self) -> str:
        return str(self.args[0])


class TimedOutError(UnreachableError):
    """No answer in time."""


class ForeignAnswerError(ClientError):
    """An answer, but not one of this API."""


class ProblemError(ClientError):
    """The server said why it did not answer."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem, retry_after)
        self.problem, self.retry_after = problem, retry_after

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.detail} ({self.status} {self.code}{request})"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The problem's name for machines."""
        return self.problem.code

    @property
    def request_id(self) -> str:
        """The id under which the server's log has this request; may be empty."""
        return self.problem.request_id

    @property
    def detail(self) -> str:
        """The rule that was broken, and by what."""
        return self.problem.detail

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Each broken rule, where fields broke some."""
        return tuple(self.problem.errors or ())


class AccessRefusedError(ProblemError):
    """The key is missing, wrong, or of another kind."""


class NotFoundError(ProblemError):
    """No such item, picture or route."""


class UnavailableError(ProblemError):
    """Too much at once, or not ready: worth another try."""

    passing = True


class RequestRefusedError(ProblemError):
    """Asking the same again will not help."""


class ServerFaultError(ProblemError):
    """Something went wrong on the server."""


def error_of(response: httpx.Response) -> ProblemError:
    """The error that a response without success stands for."""
    return _class_of(response.status_code)(_problem_of(response), seconds_to_wait(response.headers))


def _class_of(status: int) -> type[ProblemError]:
    match status:
        case 401 | 403:
            return AccessRefusedError
        case 404:
            return NotFoundError
        case 429 | 503:
            return UnavailableError
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return RequestRefusedError
        case _:
            return ServerFaultError


def _problem_of(response: httpx.Response) -> Problem:
    """The problem document; one made of the bare status where a proxy sent something else."""
    status = response.status_code
    try:
        problem = Problem.model_validate_json(response.content, extra="allow")
    except ValidationError:
        return _bare(response)
    return problem.model_copy(update={"status": status})


def _bare(response: httpx.Response) -> Problem:
    known = {member.value: member for member in HTTPStatus}.get(response.status_code)
    title = known.phrase if known else "Unknown status"
    return Problem(
        type="about:blank",
        title=title,
        status=response.status_code,
        detail=f"{_asked(response.request)} was answered with {response.status_code} {title}",
        instance=response.request.url.path,
        code=known.name.lower() if known else f"http_{response.status_code}",
        request_id=response.headers.get(REQUEST_ID_HEADER, ""),
    )


def foreign(response: httpx.Response, reason: str) -> ForeignAnswerError:
    """The error for an answer that this API does not give."""
    return ForeignAnswerError(
        f"{_asked(response.request)} was answered with {response.status_code}, but {reason}"
    )


def unanswered(error: httpx.RequestError) -> ClientError:
    """The error for a request that no usable answer came to."""
    where, passing = _place(error.request.url), isinstance(error, _PASSING)
    if isinstance(error, httpx.TimeoutException):
        return TimedOutError(f"no answer from {where} in time ({type(error).__name__})", passing)
    reason = str(error) or type(error).__name__
    return UnreachableError(f"no answer from {where}: {reason}", passing)


def _asked(request: httpx.Request) -> str:
    return f"{request.method} {_place(request.url)}{request.url.path}"


def _place(url: httpx.URL) -> str:
    """Scheme, host and port: a URL's user and password stay out of messages."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
