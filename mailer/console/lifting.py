"""Corrections of what bounces have done: lifting suppressions, and judging stored reports again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from markupsafe import Markup
from nicegui import ui
from sqlalchemy import Connection

from mailer.audience.corrections import Restoration
from mailer.bounces.boxes.configured import rules_of
from mailer.bounces.reclassify import Change as Judged
from mailer.bounces.reclassify import reclassify
from mailer.bounces.record import Recorded
from mailer.bounces.undo import undo
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import button, card, field, say
from mailer.console.markup import facts, show, table
from mailer.console.users import Role
from mailer.errors import RefusedError
from mailer.printable import counted

_MOST: Final = 100


class Lifting:
    """The cards below the reports, for people who may lift suppressions."""

    def __init__(self, desk: Desk, visit: Visit) -> None:
        self._desk = desk
        self._visit = visit

    def build(self) -> None:
        """Add the cards."""
        with ui.element("div").classes("split"):
            with card("Lift suppressions"):
                show(
                    Markup('<p class="soft">For rejections that were your fault, not theirs. People who '
                           "unsubscribed or complained stay out.</p>")
                )  # fmt: skip
                self._what = field("Issue, run or bounce class")
                self._reason = field("Why it was a mistake", hint="Kept in the ledger.")
                self._found = ui.element("div").classes("stack")
                with ui.element("div").classes("actions"):
                    button("Show who would be restored", self._try)
            with card("Judge again"):
                show(Markup('<p class="soft">Judges every stored report with the rules of this version.</p>'))
                self._changes = ui.element("div").classes("stack")
                with ui.element("div").classes("actions"):
                    button("Show what would change", self._compare)

    async def _try(self) -> None:
        await self._desk.check(self._visit, Role.ADMIN)
        what = (self._what.value or "").strip()
        if not what:
            raise RefusedError("Enter an issue, a run or a bounce class")

        def work(connection: Connection) -> list[Restoration]:
            return undo(connection, what, reason="", at=datetime.now(UTC), dry_run=True)

        done = await self._desk.read(work)
        restored = sum(one.status is not None for one in done)
        stay = Counter(one.refusal for one in done if one.status is None)
        self._found.clear()
        with self._found:
            show(
                facts([("would be restored", f"{restored:,}"), *((why, f"{n:,}") for why, n in stay.items())])
            )
            if restored:

                async def lift() -> None:
                    await self._lift(what)

                button(f"Restore {restored:,}", lift, "main")

    async def _lift(self, what: str) -> None:
        reason = (self._reason.value or "").strip()
        if not reason:
            raise RefusedError("Write the reason first")

        def work(connection: Connection) -> int:
            done = undo(connection, what, reason=reason, at=datetime.now(UTC))
            return sum(one.status is not None for one in done)

        change = Change("suppressions.lift", what, {"reason": reason})
        number = await self._desk.change(self._visit, Role.ADMIN, change, work)
        say(f"{counted(number, 'subscriber')} restored")
        self._found.clear()

    async def _compare(self) -> None:
        await self._desk.check(self._visit, Role.ADMIN)
        found = await asyncio.to_thread(lambda: list(islice(self._judge(dry_run=True), _MOST + 1)))
        self._changes.clear()
        with self._changes:
            if not found:
                show(Markup('<p class="soft">Nothing would change.</p>'))
                return
            show(table(("Recipient", "Before", "Now"), map(_row, found[:_MOST])))
            if len(found) > _MOST:
                show(Markup('<p class="soft">The first {} are shown.</p>').format(_MOST))
            button("Judge all again", self._apply, "main")

    async def _apply(self) -> None:
        number = await self._desk.act(
            self._visit,
            Role.ADMIN,
            Change("bounces.reclassify"),
            lambda: sum(1 for _ in self._judge(dry_run=False)),
        )
        say(f"{counted(number, 'report')} judged differently now")
        ui.navigate.reload()

    def _judge(self, *, dry_run: bool) -> Iterator[Judged]:
        return reclassify(
            self._desk.database,
            self._desk.signer,
            at=datetime.now(UTC),
            rules=rules_of(self._desk.settings),
            dry_run=dry_run,
        )


def _row(one: Judged) -> tuple[str, str, str]:
    check = "; was suppressed, please check" if one.no_longer_hard else ""
    return one.before.recipient, _said(one.before), f"{_said(one.after)}{check}"


def _said(one: Recorded) -> str:
    words = (one.kind, one.bounce_class or "", "hard" if one.hard else "", one.outcome.value)
    return " ".join(word for word in words if word)
