"""`mailer preview`: an issue in the browser while it is being written."""

from __future__ import annotations

from pathlib import Path

import click

from mailer.cli.app import App, Command, pass_app
from mailer.config import load
from mailer.delivery import editions, viewing
from mailer.delivery.viewing import Preview
from mailer.errors import ConfigError
from mailer.rendering.message import Recipient


@click.command(cls=Command)
@click.argument("issue")
@click.option("--as", "address", metavar="ADDRESS", help="As this subscriber gets it.")
@click.option("--port", type=click.IntRange(1, 65535), default=8602, show_default=True)
@click.option("--open", "opens", is_flag=True, help="Open the browser at once.")
@click.option(
    "--screenshot",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write PNGs there instead, by an installed Chromium.",
)
@pass_app
def preview(
    app: App, issue: str, address: str | None, port: int, opens: bool, screenshot: Path | None
) -> None:
    """Show ISSUE in a browser and load it anew on every save, until stopped (Ctrl-C).

    The page has the mail at 700 and 375 pixels, light and dark, without images, as text, source and
    headers, with its size and what lint says. Only this machine can see it; its links lead nowhere.

    ISSUE is a file, its name without .md, or the number it begins with.
    """
    from mailer.web.preview import Live, create_preview_app
    from mailer.web.server import serve_until_stopped

    path = editions.find_source(app.settings, issue)
    reader = None if address is None else _reader(app, address)

    def make() -> Preview:
        return viewing.preview(load(app.config_path), path, reader)

    if screenshot is not None:
        from mailer.web.screenshots import take

        for picture in take(make().viewed.html, screenshot, path.stem):
            app.out(str(picture))
        return
    settings = app.settings
    watched = [path.parent, settings.path(settings.paths.templates), app.config_path]
    with Live(make, watched) as live:

        def ready(url: str) -> None:
            app.say(url)
            if opens:
                click.launch(url)

        serve_until_stopped(
            create_preview_app(live, brand=settings.brand), host="127.0.0.1", port=port, ready=ready
        )


def _reader(app: App, address: str) -> Recipient:
    """Return a subscriber as templates see them."""
    # The database is loaded for those who ask for a subscriber.
    from mailer.address import parse_address
    from mailer.audience.subscribers import find
    from mailer.database.models import Subscriber
    from mailer.delivery.filling import everybody

    with app.database.reading() as session:
        known = find(session, parse_address(address))
        if known is None:
            raise ConfigError(
                f"{address}: no such subscriber",
                remedy="look with mailer subscribers list, or leave --as out",
            )
        return next(everybody(session, Subscriber.id == known.id))
