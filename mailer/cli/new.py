"""`mailer new`: create the next issue."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from mailer.cli.app import App, Command, pass_app
from mailer.rendering.source.new import create_issue, create_resend, slug


@click.command(cls=Command)
@click.argument("title")
@click.option(
    "--slug", "name", metavar="NAME", help="The file's name after the number; made from TITLE by default."
)
@click.option(
    "--resend",
    "original",
    metavar="ISSUE",
    help="Repeat ISSUE for those who got it and did not click; TITLE is the new subject.",
)
@click.option(
    "--from-feed",
    "feed",
    metavar="URL",
    help="Start with the items of a feed (RSS, Atom or JSON Feed) that no issue has used yet.",
)
@click.option(
    "--items",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    metavar="N",
    help="With --from-feed: the newest N items; older ones are skipped.",
)
@click.option("--open", "edit", is_flag=True, help="Open the issue in $VISUAL or $EDITOR.")
@pass_app
def new(
    app: App, title: str, name: str | None, original: str | None, feed: str | None, items: int, edit: bool
) -> None:
    """Create the next issue, called TITLE, and print its path. Existing files are never overwritten.

    The file's name is part of the issue's address in the archive.
    """
    title = " ".join(title.split())
    if not title or not title.isprintable():
        raise click.BadParameter("the title must be one line of text", param_hint="TITLE")
    name = slug(title) if name is None else name
    if name != slug(name):
        raise click.BadParameter(
            f"use small letters, digits and hyphens, such as {slug(name)}", param_hint="--slug"
        )
    folder, today = app.settings.path(app.settings.paths.issues), datetime.now(UTC).date()
    if feed is not None:
        path = _from_feed(app, feed, title, name, items)
        if path is None:
            app.say(f"{feed} has nothing new; no issue was written")
            return
    elif original is None:
        path = create_issue(folder, title, name, on=today)
    else:
        # Imported here: only a resend reads an issue.
        from mailer.delivery.editions import find_source
        from mailer.rendering.source.issue import read_issue

        source = read_issue(find_source(app.settings, original))
        path = create_resend(folder, source, source.path.read_text(encoding="utf-8-sig"), title, on=today)
    app.out(str(path))
    if edit:
        click.edit(filename=str(path))


def _from_feed(app: App, url: str, title: str, name: str, number: int) -> Path | None:
    """Write an issue from what is new in a feed; None if nothing is."""
    # Imported here: other issues need neither the network nor a database.
    from mailer.review.feeds import markdown, read_feed, remember

    at = datetime.now(UTC)
    with app.database.reading() as connection:
        read = read_feed(connection, url, at=at)
    folder = app.settings.path(app.settings.paths.issues)
    path = None
    if read.items:
        path = create_issue(folder, title, name, on=at.date(), body=markdown(read.items[:number]))
    with app.database.transaction() as connection:
        remember(connection, read, at=at)
    return path
