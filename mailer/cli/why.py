"""`mailer why`: show why an address did, or didn't, get email."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from mailer.address import parse_address
from mailer.cli.app import App, Command, json_option, pass_app
from mailer.errors import MailerError
from mailer.reports import history
from mailer.reports.alerts import Happening


@click.command(cls=Command)
@click.argument("address")
@json_option
@pass_app
def why(app: App, address: str, as_json: bool) -> None:
    """Show the history of ADDRESS: consents, deliveries, replies, bounces and suppressions.

    With --verbose, also show the wording of each form that the person agreed to, and their IP address.
    """
    secret = app.database.secrets()[0]
    with app.database.reading() as connection:
        story = history.story_of(connection, parse_address(address), secret=secret)
    if story is None:
        raise MailerError(
            f"{address} has no history", remedy="list the subscribers with: mailer subscribers list"
        )
    if as_json:
        app.emit({"address": address, **{k: v for k, v in asdict(story).items() if k != "address"}})
        return
    app.out(f"{address}: {_summary(story, app.settings.bounces.quiet_days)}")
    for happening in story.happenings:
        app.out(f"  {happening.at:%Y-%m-%d %H:%M}  {happening.what:<12}  {happening.text}".rstrip())
        if app.verbose and happening.what == "status":
            for line in _evidence(happening):
                app.out(f"{'':34}{line}")


def _evidence(happening: Happening) -> list[str]:
    """Return where someone agreed from, with which form, and its wording."""
    facts = happening.facts
    form = f"form '{facts['form']}', version {facts['form_version']}" if facts["form"] else ""
    said = [f"| {line}" for line in (facts["wording"] or "").splitlines()]
    return [*filter(None, (facts["ip"] and f"from {facts['ip']}", form)), *said]


def _summary(story: history.Story, quiet_days: int) -> str:
    words = [story.status or "not subscribed"]
    if story.suppressed:
        words.append(f"suppressed ({story.suppressed})")
    if points := story.soft_points_at(datetime.now(UTC), quiet_days):
        words.append(f"{points:g} soft bounce points")
    if story.paused_until:
        words.append(f"paused until {story.paused_until:%Y-%m-%d}")
    return ", ".join(words)
