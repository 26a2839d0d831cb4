"""`mailer outbox`: show the messages kept on this machine."""

from __future__ import annotations

import click

from mailer.cli.app import App, Command, pass_app
from mailer.config import is_loopback


@click.command(cls=Command)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; it must be this machine's own.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8601,
    show_default=True,
    metavar="PORT",
    help="The port to listen on.",
)
@pass_app
def outbox(app: App, host: str, port: int) -> None:
    """Show messages kept in the local outbox in a browser, until you press Ctrl-C."""
    from mailer.web.operator.outbox import create_outbox_app
    from mailer.web.server import serve_until_stopped

    if not is_loopback(host):
        raise click.UsageError(f"--host {host}: the outbox is available on this machine only; use 127.0.0.1")
    pages = create_outbox_app(app.settings.path(app.settings.paths.outbox), brand=app.settings.brand)
    serve_until_stopped(pages, host=host, port=port, ready=app.say)
