"""Logging in and out: plain pages, with a script only for passkeys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from limits import RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from mailer.config import Console
from mailer.console import audit, passkeys
from mailer.console.assets import ASSETS
from mailer.console.guard import VISITOR
from mailer.console.passkeys import Challenges, Site
from mailer.console.sessions import Visitor, close_session, open_session, use_link
from mailer.console.users import log_in, users
from mailer.database.session import Database

_PER_MINUTE: Final = RateLimitItemPerMinute(5)
_PER_HOUR: Final = RateLimitItemPerHour(30)
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE: Final = Markup("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in · {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/console.css"></head>
<body class="login"><main><p class="login-name">{name}</p>{content}</main></body></html>""")
_FORM: Final = Markup("""<h1>Log in</h1>{problem}
<form method="post" action="/login">
<label>Name <input name="name" autocomplete="username" required maxlength="64" value="{who}"></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required
 maxlength="256"></label>
<label>Code from your authenticator app <input name="code" inputmode="numeric"
 autocomplete="one-time-code" required maxlength="12"></label>
<button>Log in</button></form>{passkey}""")
_PASSKEY: Final = Markup("""<button type="button" id="passkey" class="second" hidden>Use a passkey</button>
<p class="problem" id="passkey-problem" role="alert"></p><script src="/passkey.js" defer></script>""")
_PROBLEM: Final = Markup('<p class="problem" role="alert">{}</p>')
_NO_USERS: Final = Markup("""<h1>Open the console with its link</h1>{problem}
<p>The link that <code>mailer console</code> printed logs you in. It works once, for fifteen minutes.</p>
<p>For another link, run <code>mailer console --link</code> in the newsletter's folder.</p>""")


