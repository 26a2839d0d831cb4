"""`mailer new`: create the next issue."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import click
from anyascii import anyascii

from mailer.cli.app import App, Command, pass_app
from mailer.errors import RefusedError

_MAX_SLUG_CHARACTERS = 60


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
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(found[0]) for path in folder.glob("*.md") if (found := re.match("[0-9]{1,9}", path.name))]
    number = max(taken, default=0) + 1
    path = folder / f"{number:03}-{name}.md"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(
                f'---\ntitle: {json.dumps(title, ensure_ascii=False)}\npreheader: ""\n'
                f"date: {datetime.now(UTC).date()}\nnumber: {number}\n---\n\n"
                'Hello {{ subscriber.name | default("there") }},\n'
            )
    except FileExistsError:
        raise RefusedError(f"{path} already exists", remedy="edit it, or choose another title") from None
    app.out(str(path))
    if edit:
        click.edit(filename=str(path))


def slug(title: str) -> str:
    """Return `title` for use in a file name: ASCII letters, digits and hyphens, never empty.

    Other scripts are written in Latin letters.
    """
    latin = re.sub("['`’]", "", anyascii(title)).lower()
    return re.sub("[^a-z0-9]+", "-", latin)[:_MAX_SLUG_CHARACTERS].strip("-") or "issue"
