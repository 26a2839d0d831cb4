"""`mailer new`: create the next issue."""

from __future__ import annotations

from datetime import UTC, datetime

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
@click.option("--open", "edit", is_flag=True, help="Open the issue in $VISUAL or $EDITOR.")
@pass_app
def new(app: App, title: str, name: str | None, original: str | None, edit: bool) -> None:
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
    if original is None:
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
