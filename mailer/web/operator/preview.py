"""The preview of an issue in a browser: rendered again after each save, with lint's findings.

The operator's own email is treated like any other: it is shown in a frame that runs no scripts, under a
policy that allows none. The page works by plain links; its own small script reloads it after a save and
fits the frame to the email's height.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from mailer.config import Brand
from mailer.config.shipped import shipped
from mailer.errors import MailerError
from mailer.rendering.html.variants import Scheme, in_scheme, with_links_beside
from mailer.rendering.lint import CHECKS, Level
from mailer.rendering.lint.document import CLIPPED_BYTES, LARGE_BYTES
from mailer.review.viewing import SANDBOX, Preview, mail_policy
from mailer.web.operator.watching import FileWatcher
from mailer.web.shield import PAGE_POLICY, LocalOnly, Shield
from mailer.web.theme import PAGES, Theme

DESKTOP_WIDTH: Final = 700
PHONE_WIDTH: Final = 375


class View(StrEnum):
    """The part of the message that the page shows."""

    DESKTOP = "desktop"
    PHONE = "phone"
    TEXT = "text"
    SOURCE = "source"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen view; each combination has its own URL."""

    view: View = View.DESKTOP
    scheme: Scheme = Scheme.LIGHT
    images: bool = True
    reader: str = ""
    """A subscriber's address; empty for the sample reader, who has every field."""

    @classmethod
    def of(cls, asked: QueryParams, *, reader: str) -> Choice:
        """Return the choice in a query string; unknown values are ignored."""
        view = asked.get("view", "")
        return cls(
            View(view) if view in list(View) else View.DESKTOP,
            Scheme.DARK if asked.get("scheme") == Scheme.DARK else Scheme.LIGHT,
            asked.get("images") != "off",
            asked.get("as", reader).strip(),
        )

    @property
    def query(self) -> str:
        """The query string of this choice, including `?`."""
        said = {"view": str(self.view), "as": self.reader}
        if self.scheme is Scheme.DARK:
            said["scheme"] = str(self.scheme)
        if not self.images:
            said["images"] = "off"
        return f"?{urlencode(said)}"


def create_preview_app(
    see: Callable[[str], Preview], changes: FileWatcher, *, name: str, brand: Brand, reader: str = ""
) -> ASGIApp:
    """Return the application that shows one issue.

    `see` renders it for a subscriber's address or, if that is empty, for a sample reader who has every
    field. It may raise `MailerError`, and is called from any thread, one at a time. `reader` is the first
    subscriber to show. `name` is the newsletter's.
    """
    pages = _Pages(see, changes, Theme(brand, name=name, language="en"), reader)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with changes.watched():
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for path, answer in (
        ("/", pages.index),
        ("/mail", pages.mail),
        ("/message.eml", pages.message),
        ("/events", pages.events),
        ("/lint/{check}", pages.check),
        ("/style.css", pages.theme.style),
        ("/preview.css", lambda: FileResponse(PAGES / "preview.css")),
        ("/preview.js", lambda: FileResponse(PAGES / "preview.js", media_type="text/javascript")),
    ):
        app.add_api_route(path, answer, methods=["GET"], response_model=None)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"{error.detail}\n", error.status_code)

    app.add_exception_handler(HTTPException, refused)
    return Shield(LocalOnly(app, "The preview"), private=("/",))


class _Pages:
    def __init__(
        self, see: Callable[[str], Preview], changes: FileWatcher, theme: Theme, reader: str
    ) -> None:
        self._see = see
        self._changes = changes
        self._reader = reader
        self._lock = threading.Lock()
        self._seen: tuple[str, str, Preview] | None = None
        self.theme = theme

    def index(self, request: Request) -> Response:
        """Show the issue as it is on disk now, or the error in it."""
        chosen = Choice.of(request.query_params, reader=self._reader)
        nonce = secrets.token_urlsafe(18)
        state = self._changes.state
        preview, problem = None, None
        try:
            preview = self._rendered(chosen.reader, state, refresh=True)
        except MailerError as error:
            problem = error
        answer = self.theme.page(
            "preview.html",
            title=preview.edition.title if preview else "Preview",
            chosen=chosen,
            state=state,
            nonce=nonce,
            preview=preview,
            problem=problem,
            levels=Level,
            checks=CHECKS,
            views=[(view, replace(chosen, view=view).query) for view in View],
            other_scheme=replace(
                chosen, scheme=Scheme.LIGHT if chosen.scheme is Scheme.DARK else Scheme.DARK
            ).query,
            other_images=replace(chosen, images=not chosen.images).query,
            frame=f"/mail{chosen.query}&state={state}",
            sandbox=SANDBOX,
            clipped=CLIPPED_BYTES,
            large=LARGE_BYTES,
        )
        answer.headers["content-security-policy"] = (
            f"{PAGE_POLICY}; script-src 'nonce-{nonce}'; connect-src 'self'; frame-src 'self'"
        )
        return answer

    def mail(self, request: Request) -> Response:
        """Return the HTML part for the frame."""
        chosen = Choice.of(request.query_params, reader=self._reader)
        preview = self._known(chosen)
        html = preview.rendered.html if chosen.images else preview.rendered.source
        return HTMLResponse(
            with_links_beside(in_scheme(html, chosen.scheme)),
            headers={"content-security-policy": mail_policy(images=chosen.images)},
        )

    def message(self, request: Request) -> Response:
        """Return the whole message, for an email client."""
        preview = self._known(Choice.of(request.query_params, reader=self._reader))
        name = {"content-disposition": 'attachment; filename="message.eml"'}
        return Response(preview.rendered.message, media_type="message/rfc822", headers=name)

    def check(self, check: str) -> Response:
        """Show the documentation of a check."""
        if check not in CHECKS:
            raise HTTPException(404, f"there is no check '{check}'")
        text = (shipped("docs") / "lint" / f"{check}.md").read_text(encoding="utf-8")
        return self.theme.page("check.html", title=check, content=Markup(MarkdownIt().render(text)))  # noqa: S704 - ours

    async def events(self) -> Response:
        """Send the state now and after every change, as server-sent events."""
        return StreamingResponse(self._states(), media_type="text/event-stream")

    async def _states(self) -> AsyncIterator[str]:
        yield "retry: 500\n\n"
        said: str | None = ""
        while said := await self._changes.after(said or ""):
            yield f"data: {said}\n\n"

    def _known(self, chosen: Choice) -> Preview:
        try:
            return self._rendered(chosen.reader, self._changes.state, refresh=False)
        except MailerError as error:
            raise HTTPException(409, str(error)) from error

    def _rendered(self, reader: str, state: str, *, refresh: bool) -> Preview:
        """Return the issue for a reader; `refresh` renders it even if no change was noticed."""
        with self._lock:
            if not refresh and self._seen is not None and self._seen[:2] == (reader, state):
                return self._seen[2]
            preview = self._see(reader)
            self._seen = (reader, state, preview)
            return preview
