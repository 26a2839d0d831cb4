"""What holds for every answer: its headers, and how much of a request is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailer.config import is_loopback

MAX_BODY_OCTETS: Final = 64 * 1024

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of our own pages: no script at all, nothing from elsewhere."""


class Shield:
    """Wraps an application: security headers on each answer, a bound on each request's body.

    An answer keeps a header that it sets itself. Under the prefixes of `private` nothing is cached
    or indexed: their addresses hold a token; without `index` nothing is indexed anywhere. `https` adds
    Strict-Transport-Security (RFC 6797). `bodies` gives prefixes under which a request's body may have
    another size, in octets.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        policy: str = PAGE_POLICY,
        private: tuple[str, ...] = (),
        index: bool = True,
        https: bool = False,
        bodies: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._private = private
        self._bodies = dict(bodies or {})
        headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
        }
        if not index:
            headers["x-robots-tag"] = "noindex"
        if https:
            headers["strict-transport-security"] = "max-age=31536000"
        self._headers = _raw(headers)
        self._private_headers = _raw(
            headers | {"cache-control": "no-store", "x-robots-tag": "noindex, nofollow"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = self._private_headers if scope["path"].startswith(self._private) else self._headers
        bounds = (octets for prefix, octets in self._bodies.items() if scope["path"].startswith(prefix))
        most = next(bounds, MAX_BODY_OCTETS)
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413)
            return message

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name for name, _ in own}
                message["headers"] = [*own, *(header for header in headers if header[0] not in names)]
            await send(message)

        await self._app(scope, bounded, sealed)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class LocalOnly:
    """Refuses requests for another host name: a page elsewhere could point its own name at us.

    `what` is the page, as a sentence about it begins.
    """

    def __init__(self, app: ASGIApp, what: str) -> None:
        self._app = app
        self._what = what

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "http":
            host = Request(scope).url.hostname or ""
            if not is_loopback(host.strip("[]")):
                refused = PlainTextResponse(f"{self._what} answers on this machine only.\n", 421)
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)
