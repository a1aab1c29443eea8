"""HEAD, answered as GET is (RFC 9110, 9.3.2): the same status and headers, and no body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD, GET = "HEAD", "GET"


class HeadAsGet:
    """Lets routes see GET in place of HEAD, and keeps the bodies of their answers back.

    Routes that answer no GET refuse it as they refuse HEAD, so that the API's description need
    not list it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; whoever stands outside sees HEAD again as soon as there is an answer."""
        if scope["type"] != "http" or scope["method"] != HEAD:
            await self.app(scope, receive, send)
            return

        async def send_bare(message: Message) -> None:
            scope["method"] = HEAD  # the server asks it of this very scope
            bare = {"body": b""} if message["type"] == "http.response.body" else {}
            await send({**message, **bare})

        scope["method"] = GET
        try:
            await self.app(scope, receive, send_bare)
        finally:
            scope["method"] = HEAD
