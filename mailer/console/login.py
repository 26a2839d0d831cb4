"""Logging in and out: plain pages, with a script only for passkeys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from mailer.console import audit, passkeys
from mailer.console.assets import ASSETS
from mailer.console.guard import VISITOR
from mailer.console.login_pages import LoginPages
from mailer.console.passkeys import Challenges, Site
from mailer.console.sessions import Visitor, close_session, open_session, use_link
from mailer.console.tries import TOO_MANY, Tries, client_of
from mailer.console.users import log_in


class LoginRoutes:
    """The routes for logging in and out. `forget` closes the open pages of a session."""

    def __init__(self, pages: LoginPages, tries: Tries, forget: Callable[[str], None]) -> None:
        self._pages = pages
        self._database = pages.database
        self._tries = tries
        self._forget = forget
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
            return await self._pages.form(request)
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(self._used, link, agent)
        if secret is None:
            return await self._pages.form(request, "This link was used before, or is too old.", status=403)
        return self._pages.entered(secret)

    async def enter(self, request: Request) -> Response:
        """Log a user in."""
        form = await request.form(max_files=0, max_fields=8)
        name, password, code = (str(form.get(key, "")) for key in ("name", "password", "code"))
        if not (self._tries.may(client_of(request)) and self._tries.may(f"name {name[:64]}")):
            return await self._pages.form(request, TOO_MANY, status=429)
        agent = request.headers.get("user-agent", "")
        secret = await asyncio.to_thread(self._logged_in, name, password, code, agent)
        if secret is None:
            return await self._pages.form(
                request, "Name, password or code is wrong.", who=name[:64], status=403
            )
        return self._pages.entered(secret)

    async def begin_passkey(self, request: Request) -> Response:
        """Begin a login with a passkey: return a challenge."""
        if not self._tries.may(f"passkey {client_of(request)}"):
            return PlainTextResponse(TOO_MANY, 429)
        name, options = self._challenges.begin(self._pages.site(request), at=datetime.now(UTC))
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
            self._logged_in_by_passkey, credential, challenge, self._pages.site(request), agent
        )
        if secret is None:
            return PlainTextResponse("This passkey is not known here.", 403)
        return self._pages.entered(secret)

    async def leave(self, request: Request) -> Response:
        """End the session and close its open pages."""
        visitor = request.scope[VISITOR]
        if isinstance(visitor, Visitor):
            await asyncio.to_thread(self._close, visitor)
            self._forget(visitor.digest)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self._pages.cookie, secure=self._pages.secure, httponly=True, samesite="strict")
        return answer

    def _used(self, link: str, agent: str) -> str | None:
        at = datetime.now(UTC)
        with self._database.transaction() as connection:
            return use_link(connection, link, agent, at=at, lifetime=self._pages.rules.session)

    def _logged_in(self, name: str, password: str, code: str, agent: str) -> str | None:
        at = datetime.now(UTC)
        with self._database.transaction() as connection:
            user = log_in(connection, name, password, code, at=at)
            if user is None:
                return None
            audit.record(connection, user.name, "login", "", {}, at=at)
            return open_session(connection, user.id, agent, at=at, lifetime=self._pages.rules.session)

    def _logged_in_by_passkey(self, credential: str, challenge: bytes, site: Site, agent: str) -> str | None:
        at = datetime.now(UTC)
        with self._database.transaction() as connection:
            user = passkeys.log_in(connection, credential, challenge, site, at=at)
            if user is None:
                return None
            audit.record(connection, user.name, "login", "", {"by": "passkey"}, at=at)
            return open_session(connection, user.id, agent, at=at, lifetime=self._pages.rules.session)

    def _close(self, visitor: Visitor) -> None:
        with self._database.transaction() as connection:
            close_session(connection, visitor.digest)
            audit.record(connection, visitor.name, "logout", "", {}, at=datetime.now(UTC))
