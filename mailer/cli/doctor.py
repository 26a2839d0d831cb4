"""`mailer doctor`: check whether mail from here will arrive."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from mailer.cli.app import App, Command, finish, json_option, pass_app
from mailer.doctor import Finding, Level, Names, examine
from mailer.errors import ExitCode
from mailer.printable import counted

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@click.command(cls=Command)
@click.option("--dns", "server", default="", metavar="ADDRESS", help="Ask this name server, e.g. 1.1.1.1.")
@click.option(
    "--blocklists",
    "with_blocklists",
    is_flag=True,
    help="Also look up your relays and domain on public blocklists.",
)
@click.option(
    "--probe",
    "with_probe",
    is_flag=True,
    help="Send a message to the bounce domain, and wait until it is in the bounce mailbox.",
)
@json_option
@pass_app
def doctor(app: App, server: str, with_blocklists: bool, with_probe: bool, as_json: bool) -> None:
    """Check whether mail from here will arrive.

    This checks SPF, DKIM, DMARC and their alignment, the MX records for bounces and replies, MTA-STS, TLS
    reports and BIMI; the relays with their certificates and names; the pages, and that one-click requests
    reach them; the clock, the disk and the database. It sends nothing, except with --probe. Each
    finding has a remedy and, where one is needed, the DNS record to publish.

    Exit codes: 0 no problem, though there may be warnings; 6 at least one problem.
    """
    found: list[Finding] = []
    checked = examine(
        app.settings,
        app.unopened_database,
        Names(server),
        with_blocklists=with_blocklists,
        with_probe=with_probe,
        at=datetime.now(UTC),
    )
    for finding in checked:
        found.append(finding)
        if not as_json and not (app.quiet and finding.level is Level.OK):
            _print(app, finding)
    counts = {level.value: sum(one.level is level for one in found) for level in Level}
    if as_json:
        app.emit({"findings": [asdict(one) for one in found], "counts": counts})
    else:
        warnings, problems = (counted(counts[name], name) for name in ("warning", "problem"))
        app.say(f"{counts['ok']} ok, {warnings}, {problems}")
    finish(ExitCode.CONFIGURATION if counts["problem"] else ExitCode.DONE)


def _print(app: App, finding: Finding) -> None:
    level = click.style(f"{finding.level.value:<8}", fg=_COLOURS[finding.level], bold=True)
    app.out(f"{level} {finding.check:<16} {click.style(finding.subject, bold=True)}: {finding.message}")
    if finding.remedy:
        app.out(f"         {click.style('=', dim=True)} {finding.remedy}")
    if finding.record:
        app.out(f"         {finding.record}")
