"""`mailer test`: send an issue to yourself first."""

from __future__ import annotations

from dataclasses import replace

import click
from msgspec import structs

from mailer.address import parse_address
from mailer.cli import findings as shown
from mailer.cli.app import App, Command, json_option, pass_app
from mailer.delivery import editions, requirements
from mailer.rendering.lint import Level
from mailer.rendering.source import read_issue
from mailer.review import linting, sample


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--to",
    "addresses",
    metavar="ADDRESS",
    multiple=True,
    required=True,
    help="The address to send to; repeatable.",
)
@click.option("--as", "reader_address", metavar="ADDRESS", help="Render the issue for this subscriber.")
@json_option
@pass_app
def test(app: App, issue: str, addresses: tuple[str, ...], reader_address: str | None, as_json: bool) -> None:
    """Send ISSUE to your own addresses, with [Test] in front of the subject.

    The message is signed and goes through the same relays as a real one, but nothing is queued or recorded.
    Its links change nothing, so you can forward it safely. Without --as, it is addressed to a made-up
    reader who has every field. Lint findings are shown but don't stop it.

    Exit codes: 0 accepted; 1 the issue can't be rendered; 5 refused by a safety check; 6 relay or
    configuration.
    """
    settings = app.settings
    parsed = [parse_address(text) for text in addresses]
    path = editions.find_source(settings, issue)
    edition = editions.build(settings, path)
    requirements.check_ready(settings, test=True)
    reader = (
        linting.sample_reader(edition)
        if reader_address is None
        else sample.reader_at(app.database, reader_address)
    )
    report = linting.examine(settings, read_issue(path), edition)
    for finding in report.findings:
        if finding.level is Level.ERROR:
            for line in shown.finding_lines(finding, {}):
                click.echo(line, err=True)
    marked = replace(edition, subject=f"[Test] {edition.subject}")
    for address in parsed:
        sample.send_test(settings, marked, structs.replace(reader, email=str(address)), say=app.say)
    if as_json:
        app.emit(
            {
                "issue": edition.slug,
                "to": [str(address) for address in parsed],
                "errors": report.count(Level.ERROR),
            }
        )
        return
    relays = ", ".join(settings.relays) or "the outbox on this machine (mailer outbox)"
    app.out(f"'[Test] {edition.title}' went to {', '.join(map(str, parsed))} through {relays}")
