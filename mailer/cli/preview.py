"""`mailer preview`: show an issue while you write it, or take screenshots of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailer.cli.app import App, Command, pass_app
from mailer.config import Settings, load

if TYPE_CHECKING:
    from mailer.rendering.message import Recipient
    from mailer.review.viewing import Preview


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--as", "address", default="", metavar="ADDRESS", help="Show the issue as this subscriber gets it."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="The port to listen on; a free one by default.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in your browser.")
@click.option(
    "--screenshot",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write PNG screenshots with Chromium instead: both widths, light and dark, images on and off.",
)
@pass_app
def preview(app: App, issue: str, address: str, port: int, opens: bool, folder: Path | None) -> None:
    """Show ISSUE in a browser while you write it, until you press Ctrl-C. Nothing is sent.

    ISSUE is a file, its name without .md, or the number its name begins with. The page is available on
    this machine only. It reloads whenever you save the issue, a template or config.toml. Its links do
    nothing.
    """
    from mailer.delivery import editions
    from mailer.review import viewing
    from mailer.review.chromium import Ruler

    path = editions.find_source(app.settings, issue)

    ruler = Ruler(app.say)
    measure = ruler.measure if folder is None else None

    def see(reader: str) -> Preview:
        return viewing.preview(load(app.config_path), path, _subscriber(app, reader), measure)

    if folder is not None:
        from mailer.web.operator.screenshots import take

        for picture in take(see(address).rendered.html, folder, path.stem):
            app.out(str(picture))
        return
    _subscriber(app, address)

    from mailer.web.operator.preview import create_preview_app
    from mailer.web.operator.watching import FileWatcher
    from mailer.web.server import serve_until_stopped

    def ready(url: str) -> None:
        app.say(f"{url}  (press Ctrl-C to stop)")
        if opens:
            click.launch(url)

    changes = FileWatcher(_folders(app.settings, path), [app.config_path])
    pages = create_preview_app(
        see, changes, name=app.settings.newsletter.name, brand=app.settings.brand, reader=address
    )
    with ruler:
        serve_until_stopped(pages, host="127.0.0.1", port=port, ready=ready, stopping=changes.stop)


def _folders(settings: Settings, issue: Path) -> list[Path]:
    """Return the files that a rendering depends on: templates, and the issue with its images."""
    return [settings.path(settings.paths.templates), issue.resolve().parent]


def _subscriber(app: App, address: str) -> Recipient | None:
    """Return the subscriber with an address; None for no address."""
    if not address:
        return None
    # Loaded only here: without a subscriber, the preview needs no database.
    from mailer.review.sample import reader_at

    return reader_at(app.database, address)
