"""The two clients: the same calls, made in the caller's thread or awaited."""

import inspect
import math
from collections.abc import Callable, Coroutine
from functools import cache, wraps
from ssl import SSLContext
from typing import Any, Concatenate, ParamSpec, Self, TypedDict, TypeVar, Unpack, get_args

import httpx

from model.core.errors import InputError
from service.client import calls
from service.client.calls import Call
from service.client.effects import arun, run
from service.client.exchange import exchange
from service.client.retrying import RetryPolicy

API_KEY_HEADER = "X-API-Key"
TIMEOUT_SECONDS = 30.0

P = ParamSpec("P")
T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., object])


class ClientOptions(TypedDict, total=False):
    """What both clients can be told: a key, seconds without a byte, and when to try again."""

    api_key: str | None
    timeout: float
    retry: RetryPolicy


def _blocking(make: Callable[P, Call[T]]) -> "Callable[Concatenate[MeetClient, P], T]":
    """A method that makes the call and gives its answer."""

    @wraps(make)
    def method(client: "MeetClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.ask(make(*args, **kwargs))

    return _described(method, make)


def _awaited(
    make: Callable[P, Call[T]],
) -> "Callable[Concatenate[AsyncMeetClient, P], Coroutine[Any, Any, T]]":
    """A method that makes the call and gives its answer when awaited."""

    @wraps(make)
    async def method(client: "AsyncMeetClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.ask(make(*args, **kwargs))

    return _described(method, make)


def _described(method: Method, make: Callable[..., Call[Any]]) -> Method:
    """The method, with a signature for `help`: the call's own after `self`, giving its answer."""
    signature = inspect.signature(make)
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    (answer,) = get_args(signature.return_annotation)
    vars(method)["__signature__"] = signature.replace(
        parameters=[receiver, *signature.parameters.values()], return_annotation=answer
    )
    return method


class MeetClient:
    """Asks one server; one client may be shared by any number of threads."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        """Open no connection yet.

        Raises:
            InputError: the URL, the key or the time-out cannot be used.
        """
        self._retry = options.get("retry", RetryPolicy())
        self._http = httpx.Client(transport=transport, **_http_options(url, options))

    def ask(self, call: Call[T]) -> T:
        """The call's answer.

        Raises:
            ClientError: why there is none.
        """
        return run(exchange(call, self._retry), self._http)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    search_text = _blocking(calls.search_text)
    search_texts = _blocking(calls.search_texts)
    search_image = _blocking(calls.search_image)
    search_images = _blocking(calls.search_images)
    similar = _blocking(calls.similar)
    index = _blocking(calls.index)
    item = _blocking(calls.item)
    thumbnail = _blocking(calls.thumbnail)
    original = _blocking(calls.original)
    ready = _blocking(calls.ready)
    request = _blocking(calls.request)


class AsyncMeetClient:
    """Asks one server from one event loop; every method is to be awaited."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        """Open no connection yet.

        Raises:
            InputError: the URL, the key or the time-out cannot be used.
        """
        self._retry = options.get("retry", RetryPolicy())
        self._http = httpx.AsyncClient(transport=transport, **_http_options(url, options))

    async def ask(self, call: Call[T]) -> T:
        """The call's answer.

        Raises:
            ClientError: why there is none.
        """
        return await arun(exchange(call, self._retry), self._http)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    search_text = _awaited(calls.search_text)
    search_texts = _awaited(calls.search_texts)
    search_image = _awaited(calls.search_image)
    search_images = _awaited(calls.search_images)
    similar = _awaited(calls.similar)
    index = _awaited(calls.index)
    item = _awaited(calls.item)
    thumbnail = _awaited(calls.thumbnail)
    original = _awaited(calls.original)
    ready = _awaited(calls.ready)
    request = _awaited(calls.request)


def _http_options(url: str, options: ClientOptions) -> dict[str, Any]:
    return {
        "base_url": _server(url),
        "verify": _tls(),
        "headers": _headers(options.get("api_key")),
        "timeout": _seconds(options.get("timeout", TIMEOUT_SECONDS)),
    }


@cache
def _tls() -> SSLContext:
    """The usual certificates; reading them takes longer than many a search, so once a process."""
    return httpx.create_ssl_context()


def _server(url: str) -> httpx.URL:
    try:
        server = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"a server's URL cannot be read: {error}") from error
    if server.scheme not in ("http", "https") or not server.host:
        shown = "another" if "@" in url else repr(url)  # a password is for nobody's log
        raise InputError(f"a server's URL looks like http://host:port, got {shown}")
    return server


def _headers(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
        raise InputError("an API key needs printable ASCII characters; this one has others or none")
    return {API_KEY_HEADER: api_key}


def _seconds(timeout: float) -> float:
    if not 0 < timeout < math.inf:
        raise InputError(f"a time-out needs to be above 0 s and finite, got {timeout}")
    return timeout
