"""`mailer why`: why an address was, or was not, mailed."""

from __future__ import annotations

from dataclasses import asdict

import click

from mailer import reports
from mailer.address import parse_address
from mailer.audience import suppression
from mailer.cli.app import App, Command, json_option, pass_app
from mailer.errors import MailerError


@click.command(cls=Command)
@click.argument("address")
@json_option
@pass_app
def why(app: App, address: str, as_json: bool) -> None:
    """Show the history of ADDRESS: consents, deliveries, replies, bounces and suppressions.

    With --verbose, also show the wording of the forms that the person agreed to, and where they did.
    """
    key = parse_address(address).key
    erased = suppression.erased_key(key, app.database.secrets()[0])
    with app.database.reading() as session:
        story = reports.story(session, key) or reports.story(session, erased)
    if story is None:
        raise MailerError(f"{address} has no history", remedy="see: mailer subscribers list")
    if as_json:
        app.emit({"address": address, **{k: v for k, v in asdict(story).items() if k != "address"}})
        return
    app.out(f"{address}: {_standing(story)}")
    for happening in story.happenings:
        app.out(f"  {happening.at:%Y-%m-%d %H:%M}  {happening.what:<12}  {happening.text}".rstrip())
        if app.verbose and happening.what == "status":
            for line in _evidence(happening):
                app.out(f"{'':34}{line}")


def _evidence(happening: reports.Happening) -> list[str]:
    """Return where someone agreed from, with which form, and its wording."""
    facts = happening.facts
    form = f"form '{facts['form']}', version {facts['form_version']}" if facts["form"] else ""
    said = [f"| {line}" for line in (facts["wording"] or "").splitlines()]
    return [*filter(None, (facts["ip"] and f"from {facts['ip']}", form)), *said]


def _standing(story: reports.Story) -> str:
    words = [story.status or "not subscribed"]
    if story.suppressed:
        words.append(f"suppressed ({story.suppressed})")
    if story.soft_points:
        words.append(f"{story.soft_points:g} soft bounce points")
    if story.paused_until:
        words.append(f"paused until {story.paused_until:%Y-%m-%d}")
    return ", ".join(words)
