"""`mailer render`: write an issue to files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mailer.cli.app import App, Command, pass_app
from mailer.delivery import editions
from mailer.review import sample


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "-o",
    "--out",
    default="rendered",
    metavar="DIR|-",
    show_default=True,
    help="The folder to write to; - prints the message.",
)
@pass_app
def render(app: App, issue: str, out: str) -> None:
    """Write ISSUE as a reader gets it to .html, .txt and .eml files. Nothing is sent.

    ISSUE is a file, its name without .md, or the number its name begins with.
    """
    rendered = sample.render(app.settings, editions.find_source(app.settings, issue))
    if out == "-":
        sys.stdout.buffer.write(rendered.message)
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (
        (".html", rendered.html.encode()),
        (".txt", rendered.text.encode()),
        (".eml", rendered.message),
    ):
        path = folder / (rendered.slug + suffix)
        path.write_bytes(content)
        app.out(f"{path}  {len(content):,} bytes")
