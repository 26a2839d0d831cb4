"""The application that `mailer serve` runs: readers' pages, tracked links, webhooks and the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from mailer.bounces.providers.requests import MAX_BODY_OCTETS
from mailer.config import Settings, Web
from mailer.database.engine import Database
from mailer.delivery.letter_sender import LetterSender
from mailer.tasks import Tasks
from mailer.tokens import Signer
from mailer.web.api.app import PREFIX as API
from mailer.web.api.app import create_api
from mailer.web.failures import show_failures
from mailer.web.intake.hooks import PREFIX as HOOKS
from mailer.web.intake.hooks import WebhookRoutes
from mailer.web.intake.tracking import TrackingRoutes
from mailer.web.links import LinkRepair
from mailer.web.monitoring import health_routes
from mailer.web.public.admission import Admission
from mailer.web.public.archive import ArchiveRoutes
from mailer.web.public.editions import Editions
from mailer.web.public.preferences import PreferencesRoutes
from mailer.web.public.subscribe import SubscribeRoutes
from mailer.web.public.unsubscribe import REASONS, UnsubscribeRoutes
from mailer.web.requests import RequestIds
from mailer.web.shield import Shield
from mailer.web.theme import Theme, theme_of
from mailer.web.writer import Writer

PRIVATE: Final = ("/u/", "/p/", "/v/", "/c/", "/o/", "/confirm/", "/api/")


def create_app(
    database: Database,
    signer: Signer,
    settings: Settings,
    *,
    letters: LetterSender | None = None,
    hooks: WebhookRoutes | None = None,
    tasks: Tasks | None = None,
) -> ASGIApp:
    """Return the application of the public pages. The database must be open.

    `letters` sends the letters; without it they wait for another process. `hooks` take providers' events.
    `/healthz` shows the `tasks` of the process, to which the application adds its own.
    """
    tasks = tasks or Tasks()
    web, tracking = settings.web, settings.tracking
    theme = theme_of(settings)
    writer, editions = Writer(database), Editions(database)
    wake_sender = letters.call if letters else _do_nothing
    subscribing = SubscribeRoutes(
        database, signer, theme, writer, Admission(settings.signup), wake_sender, welcome=web.welcome
    )
    unsubscribing = UnsubscribeRoutes(
        database, signer, theme, writer, wake_sender, reasons=web.reasons or REASONS, goodbye=web.goodbye
    )
    tracked = tracking.opens or tracking.clicks
    preferences = PreferencesRoutes(
        database, signer, theme, writer, unsubscribing, tags=web.tags, tracked=tracked
    )
    archive = ArchiveRoutes(signer, editions, theme, settings)
    pages = _pages(theme, [unsubscribing, preferences, archive, subscribing, *([hooks] if hooks else [])])
    pages.mount(
        API,
        _made_when_used(lambda: create_api(database, settings, invite=subscribing.invite, wake=wake_sender)),
    )
    pages.include_router(_service(database, theme, web, tasks))
    # Sending an issue brings a burst of these requests, so they bypass FastAPI. The pages have the same
    # routes, to answer other methods.
    often = [unsubscribing.one_click(), *TrackingRoutes(signer, editions, writer, tracking).routes()]
    pages.router.routes.extend(often)
    app = _outer(theme, [*often, Mount("", pages)], _lifespan(writer, subscribing, letters, tasks))
    shield = Shield(
        app,
        private=PRIVATE,
        index=web.index,
        https=web.public_url.startswith("https:"),
        bodies={HOOKS: MAX_BODY_OCTETS},
    )
    return RequestIds(LinkRepair(shield))


def _made_when_used(make: Callable[[], ASGIApp]) -> ASGIApp:
    """Return an application that is made for its first request: FastAPI takes long for the API's routes."""
    made = cache(make)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await made()(scope, receive, send)

    return answer


_Routes = UnsubscribeRoutes | PreferencesRoutes | ArchiveRoutes | SubscribeRoutes | WebhookRoutes


def _pages(theme: Theme, parts: Iterable[_Routes]) -> FastAPI:
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for part in parts:
        pages.include_router(part.router())
    if theme.static is not None:
        pages.mount("/static", StaticFiles(directory=theme.static))
    show_failures(pages, theme)
    return pages


_Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def _outer(theme: Theme, routes: list[BaseRoute], lifespan: _Lifespan) -> Starlette:
    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    show_failures(app, theme)
    return app


def _lifespan(
    writer: Writer, subscribing: SubscribeRoutes, letters: LetterSender | None, tasks: Tasks
) -> _Lifespan:
    """Return the lifespan that starts and stops the application's tasks."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        writer.start(tasks)
        subscribing.start(tasks)
        if letters is not None:
            letters.start(tasks)
        try:
            yield
        finally:
            subscribing.close()
            writer.close()
            if letters is not None:
                letters.close()

    return lifespan


def _do_nothing() -> None:
    """Leave the letters to another process."""


def _service(database: Database, theme: Theme, web: Web, tasks: Tasks) -> APIRouter:
    """Return the routes that browsers, search engines and monitoring need."""
    router = health_routes(database, tasks)
    # RFC 9309
    hidden = PRIVATE if web.index else ("/",)
    robots = "User-agent: *\n" + "".join(f"Disallow: {prefix}\n" for prefix in hidden)
    if web.index:
        robots += f"Sitemap: {web.public_url.rstrip('/')}/sitemap.xml\n"

    router.add_api_route("/style.css", theme.style, methods=["GET", "HEAD"])
    router.add_api_route("/favicon.ico", _no_icon, methods=["GET", "HEAD"])
    router.add_api_route("/robots.txt", lambda: PlainTextResponse(robots), methods=["GET", "HEAD"])
    return router


def _no_icon() -> Response:
    """Answer browsers' requests for an icon with 204."""
    return Response(status_code=204, headers={"cache-control": "public, max-age=86400"})
