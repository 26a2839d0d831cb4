"""`mailer serve`: serve the web pages."""

from __future__ import annotations

import click

from mailer.cli.app import App, Command, log_options, pass_app


@click.command(cls=Command)
@click.option("--host", help="The address to listen on; [web] host by default.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The port to listen on; [web] port by default.",
)
@click.option("--worker", "with_worker", is_flag=True, help="Also do the work of `mailer worker`.")
@log_options
@pass_app
def serve(app: App, host: str | None, port: int | None, with_worker: bool) -> None:
    """Serve the web pages: the site, sign-up, unsubscribing and preferences.

    Runs until you stop it (Ctrl-C, SIGTERM). It also serves one-click unsubscribe, tracked links, the API
    and the webhooks of providers, sends letters and webhooks, updates the statistics, notifies the WebSub
    hub, and deletes expired data once a day.

    With --worker, one process does everything: it also sends scheduled issues and retries, and reads the
    bounce mailboxes.
    """
    from mailer.bounces.boxes.configured import rules_of
    from mailer.cli.worker import beside_pages, upkeep
    from mailer.delivery.letter_sender import LetterSender
    from mailer.tasks import Tasks
    from mailer.web.app import create_app
    from mailer.web.intake.hooks import WebhookRoutes, secrets_of
    from mailer.web.public.hub import notifying
    from mailer.web.server import serve_until_stopped

    settings = app.settings
    rules = rules_of(settings)
    hooks = WebhookRoutes(
        app.database, app.signer, secrets=secrets_of(settings.webhooks, settings.web.public_url), rules=rules
    )
    letters = LetterSender(settings, app.database, app.signer)
    tasks = Tasks()
    pages = create_app(app.database, app.signer, settings, letters=letters, hooks=hooks, tasks=tasks)
    host, port = host or settings.web.host, port or settings.web.port
    with (
        beside_pages(app, tasks) if with_worker else upkeep(app, tasks),
        notifying(settings, app.database, tasks),
    ):
        serve_until_stopped(
            pages,
            host=host,
            port=port,
            proxies=settings.web.proxies,
            ready=lambda url: app.say(f"{url} (readers reach it at {settings.web.public_url})"),
        )
