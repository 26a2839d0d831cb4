"""Logging in through the organization's OpenID Connect provider: to it, and back."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailer.console import accounts, audit
from mailer.console.accounts import Account, OtherAccountError
from mailer.console.login_pages import LoginPages
from mailer.console.oidc import Attempt, LoginError, Provider
from mailer.console.sessions import digest, open_session
from mailer.console.tries import TOO_MANY, Tries, client_of
from mailer.errors import RefusedError

_LIFETIME: Final = timedelta(minutes=10)
_MOST_ATTEMPTS: Final = 1000
_CALLBACK: Final = "/login/oidc/callback"
_log = logging.getLogger(__name__)


class OidcRoutes:
    """The two routes of a login through the provider. Both end on our own pages."""

    def __init__(self, pages: LoginPages, tries: Tries, provider: Provider) -> None:
        self._pages = pages
        self._tries = tries
        self._provider = provider
        self._attempts = _Attempts()
        self._cookie = f"{pages.cookie}-oidc"

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        app.add_api_route("/login/oidc", self.begin, methods=["GET"], response_model=None)
        app.add_api_route(_CALLBACK, self.finish, methods=["GET"], response_model=None)

    async def begin(self, request: Request) -> Response:
        """Send the browser to the provider."""
        if not self._tries.may(f"oidc {client_of(request)}"):
            return await self._pages.form(request, TOO_MANY, status=429)
        try:
            attempt = await self._provider.begin(f"{self._pages.site(request).origin}{_CALLBACK}")
        except LoginError as error:
            return await self._refused(request, error, status=502)
        secret = self._attempts.add(attempt, at=datetime.now(UTC))
        answer = RedirectResponse(attempt.url, 303, {"cache-control": "no-store"})
        # Not strict: the browser must bring it along when the provider sends it back.
        answer.set_cookie(
            self._cookie,
            secret,
            max_age=int(_LIFETIME.total_seconds()),
            secure=self._pages.secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def finish(self, request: Request) -> Response:
        """Log in the user that the provider sent back."""
        answer = dict(request.query_params)
        at = datetime.now(UTC)
        attempt = self._attempts.take(answer.get("state", ""), request.cookies.get(self._cookie, ""), at=at)
        try:
            if attempt is None:
                raise LoginError("This login was not begun here, or took too long", remedy="try again")
            account = await self._provider.account(attempt, answer, at=at)
            agent = request.headers.get("user-agent", "")
            secret = await asyncio.to_thread(self._logged_in, account, agent)
        except RefusedError as error:
            response = await self._refused(request, error, status=403)
        else:
            response = self._pages.entered(secret)
        response.delete_cookie(self._cookie, secure=self._pages.secure, httponly=True, samesite="lax")
        return response

    async def _refused(self, request: Request, error: RefusedError, *, status: int) -> Response:
        _log.warning("a login through the provider was refused: %s", error)
        remedy = f" {error.remedy[:1].upper()}{error.remedy[1:]}." if error.remedy else ""
        return await self._pages.form(request, f"{error.message}.{remedy}", status=status)

    def _logged_in(self, account: Account, agent: str) -> str:
        at = datetime.now(UTC)
        try:
            with self._pages.database.transaction() as connection:
                user, linked = accounts.log_in(connection, account)
                if linked:
                    details = {"issuer": account.issuer, "subject": account.subject}
                    audit.record(connection, user.name, "user.link", user.name, details, at=at)
                audit.record(connection, user.name, "login", "", {"by": "oidc"}, at=at)
                return open_session(connection, user.id, agent, at=at, lifetime=self._pages.rules.session)
        except OtherAccountError as error:
            details = {"by": "oidc", "issuer": account.issuer, "subject": account.subject}
            with self._pages.database.transaction() as connection:
                audit.record(connection, account.email[:64], "login.refused", error.user, details, at=at)
            raise


class _Attempts:
    """The logins that have begun. Each can be finished once, by the browser that began it."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[Attempt, str, datetime]] = OrderedDict()

    def add(self, attempt: Attempt, *, at: datetime) -> str:
        """Keep an attempt; return the secret for the browser's cookie."""
        secret = secrets.token_urlsafe(32)
        self._open[attempt.state] = (attempt, digest(secret), at + _LIFETIME)
        while len(self._open) > _MOST_ATTEMPTS:
            self._open.popitem(last=False)
        return secret

    def take(self, state: str, secret: str, *, at: datetime) -> Attempt | None:
        """Return an attempt and forget it; None if it is unknown, another browser's, or too old."""
        found = self._open.get(state)
        if found is None or not hmac.compare_digest(found[1], digest(secret)):
            return None
        attempt, _, until = self._open.pop(state)
        return attempt if at < until else None
