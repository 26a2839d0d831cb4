"""`mailer serve`: serve the web pages."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from msgspec.structs import asdict

from mailer.cli.app import App, Command, pass_app


@click.command(cls=Command)
@click.option("--host", help="The address to listen on; [web] host by default.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; [web] port by default.")
@pass_app
def serve(app: App, host: str | None, port: int | None) -> None:
    """Serve the web pages: the site, sign-up, unsubscribing and preferences.

    Runs until you stop it (Ctrl-C, SIGTERM). It also serves one-click unsubscribe, tracked links, the API
    and the webhooks of providers, sends letters and webhooks, counts for statistics, notifies the WebSub
    hub, and deletes expired data once a day.
    """
    from mailer.audience.privacy.retention import Terms, prune
    from mailer.bounces.boxes.configured import rules_of
    from mailer.delivery.letter_sender import LetterSender
    from mailer.reports.rollups import REFRESH_SECONDS, refresh
    from mailer.web import outgoing
    from mailer.web.app import create_app
    from mailer.web.intake.hooks import WebhookRoutes, secrets_of
    from mailer.web.public.hub import notifying
    from mailer.web.server import serve_until_stopped
    from mailer.web.upkeep import daily

    settings = app.settings
    rules = rules_of(settings)
    hooks = WebhookRoutes(
        app.database, app.signer, secrets=secrets_of(settings.webhooks, settings.web.public_url), rules=rules
    )
    letters = LetterSender(settings, app.database, app.signer)
    pages = create_app(app.database, app.signer, settings, letters=letters, hooks=hooks)
    host, port = host or settings.web.host, port or settings.web.port
    terms = Terms(**asdict(settings.retention))
    with (
        daily(lambda: prune(app.database, terms, at=datetime.now(UTC))),
        daily(lambda: outgoing.forget(app.database, at=datetime.now(UTC))),
        daily(lambda: outgoing.deliver(app.database), every_seconds=outgoing.LOOK_SECONDS),
        daily(
            lambda: refresh(app.database, at=datetime.now(UTC), segments=settings.segments),
            every_seconds=REFRESH_SECONDS,
        ),
        notifying(settings, app.database),
    ):
        serve_until_stopped(
            pages,
            host=host,
            port=port,
            proxies=settings.web.proxies,
            ready=lambda url: app.say(f"{url} (readers reach it at {settings.web.public_url})"),
        )