class LoginRoutes:
    """The routes for logging in and out. `forget` closes the open pages of a session."""

    def __init__(
        self, database: Database, rules: Console, cookie: str, name: str, forget: Callable[[str], None]
    ) -> None:
        self._database = database
        self._rules = rules
        self._cookie = cookie
        self._name = name
        self._forget = forget
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._challenges = Challenges()

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        for path, answer, method in (
            ("/login", self.page, "GET"),
            ("/login", self.enter, "POST"),
            ("/logout", self.leave, "POST"),
            ("/console.css", lambda: FileResponse(ASSETS / "console.css"), "GET"),
            ("/login/passkey/options", self.begin_passkey, "POST"),
            ("/login/passkey", self.enter_by_passkey, "POST"),
            ("/passkey.js", lambda: FileResponse(ASSETS / "passkey.js"), "GET"),
            ("/icon.svg", lambda: FileResponse(ASSETS / "icon.svg"), "GET"),
        ):
            app.add_api_route(path, answer, methods=[method], response_model=None)

    async def page(self, request: Request, link: str = "") -> Response:
        """Show the form, or log the owner of a link in."""
        if not link:
            return await self._form(request)
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(self._used, link, agent)
        if secret is None:
            return await self._form(request, "This link was used before, or is too old.", status=403)
        return self._entered(secret)

    async def enter(self, request: Request) -> Response:
        """Log a user in."""
        form = await request.form(max_files=0, max_fields=8)
        name, password, code = (str(form.get(key, "")) for key in ("name", "password", "code"))
        if not (self._may_try(_client(request)) and self._may_try(f"name {name[:64]}")):
            return await self._form(request, "Too many attempts. Wait a minute, then try again.", status=429)
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(self._logged_in, name, password, code, agent)
        if secret is None:
            return await self._form(request, "Name, password or code is wrong.", who=name[:64], status=403)
        return self._entered(secret)

    async def begin_passkey(self, request: Request) -> Response:
        """Begin a login with a passkey: return a challenge."""
        if not self._may_try(f"passkey {_client(request)}"):
            return PlainTextResponse("Too many attempts. Wait a minute, then try again.", 429)
        name, options = self._challenges.begin(self._site(request), at=datetime.now(UTC))
        return JSONResponse({"challenge": name, "options": json.loads(options)})

    async def enter_by_passkey(self, request: Request) -> Response:
        """Log a user in whose passkey has signed the challenge."""
        try:
            sent = json.loads(await request.body())
            name, credential = str(sent["challenge"]), json.dumps(sent["credential"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return PlainTextResponse("This is no passkey.", 400)
        challenge = self._challenges.take(name, at=datetime.now(UTC))
        if challenge is None:
            return PlainTextResponse("This took too long. Try again.", 403)
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(
            self._logged_in_by_passkey, credential, challenge, self._site(request), agent
        )
        if secret is None:
            return PlainTextResponse("This passkey is not known here.", 403)
        return self._entered(secret)

    async def leave(self, request: Request) -> Response:
        """End the session and close its open pages."""
        visitor = request.scope[VISITOR]
        if isinstance(visitor, Visitor):
            await asyncio.to_thread(self._close, visitor)
            self._forget(visitor.digest)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self._cookie, secure=self._secure, httponly=True, samesite="strict")
        return answer

    async def _form(
        self, request: Request, problem: str = "", *, who: str = "", status: int = 200
    ) -> Response:
        said = _PROBLEM.format(problem) if problem else Markup("")
        template = _FORM if await asyncio.to_thread(self._any_users) else _NO_USERS
        passkey = _PASSKEY if self._site(request).usable else Markup("")
        content = template.format(problem=said, who=who, passkey=passkey)
        headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
        return HTMLResponse(_PAGE.format(name=self._name, content=content), status, headers)

    @property
    def _secure(self) -> bool:
        return self._cookie.startswith("__Host-")

    def _entered(self, secret: str) -> Response:
        """Set the cookie. The secret is new, whatever cookie the browser brought (session fixation)."""
        # Not a redirect: after a click in another program, browsers keep a strict cookie from a redirect.
        content = Markup('<p><a href="/">Continue to the console</a></p>')
        answer = HTMLResponse(
            _PAGE.format(name=self._name, content=content),
            headers={"content-security-policy": _POLICY, "cache-control": "no-store", "refresh": "0; url=/"},
        )
        answer.set_cookie(
            self._cookie,
            secret,
            max_age=int(self._rules.session.total_seconds()),
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _any_users(self) -> bool:
        with self._database.reading() as session:
            return bool(users(session))

    def _used(self, link: str, agent: str) -> str | None:
        at = datetime.now(UTC)
        with self._database.transaction() as session:
            return use_link(session, link, agent, at=at, lifetime=self._rules.session)

    def _logged_in(self, name: str, password: str, code: str, agent: str) -> str | None:
        at = datetime.now(UTC)
        with self._database.transaction() as session:
            user = log_in(session, name, password, code, at=at)
            if user is None:
                return None
            audit.record(session, user.name, "login", "", {}, at=at)
            return open_session(session, user.id, agent, at=at, lifetime=self._rules.session)

    def _logged_in_by_passkey(self, credential: str, challenge: bytes, site: Site, agent: str) -> str | None:
        at = datetime.now(UTC)
        with self._database.transaction() as session:
            user = passkeys.log_in(session, credential, challenge, site, at=at)
            if user is None:
                return None
            audit.record(session, user.name, "login", "", {"by": "passkey"}, at=at)
            return open_session(session, user.id, agent, at=at, lifetime=self._rules.session)

    def _site(self, request: Request) -> Site:
        return site_of(request, self._rules.public_url)

    def _may_try(self, key: str) -> bool:
        return self._limiter.hit(_PER_MINUTE, key) and self._limiter.hit(_PER_HOUR, key)

    def _close(self, visitor: Visitor) -> None:
        with self._database.transaction() as session:
            close_session(session, visitor.digest)
            audit.record(session, visitor.name, "logout", "", {}, at=datetime.now(UTC))


def site_of(request: Request, public_url: str) -> Site:
    """Return where the browser is: under the public address, or on this machine. The guard knows no other."""
    host, netloc = request.url.hostname or "", request.url.netloc.lower()
    if public_url and netloc == urlsplit(public_url).netloc.lower():
        return Site(host, public_url.rstrip("/"))
    return Site(host, f"http://{netloc}")


def _client(request: Request) -> str:
    return f"client {request.client.host if request.client else ''}"
