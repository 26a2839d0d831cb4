"""Security headers for every response, and limits on the body of every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailer.config import is_loopback
from mailer.request_bodies import bounded

MAX_BODY_OCTETS: Final = 64 * 1024
BODY_SECONDS: Final = 30.0

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of our own pages: no scripts, and nothing from other hosts."""


class Shield:
    """Wraps an application: security headers on each response, and limits on each request's body.

    A response keeps a header that it sets itself. Under the prefixes of `private` nothing is cached or
    indexed, because those URLs contain tokens; without `index` nothing is indexed anywhere. `https`
    adds Strict-Transport-Security (RFC 6797). `bodies` maps path prefixes to limits of their
    own, in octets. A body that takes longer than `body_seconds` to arrive is refused.
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
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._private = private
        self._bodies = dict(bodies or {})
        self._body_seconds = body_seconds
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

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name for name, _ in own}
                message["headers"] = [*own, *(header for header in headers if header[0] not in names)]
            await send(message)

        await self._app(scope, self._bounded(scope["path"], receive), with_headers)

    def _bounded(self, path: str, receive: Receive) -> Receive:
        """Return `receive` with limits on the body's size and on the time it takes to arrive."""
        bounds = (octets for prefix, octets in self._bodies.items() if path.startswith(prefix))
        most = next(bounds, MAX_BODY_OCTETS)
        return bounded(receive, octets=most, seconds=self._body_seconds)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class LocalOnly:
    """Rejects requests for other host names: any website could point its name at this machine.

    `what` names the page at the start of a sentence.
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
