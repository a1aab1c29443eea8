"""Who may ask: API keys, and how often each caller may.

A router takes one of the dependencies `require_reader` and `require_admin`; `require_search` is
called by the kind of route that searches are. They run before a body is read.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import Request
from pydantic import SecretStr
from starlette.types import Scope

from model.reverse_lists.redis_door import RedisDoor
from service import notes
from service.errors import ForbiddenError, UnauthorizedError
from service.keys import KeyRing, fingerprint, listed_keys
from service.rates import RateLimiter, limiter_of
from service.settings import ServiceSettings

HOME_PREFIX = 64  # one caller's IPv6 addresses share it
BEARER = b"bearer"


class Access:
    """The keys of a server and its rate limit."""

    def __init__(
        self,
        search: KeyRing,
        admin: KeyRing,
        limiter: RateLimiter | None = None,
        *,
        guard_metrics: bool = False,
    ) -> None:
        """Take both kinds of keys, the limit, and whether metrics need a key as well."""
        self._search, self._admin, self._limiter = search, admin, limiter
        self._guard_metrics = guard_metrics

    @classmethod
    def of(cls, settings: ServiceSettings, door: RedisDoor | None) -> "Access":
        """What these settings say.

        Raises:
            ValueError: a file of keys cannot be read.
        """
        told = settings
        search = KeyRing(_given(told.search_keys), told.search_keys_file)
        admin = KeyRing(_given(told.admin_keys), told.admin_keys_file)
        limiter = limiter_of(told.rate_limit, door)
        return cls(search, admin, limiter, guard_metrics=told.guard_metrics)

    async def search(self, scope: Scope) -> None:
        """Let a request search; an administrator may, too. Without search keys everybody may.

        Raises:
            UnauthorizedError: no key, or another one.
            RateLimitedError: too many requests of this caller.
        """
        await self._admit(scope, (self._search, self._admin) if self._search.guards else ())

    async def read(self, scope: Scope) -> None:
        """Let a request see items and their pictures, which cost no tokens: a page shows dozens.

        Raises:
            UnauthorizedError: no key, or another one.
            RateLimitedError: too many of those.
        """
        rings = (self._search, self._admin)
        if self._search.guards and _admitted(presented(scope), rings) is None:
            await self._admit(scope, rings)

    async def administer(self, scope: Scope) -> None:
        """Let a request change what is served.

        Raises:
            ForbiddenError: no admin key is set.
            UnauthorizedError: no key, or another one.
            RateLimitedError: too many requests of this caller.
        """
        if not self._admin.guards:
            raise ForbiddenError("this route stays closed until MEET_ADMIN_KEYS is set")
        await self._admit(scope, (self._admin,))

    async def inspect(self, scope: Scope) -> None:
        """Let a request read the metrics; where they are guarded, any key will do.

        Raises:
            UnauthorizedError: no key, or another one.
        """
        if self._guard_metrics:
            _require(_admitted(presented(scope), (self._search, self._admin)), scope)

    async def charge(self, scope: Scope, searches: int) -> None:
        """Take a token for each search from the caller that the notes name, or its address.

        Raises:
            RateLimitedError: there are not so many left.
        """
        if self._limiter is not None and searches > 0:
            caller = notes.current().key or home(client_of(scope))
            grant = await self._limiter.take(caller, searches)
            notes.current().headers.update(grant.headers)
            grant.require()

    async def _admit(self, scope: Scope, rings: Sequence[KeyRing]) -> None:
        key = _admitted(presented(scope), rings) if rings else None
        notes.current().key = None if key is None else fingerprint(key)
        # A caller with a wrong key spends the tokens of its address: guessing is slow.
        await self.charge(scope, 1)
        if rings:
            _require(key, scope)


async def require_search(request: Request) -> None:
    """What a search needs first: a search key, where there are any; a dependency of `/index`."""
    await access_of(request).search(request.scope)


async def require_reader(request: Request) -> None:
    """Dependency of items and pictures: a search key, where there are any."""
    await access_of(request).read(request.scope)


async def require_admin(request: Request) -> None:
    """Dependency of routes that need an admin key, always."""
    await access_of(request).administer(request.scope)


async def require_any(request: Request) -> None:
    """Dependency of the metrics."""
    await access_of(request).inspect(request.scope)


def access_of(request: Request) -> Access:
    """The access of the app that the request came to."""
    access = request.app.state.access
    if not isinstance(access, Access):
        raise TypeError(f"the app was not assembled, its access is {type(access).__name__}")
    return access


def presented(scope: Scope) -> list[bytes]:
    """The keys of a request: of `Authorization: Bearer`, of `X-API-Key`, or both."""
    found = []
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            found.append(value.strip())
        elif name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == BEARER:
                found.append(key.strip())
    return [key for key in found if key]


def client_of(scope: Scope) -> str:
    """The caller's address, empty where there is none to know."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def home(address: str) -> str:
    """What an address is counted under: itself, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, HOME_PREFIX), strict=False))
    return str(parsed)


def _admitted(keys: Iterable[bytes], rings: Sequence[KeyRing]) -> bytes | None:
    """The key that one of the rings admits; all of them are asked about every key."""
    admitted = None
    for key in keys:
        if any([ring.admits(key) for ring in rings]):
            admitted = key
    return admitted


def _require(key: bytes | None, scope: Scope) -> None:
    if key is None:
        given = bool(presented(scope))
        rule = "an API key is needed, as `Authorization: Bearer` or `X-API-Key`"
        raise UnauthorizedError(f"{rule}, got {'another one' if given else 'none'}", given=given)


def _given(listed: SecretStr | None) -> list[str]:
    return listed_keys(listed.get_secret_value()) if listed is not None else []
