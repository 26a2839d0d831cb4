"""Deliverability: whether email from here will arrive, as `mailer doctor` finds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, button, card, heading
from mailer.console.markup import show, tag
from mailer.console.users import Role
from mailer.doctor import Finding, Level, Names, examine

_WORDS = {Level.PROBLEM: "problem", Level.WARNING: "warning", Level.OK: "ok"}


def add_pages(desk: Desk) -> None:
    """Add the page. It checks when it is asked to, because that sends requests to other servers."""

    async def build(visit: Visit, request: Request) -> None:
        async def check() -> None:
            await desk.check(visit, Role.EDITOR)
            place.clear()
            with place:
                show(Markup('<p class="soft" role="status">Checking DNS, relays and pages …</p>'))
            found = await asyncio.to_thread(_examined, desk)
            place.clear()
            with place:
                _list(found)

        with heading("Deliverability"):
            if visit.visitor.role.may(Role.EDITOR):
                button("Check now", check, "main")
        place = ui.element("div").classes("stack")
        with place, card():
            show(
                Markup('<p class="soft">Checks SPF, DKIM, DMARC, the relays and their certificates, the '
                       "pages and this machine, as <code>mailer doctor</code> does. It sends no email.</p>")
            )  # fmt: skip

    add_page(desk, "/deliverability", "Deliverability", build)


def _examined(desk: Desk) -> list[Finding]:
    return list(examine(desk.settings, desk.database, Names(""), with_blocklists=False, at=datetime.now(UTC)))


def _list(found: list[Finding]) -> None:
    """Show the problems first."""
    for level, word in _WORDS.items():
        these = [one for one in found if one.level is level]
        if not these:
            continue
        with card(f"{len(these)} {word}{'s' if len(these) != 1 and word != 'ok' else ''}"):
            for one in these:
                show(_finding(one, word))


def _finding(one: Finding, word: str) -> Markup:
    record = Markup('<pre class="diff" tabindex="0">{}</pre>').format(one.record) if one.record else ""
    remedy = Markup('<p class="soft">{}</p>').format(one.remedy) if one.remedy else ""
    return Markup('<p>{} <b style="font-weight:600">{}</b>: {}</p>{}{}').format(
        tag(word), one.subject, one.message, remedy, record
    )
