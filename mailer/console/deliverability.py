"""Deliverability: whether email from here will arrive, and what receivers say about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, button, card, heading
from mailer.console.markup import sentence, show, table
from mailer.console.users import Role
from mailer.delivery.relays import WarmingUp, warming_up
from mailer.printable import counted
from mailer.reports.authentication import AuthenticationSummary, authentication_summary

if TYPE_CHECKING:
    from mailer.doctor import Finding, Names

_DAYS: Final = 30
_MOST: Final = 20
_ACRONYMS: Final = frozenset({"spf", "dkim", "dmarc", "mx", "mta-sts", "tls-rpt", "bimi", "ptr", "ttl"})
"""The checks whose names are written in capitals."""


def add_pages(desk: Desk) -> None:
    """Add the page. It checks when it is asked to, because that sends requests to other servers."""

    async def build(visit: Visit, request: Request) -> None:
        async def check() -> None:
            await desk.check(visit, Role.EDITOR)
            place.clear()
            with place:
                show(Markup('<p class="soft" role="status">Checking DNS, relays and pages …</p>'))
            found = await asyncio.to_thread(examined, desk)
            place.clear()
            with place:
                show(findings_of(found))

        at = datetime.now(UTC)
        since = at - timedelta(days=_DAYS)
        summary = await desk.read(lambda connection: authentication_summary(connection, since=since))
        warming = list(warming_up(desk.settings, at.date()))
        with heading("Deliverability"):
            if visit.visitor.role.may(Role.EDITOR):
                button("Check now", check, "main")
        place = ui.element("div").classes("stack")
        with place, card():
            show(
                Markup('<p class="soft">Checks SPF, DKIM, DMARC, the relays and their certificates, the '
                       "pages and this machine, as <code>mailer doctor</code> does. It sends no email.</p>")
            )  # fmt: skip
        if warming:
            with card("Warm-up"):
                show(warm_up(warming))
        with card(f"What receivers reported in the last {_DAYS} days"):
            show(reports(summary))

    add_page(desk, "/deliverability", "Deliverability", build)


def examined(desk: Desk, names: Names | None = None) -> list[Finding]:
    """Return the doctor's findings, by default with this system's name servers. It blocks up to a minute."""
    # Imported on use: it needs much memory.
    from mailer.doctor import Names, examine

    at = datetime.now(UTC)
    return list(examine(desk.settings, desk.database, names or Names(""), with_blocklists=False, at=at))


def findings_of(found: Sequence[Finding]) -> Markup:
    """Return the findings as cards, the problems first."""
    from mailer.doctor import Level

    cards = Markup("")
    for level, word in ((Level.PROBLEM, "problem"), (Level.WARNING, "warning"), (Level.OK, "ok")):
        these = [one for one in found if one.level is level]
        if these:
            title = f"{len(these)} ok" if word == "ok" else counted(len(these), word)
            lines = Markup("").join(map(_finding, these))
            cards += Markup(
                '<section class="card"><h2>{}</h2><ul class="doctor {}">{}</ul></section>'
            ).format(title, word, lines)
    return Markup('<div class="stack">{}</div>').format(cards)


def _finding(one: Finding) -> Markup:
    name = one.check.upper() if one.check in _ACRONYMS else one.check.capitalize()
    lines = Markup("<p>{}</p>").format(sentence(one.message))
    if one.remedy:
        lines += Markup('<p class="soft">{}</p>').format(sentence(one.remedy))
    if one.record:
        lines += Markup('<pre class="diff" tabindex="0">{}</pre>').format(one.record)
    return Markup('<li><p><b>{}</b> <span class="soft">{}</span></p><div>{}</div></li>').format(
        name, one.subject, lines
    )


def warm_up(relays: Sequence[WarmingUp]) -> Markup:
    """Return the daily limits of the relays that are warming up."""
    rows = [
        (one.name, f"{one.today:,}", "no limit" if one.tomorrow is None else f"{one.tomorrow:,}")
        for one in relays
    ]
    return table(("Relay", "#Messages today", "#Tomorrow"), rows)


def reports(found: AuthenticationSummary) -> Markup:
    """Return a summary of the DMARC and TLS reports, as `mailer dmarc` prints it."""
    if found.first_at is None or found.last_at is None:
        return Markup(
            '<p class="empty">No DMARC or TLS reports yet. To get some, name the bounce mailbox in '
            "<code>rua=</code> of your DMARC record.</p>"
        )
    first, last = f"{found.first_at:%Y-%m-%d}", f"{found.last_at:%Y-%m-%d}"
    period = first if first == last else f"{first} to {last}"
    more = ", …" if len(found.reporters) > 5 else ""
    parts = Markup('<p class="soft">{} about {}, from {}{}.</p>').format(
        counted(found.reports, "report"), period, ", ".join(found.reporters[:5]), more
    )
    if found.sources:
        parts += table(
            ("Source", "From", "#Messages", "#Failed", "#DKIM", "#SPF", "#Quarantined", "#Rejected"),
            [
                (
                    one.address,
                    one.author,
                    *(f"{number:,}" for number in (one.messages, one.messages - one.passed, one.dkim,
                                                   one.spf, one.quarantined, one.rejected)),
                )
                for one in found.sources[:_MOST]
            ],
            wide=(1, 4, 5, 6, 7),
        )  # fmt: skip
        parts += Markup(
            '<p class="soft small">A source with failures is yours and lacks SPF or DKIM, or somebody '
            "else sends in your name. Anyone can forge a report, so nothing happens by itself.</p>"
        )
    if found.tls:
        rows = [(one.host, one.result, f"{one.sessions:,}") for one in found.tls[:_MOST]]
        parts += table(("*Host", "@TLS", "#Sessions"), rows)
    return Markup('<div class="stack">{}</div>').format(parts)
