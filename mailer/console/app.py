"""The console as one ASGI application: the guard, the login, and the pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import nicegui
from fastapi import FastAPI
from nicegui import Client, core, ui
from starlette.types import ASGIApp

from mailer.config import client_secret
from mailer.console import (
    access,
    bounces,
    correcting,
    deliverability,
    deliveries,
    emails,
    home,
    imports,
    issue,
    issue_list,
    own_passkeys,
    person,
    readers,
    results,
    settings,
    subscribers,
)
from mailer.console.desk import Desk
from mailer.console.frame import not_found, refused
from mailer.console.frames import Frames
from mailer.console.guard import VISITOR, Guard, cookie_name
from mailer.console.login import LoginRoutes
from mailer.console.login_pages import LoginPages
from mailer.console.sessions import Visitor, visitor_of
from mailer.console.tries import Tries
from mailer.errors import MailerError

_FAREWELL_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)
_SocketHandler = Callable[[str, dict[str, Any]], Awaitable[Any] | None]


def create_console(desk: Desk, *, port: int) -> ASGIApp:
    """Return the application. Call it once in a process: the framework keeps its pages globally."""
    rules, name = desk.settings.console, desk.settings.newsletter.name
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    cookie = cookie_name(rules.public_url, port)
    _add_login(outer, LoginPages(desk.database, rules, cookie, name), desk.settings.folder)
    frames = Frames()
    frames.add_to(outer)
    # The import comes before the page of a subscriber, whose path would match it.
    for pages in (
        home,
        issue_list,
        deliveries,
        readers,
        subscribers,
        imports,
        person,
        bounces,
        deliverability,
        access,
        own_passkeys,
        settings,
    ):
        pages.add_pages(desk)
    subscribers.add_routes(desk, outer)
    correcting.add_pages(desk, frames)
    emails.add_pages(desk, frames)
    readers.add_routes(desk, outer)
    results.add_routes(desk, outer)
    issue.add_pages(desk, frames)
    ui.run_with(
        outer,
        title=name,
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
    )
    nicegui.app.add_exception_handler(404, not_found(desk))
    outer.add_exception_handler(MailerError, refused(desk))
    _bind_sockets()

    def known(session_digest: str, agent: str) -> Visitor | None:
        with desk.database.reading() as connection:
            return visitor_of(connection, session_digest, agent, at=datetime.now(UTC))

    return Guard(outer, known, public_url=rules.public_url, port=port)


def _add_login(app: FastAPI, pages: LoginPages, folder: Path) -> None:
    tries = Tries()
    LoginRoutes(pages, tries, _forget).add_to(app)
    if (oidc := pages.rules.oidc) is not None:
        # Imported on use: it takes a while.
        from mailer.console.oidc import Provider
        from mailer.console.oidc_login import OidcRoutes

        OidcRoutes(pages, tries, Provider(oidc, client_secret(oidc, folder))).add_to(app)


def _forget(session_digest: str) -> None:
    """Close the pages that a session has open, so that their websockets end with it."""
    for client in list(Client.instances.values()):
        if _digest(client.request.scope) == session_digest:
            # Until then the page can do nothing: every change checks the session.
            client.run_javascript("location.href = '/login'")
            asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, client.delete)


def _digest(scope: Any) -> str:
    visitor = scope.get(VISITOR)
    return visitor.digest if isinstance(visitor, Visitor) else ""


def _bind_sockets() -> None:
    """Let a websocket speak only for the page it was opened for, and only within one session."""
    handlers: dict[str, _SocketHandler] = core.sio.handlers["/"]
    for event in ("event", "javascript_response", "ack", "log"):
        core.sio.on(event, _own_page_only(handlers[event]))

    def same_session(client: Client) -> None:
        opened = _digest((client.environ or {}).get("asgi.scope", {}))
        if not opened or opened != _digest(client.request.scope):
            _log.warning("a websocket of another session was refused")
            client.delete()

    nicegui.app.on_connect(same_session)


def _own_page_only(handler: _SocketHandler) -> _SocketHandler:
    def checked(sid: str, message: dict[str, Any]) -> Any:
        if message.get("client_id") in core.sio.rooms(sid):
            return handler(sid, message)
        return None

    return checked
