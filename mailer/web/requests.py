"""An id for each request, which connects its log lines with its response."""

from __future__ import annotations

import re
import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailer.logs import REQUEST

_HEADER: Final = b"x-request-id"
_SANE: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")


class RequestIds:
    """Wraps an application: log lines carry the request's id, and so does the response.

    An id that the proxy gives in X-Request-ID is kept.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        value = given if _SANE.fullmatch(given) else secrets.token_hex(8).encode()
        # Never reset: the server logs an unexpected error in the same task, after this returns.
        REQUEST.set(value.decode())

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_HEADER, value)]
            await send(message)

        await self._app(scope, receive, with_id)
