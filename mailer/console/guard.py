"""Who gets through to the console: the right host, the right origin, a live session.

Every request passes here first, and so does the websocket over which the pages send their events. A website
that points its own name at this machine fails at the Host header; one that opens a websocket to us fails at
the Origin header, which browsers always send with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailer.config import is_loopback
from mailer.console.sessions import Visitor, digest
from mailer.request_bodies import bounded

VISITOR: Final = "mailer.visitor"
"""The key of the visitor in a request's scope."""
_OPEN_PATHS: Final = (
    "/login", "/login/passkey", "/login/passkey/options", "/login/oidc", "/login/oidc/callback",
    "/passkey.js", "/console.css", "/icon.svg",
)  # fmt: skip
_SAFE_METHODS: Final = ("GET", "HEAD")
_STRANGERS_OCTETS: Final = 16 * 1024
_STRANGERS_SECONDS: Final = 20.0
MAX_UPLOAD_OCTETS: Final = 200 * 1024 * 1024
_ENVELOPE_OCTETS: Final = 64 * 1024
"""What a form may add to the file in it."""
_HEADERS: Final = {
    # The framework compiles its templates in the browser, which needs inline scripts and eval. Nothing
    # may come from, or go to, another host.
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
        "'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: with it, browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex, nofollow",
}


class Guard:
    """Lets a request or a websocket through if host, origin and session are right.

    `visitor_of` returns who a session belongs to, given its digest and the browser's User-Agent; it is
    called in a thread. `public_url` is the console's address behind a proxy, or empty.
    """

    def __init__(
        self, app: ASGIApp, visitor_of: Callable[[str, str], Visitor | None], *, public_url: str, port: int
    ) -> None:
        self._app = app
        self._visitor_of = visitor_of
        self._public_host = urlsplit(public_url).netloc.lower()
        self.cookie = cookie_name(public_url, port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            scope[VISITOR] = await self._visitor(headers)
            if scope[VISITOR] is None and scope["path"] not in _OPEN_PATHS:
                refusal = _log_in_first(scope)
        if refusal is None:
            bounded = _bounded(receive, known=scope[VISITOR] is not None)
            await self._app(scope, bounded if scope["type"] == "http" else receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "").lower()
        if not (_is_local(host) or (self._public_host and host == self._public_host)):
            return PlainTextResponse("The console does not answer under this name.\n", 421)
        origin = headers.get("origin")
        if origin is None:
            safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
            return None if safe else PlainTextResponse("The request names no origin.\n", 403)
        if urlsplit(origin).netloc.lower() != host:
            return PlainTextResponse("The request comes from another website.\n", 403)
        return None

    async def _visitor(self, headers: Headers) -> Visitor | None:
        secret = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        if not secret:
            return None
        return await asyncio.to_thread(self._visitor_of, digest(secret), headers.get("user-agent", ""))


def cookie_name(public_url: str, port: int) -> str:
    """Return the name of the session's cookie.

    Cookies ignore ports, so the name tells two consoles on one machine apart. Browsers accept a name with
    `__Host-` only from https, for the whole host, and for no other one.
    """
    return "__Host-mailer" if public_url.startswith("https:") else f"mailer-{port}"


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return is_loopback(name.strip("[]"))


def _log_in_first(scope: Scope) -> Response:
    if scope["type"] == "http" and scope["method"] in _SAFE_METHODS and not scope["path"].startswith("/_"):
        return RedirectResponse("/login", 303)
    return PlainTextResponse("Log in first.\n", 401)


def _bounded(receive: Receive, *, known: bool) -> Receive:
    """Return `receive` with a limit on the body's size; strangers have limited time, too."""
    octets = MAX_UPLOAD_OCTETS + _ENVELOPE_OCTETS if known else _STRANGERS_OCTETS
    return bounded(receive, octets=octets, seconds=None if known else _STRANGERS_SECONDS)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            ours = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message["headers"] = [*own, *(header for header in ours if header[0] not in names)]
        await send(message)

    return sending
