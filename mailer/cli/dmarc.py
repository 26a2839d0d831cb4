"""`mailer dmarc`: show who sends mail in our name, as receivers report it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from mailer.cli.app import App, Command, json_option, pass_app
from mailer.printable import counted
from mailer.reports.authentication import AuthenticationSummary, authentication_summary


@click.command(cls=Command)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=30,
    show_default=True,
    help="Count the reports of the last N days.",
    metavar="N",
)
@json_option
@pass_app
def dmarc(app: App, days: int, as_json: bool) -> None:
    """Show who sends mail in your name, and which messages fail, as receivers report it.

    Name the bounce mailbox in `rua=` of your DMARC and TLS-RPT records; `mailer bounces fetch` and
    `mailer worker` store the reports that arrive there. Sources with the most failures come first: either
    they are yours and lack SPF or DKIM, or somebody else uses your name. Anyone can forge a report, so
    reports change nothing.
    """
    with app.database.reading() as connection:
        found = authentication_summary(connection, since=datetime.now(UTC) - timedelta(days=days))
    if as_json:
        app.emit(asdict(found))
        return
    for line in lines(found, days):
        app.out(line)


def lines(found: AuthenticationSummary, days: int) -> list[str]:
    """Return the summary as text."""
    if not found.reports or found.first_at is None or found.last_at is None:
        return [f"No DMARC or TLS report came in the last {days} days."]
    named = ", ".join(found.reporters[:5]) + (", …" if len(found.reporters) > 5 else "")
    period = f"{found.first_at:%Y-%m-%d} to {found.last_at:%Y-%m-%d}"
    shown = [f"{counted(found.reports, 'report')} about {period}, from {named}"]
    if found.sources:
        rows: list[Sequence[object]] = [
            ("SOURCE", "FROM", "MESSAGES", "FAILED", "DKIM", "SPF", "QUARANTINED", "REJECTED")
        ]
        for one in found.sources:
            failed = one.messages - one.passed
            counts = (one.messages, failed, one.dkim, one.spf, one.quarantined, one.rejected)
            rows.append((one.address, one.author, *(f"{number:,}" for number in counts)))
        shown += ["", *_aligned(rows)]
    if found.tls:
        heading = ("HOST", "TLS", "SESSIONS")
        rows = [heading, *((one.host, one.result, f"{one.sessions:,}") for one in found.tls)]
        shown += ["", *_aligned(rows)]
    return shown


def _aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return rows as columns; those after the second are numbers."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            str(cell).ljust(width) if column < 2 else str(cell).rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
