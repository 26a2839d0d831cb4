"""Choosing an audience: a segment with help, and a count while it is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from markupsafe import Markup
from nicegui import ui

from mailer.console.desk import Desk
from mailer.console.markup import show
from mailer.delivery import enqueueing, issues
from mailer.delivery.clock import now
from mailer.errors import MailerError
from mailer.printable import counted

EXAMPLES: Final = (
    'tag:vip   ·   country = "RO"   ·   domain:gmail.com   ·   joined > 2026-01-01   ·   not tag:vip'
)


class SegmentField:
    """A field for a segment. Empty means everyone."""

    def __init__(self, desk: Desk, *, value: str = "", changed: Callable[[], None] = lambda: None) -> None:
        self._desk = desk
        self._changed = changed
        self._counted: str | None = None
        saved = [f"@{name}" for name in desk.settings.segments]
        self.input = ui.input(
            "Audience (empty for everyone)", value=value, autocomplete=saved, on_change=lambda: changed()
        ).props("outlined dense spellcheck=false autocapitalize=off")
        self.said = show(Markup("")).props('role="status"')
        show(Markup('<p class="soft small">{}</p>').format(EXAMPLES))
        ui.timer(0.4, self._count)

    @property
    def segment(self) -> str:
        """The segment as written."""
        return (self.input.value or "").strip()

    async def _count(self) -> None:
        """Count the audience again if the segment has changed."""
        segment = self.segment
        if segment == self._counted:
            return
        self._counted = segment
        try:
            condition = enqueueing.audience_condition(self._desk.settings, segment)
            number = await self._desk.read(
                lambda connection: issues.count_audience(connection, condition, at=now())
            )
        except MailerError as error:
            self.said.content = Markup('<p style="color:var(--bad)">{}</p>').format(str(error))
            return
        self.said.content = Markup("<p>{} would get it.</p>").format(counted(number, "subscriber"))
