"""Logging in and out: plain pages without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fastapi import FastAPI
from limits import RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from mailer.config import Console
from mailer.console import audit
from mailer.console.assets import ASSETS
from mailer.console.guard import VISITOR
from mailer.console.sessions import Visitor, close_session, open_session, use_link
from mailer.console.users import log_in, users
from mailer.database.session import Database

_PER_MINUTE: Final = RateLimitItemPerMinute(5)
_PER_HOUR: Final = RateLimitItemPerHour(30)
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
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
<button>Log in</button></form>""")
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

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        for path, answer, method in (
            ("/login", self.page, "GET"),
            ("/login", self.enter, "POST"),
            ("/logout", self.leave, "POST"),
            ("/console.css", lambda: FileResponse(ASSETS / "console.css"), "GET"),
            ("/icon.svg", lambda: FileResponse(ASSETS / "icon.svg"), "GET"),
        ):
            app.add_api_route(path, answer, methods=[method], response_model=None)

    async def page(self, request: Request, link: str = "") -> Response:
        """Show the form, or log the owner of a link in."""
        if not link:
            return await self._form()
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(self._used, link, agent)
        if secret is None:
            return await self._form("This link was used before, or is too old.", status=403)
        return self._entered(secret)

    async def enter(self, request: Request) -> Response:
        """Log a user in."""
        form = await request.form(max_files=0, max_fields=8)
        name, password, code = (str(form.get(key, "")) for key in ("name", "password", "code"))
        client = request.client.host if request.client else ""
        for key in (f"client {client}", f"name {name[:64]}"):
            if not (self._limiter.hit(_PER_MINUTE, key) and self._limiter.hit(_PER_HOUR, key)):
                return await self._form("Too many attempts. Wait a minute, then try again.", status=429)
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(self._logged_in, name, password, code, agent)
        if secret is None:
            return await self._form("Name, password or code is wrong.", who=name[:64], status=403)
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

    async def _form(self, problem: str = "", *, who: str = "", status: int = 200) -> Response:
        said = _PROBLEM.format(problem) if problem else Markup("")
        template = _FORM if await asyncio.to_thread(self._any_users) else _NO_USERS
        content = template.format(problem=said, who=who)
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

    def _close(self, visitor: Visitor) -> None:
        with self._database.transaction() as session:
            close_session(session, visitor.digest)
            audit.record(session, visitor.name, "logout", "", {}, at=datetime.now(UTC))
