"""The pages that readers reach: unsubscribe, preferences, archive, and what tracked mail calls."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, FastAPI
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mailer.bounces.providers.requests import MAX_BODY_OCTETS
from mailer.config import Settings
from mailer.database.session import Database
from mailer.delivery.letter_sender import LetterSender
from mailer.errors import StorageError, TokenError
from mailer.tokens import Signer
from mailer.web.api.app import PREFIX as API
from mailer.web.api.app import create_api
from mailer.web.intake.hooks import PREFIX as HOOKS
from mailer.web.intake.hooks import WebhookRoutes
from mailer.web.intake.tracking import TrackingRoutes
from mailer.web.public.admission import Admission
from mailer.web.public.archive import ArchiveRoutes, Editions
from mailer.web.public.preferences import PreferencesRoutes
from mailer.web.public.subscribe import SubscribeRoutes
from mailer.web.public.unsubscribe import REASONS, UnsubscribeRoutes
from mailer.web.shield import Shield
from mailer.web.theme import Theme, theme_of
from mailer.web.writer import Writer

PRIVATE: Final = ("/u/", "/p/", "/c/", "/o/", "/confirm/", "/api/")
_log = logging.getLogger(__name__)


def create_app(
    database: Database,
    signer: Signer,
    settings: Settings,
    *,
    letters: LetterSender | None = None,
    hooks: WebhookRoutes | None = None,
) -> ASGIApp:
    """Return the application of the public pages. The database is open already.

    `letters` sends the letters; without it they wait for another process. `hooks` listen to providers.
    """
    web, tracking = settings.web, settings.tracking
    call = letters.call if letters else _nobody
    theme = theme_of(settings)
    writer, editions = Writer(database), Editions(database)
    admission = Admission(settings.signup)
    joining = SubscribeRoutes(database, signer, theme, writer, admission, call, welcome=web.welcome)
    leaving = UnsubscribeRoutes(
        database, signer, theme, writer, call, reasons=web.reasons or REASONS, goodbye=web.goodbye
    )
    tracked = tracking.opens or tracking.clicks
    deciding = PreferencesRoutes(database, signer, theme, writer, leaving, tags=web.tags, tracked=tracked)
    archive = ArchiveRoutes(
        database, editions, theme, newsletter=settings.newsletter, public_url=web.public_url.rstrip("/")
    )
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for room in (leaving, deciding, archive, joining):
        pages.include_router(room.router())
    if hooks is not None:
        pages.include_router(hooks.router())
    pages.mount(API, create_api(database, segments=settings.segments, invite=joining.invite))
    pages.include_router(_service(database, theme, robots=_robots(web.index)))
    if theme.static is not None:
        pages.mount("/static", StaticFiles(directory=theme.static))
    # What a send brings a burst of stands before all that FastAPI does for a request; there it is met by
    # who asks with another method.
    often = [leaving.one_click(), *TrackingRoutes(signer, editions, writer, tracking).routes()]
    pages.router.routes.extend(often)
    _tell_failures(pages, theme)
    app = Starlette(routes=[*often, Mount("", pages)], lifespan=_working(writer, joining, letters))
    app.router.redirect_slashes = False
    _tell_failures(app, theme)
    https = web.public_url.startswith("https:")
    return Shield(app, private=PRIVATE, index=web.index, https=https, bodies={HOOKS: MAX_BODY_OCTETS})


def _working(
    writer: Writer, joining: SubscribeRoutes, letters: LetterSender | None
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Return what starts the threads of an application with it, and ends them with it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        writer.start()
        if letters is not None:
            letters.start()
        try:
            yield
        finally:
            joining.close()
            writer.close()
            if letters is not None:
                letters.close()

    return lifespan


def _nobody() -> None:
    """Call nobody: the letters wait."""


def _robots(index: bool) -> str:
    """Return robots.txt (RFC 9309): what no search engine may visit."""
    return "User-agent: *\n" + "".join(f"Disallow: {prefix}\n" for prefix in (PRIVATE if index else ("/",)))


def _service(database: Database, theme: Theme, *, robots: str) -> APIRouter:
    """Return the routes that pages and machines need besides."""
    router = APIRouter()

    def health() -> Response:
        """Answer 200 while the database can be read."""
        with database.reading() as session:
            session.execute(text("SELECT 1 FROM instance"))
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    router.add_api_route("/healthz", health, methods=["GET", "HEAD"])
    router.add_api_route("/style.css", theme.style, methods=["GET", "HEAD"])
    router.add_api_route("/favicon.ico", _no_icon, methods=["GET", "HEAD"])
    router.add_api_route("/robots.txt", lambda: PlainTextResponse(robots), methods=["GET", "HEAD"])
    return router


def _no_icon() -> Response:
    """Answer what every browser asks for without being told to."""
    return Response(status_code=204, headers={"cache-control": "public, max-age=86400"})


def _tell_failures(app: Starlette, theme: Theme) -> None:
    """Turn our errors into pages; none tells more than the reader needs."""

    async def damaged(request: Request, error: Exception) -> Response:
        texts = theme.to(request)
        return texts.notice(
            404,
            texts.say("This link does not work"),
            texts.say("It may have been cut. Open it from the mail once more."),
        )

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        texts = theme.to(request)
        if error.status_code == HTTPStatus.NOT_FOUND:
            title, text = texts.say("Page not found"), texts.say("There is no page at this address.")
        elif error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            title, text = texts.say("Too many requests"), texts.say("Please try again in an hour.")
        else:
            title = texts.say("This did not work")
            text = texts.say("The request cannot be answered (%(code)s).", code=error.status_code)
        answer = texts.notice(error.status_code, title, text)
        answer.headers.update(error.headers or {})
        return answer

    async def unavailable(request: Request, error: Exception) -> Response:
        _log.error("%s", error)
        texts = theme.to(request)
        answer = texts.notice(
            503, texts.say("Try again in a minute"), texts.say("The request could not be kept just now.")
        )
        answer.headers["retry-after"] = "60"
        return answer

    async def broken(request: Request, error: Exception) -> Response:
        texts = theme.to(request)
        return texts.notice(
            500, texts.say("Something went wrong"), texts.say("It has been noted. Try again later.")
        )

    app.add_exception_handler(TokenError, damaged)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(StorageError, unavailable)
    app.add_exception_handler(Exception, broken)
