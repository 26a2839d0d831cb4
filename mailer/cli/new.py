"""`mailer new`: create the next issue."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mailer.cli.app import App, Command, pass_app
from mailer.rendering.source.new import create_issue, slug


@click.command(cls=Command)
@click.argument("title")
@click.option(
    "--slug", "name", metavar="NAME", help="The file's name after the number; made from TITLE by default."
)
@click.option("--open", "edit", is_flag=True, help="Open the issue in $VISUAL or $EDITOR.")
@pass_app
def new(app: App, title: str, name: str | None, edit: bool) -> None:
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
    folder = app.settings.path(app.settings.paths.issues)
    path = create_issue(folder, title, name, on=datetime.now(UTC).date())
    app.out(str(path))
    if edit:
        click.edit(filename=str(path))
