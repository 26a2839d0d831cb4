"""The buttons by which a queued issue is paused, resumed, cancelled, retried, withdrawn or corrected."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Final

from markupsafe import Markup
from nicegui import ui

from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import button, confirmed, say
from mailer.console.markup import issue_path
from mailer.console.users import Role
from mailer.database.tables import DeliveryState, IssueState
from mailer.delivery import canary, control
from mailer.delivery.books import Books
from mailer.delivery.difference import NAMES
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import exclusive
from mailer.printable import counted

_RETRIED: Final = (DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN)


class Controls:
    """The buttons beside the title; the ones that make sense now, for people who may send."""

    def __init__(self, desk: Desk, visit: Visit) -> None:
        self._desk = desk
        self._visit = visit
        self._place = ui.element("div").classes("actions")
        self._drawn: object = None
        self._open = 0

    def draw(self, issue: QueuedIssue, books: Books, undecided: int = 0) -> None:
        """Draw the buttons for the issue as it is now; `undecided` arms of its A/B test can be chosen.

        They stay as they are, with the focus of the keyboard, if they would be the same.
        """
        if not self._visit.visitor.role.may(Role.SENDER):
            return
        self._open = books.open
        begun = bool(books.sent + books.sending + books.uncertain)
        wanted = (issue.state, begun, undecided, [bool(getattr(books, state)) for state in _RETRIED])
        if wanted == self._drawn:
            return
        self._drawn = wanted
        self._place.clear()
        with self._place:
            if issue.state == IssueState.SENDING:
                button("Pause", partial(self._pause, issue))
            if issue.state == IssueState.PAUSED:
                button("Resume", partial(self._resume, issue), "main")
                if begun:
                    ui.link("Correct the rest", f"{issue_path(issue.slug)}/correct")
            if issue.state in (IssueState.SENDING, IssueState.PAUSED):
                if not begun:
                    button("Withdraw", partial(self._withdraw, issue))
                button("Cancel the rest", partial(self._cancel, issue), "danger")
            for name in NAMES[:undecided]:
                button(f"Choose {name}", partial(self._choose, issue, name))
            for state in _RETRIED:
                if getattr(books, state):
                    button(f"Retry {state}", partial(self._retry, issue, state))

    async def _pause(self, issue: QueuedIssue) -> None:
        await self._desk.change(
            self._visit,
            Role.SENDER,
            Change("issue.pause", issue.slug),
            lambda connection: control.pause(
                connection, issue.id, f"paused by {self._visit.visitor.name} in the console"
            ),
        )
        say("Paused. Messages that are being sent are finished first.")

    async def _resume(self, issue: QueuedIssue) -> None:
        await self._desk.change(
            self._visit,
            Role.SENDER,
            Change("issue.resume", issue.slug),
            lambda connection: canary.resume(connection, issue.id),
        )
        say("Resumed")

    async def _cancel(self, issue: QueuedIssue) -> None:
        content = Markup("<p>{} deliveries will not be sent. This cannot be undone.</p>").format(
            f"{self._open:,}"
        )
        if await confirmed("Cancel the rest of this issue?", content, "Cancel the rest", danger=True):
            await self._desk.change(
                self._visit,
                Role.SENDER,
                Change("issue.cancel", issue.slug),
                lambda connection: control.cancel(connection, issue.id, at=datetime.now(UTC)),
            )

    async def _choose(self, issue: QueuedIssue, arm: str) -> None:
        content = Markup("<p>Everyone else gets arm {}.</p>").format(arm)
        if await confirmed(f"Choose {arm}?", content, f"Choose {arm}"):
            await self._desk.change(
                self._visit,
                Role.SENDER,
                Change("issue.choose", issue.slug, {"arm": arm}),
                lambda connection: canary.choose(connection, issue.id, arm, at=datetime.now(UTC)),
            )
            ui.navigate.to(issue_path(issue.slug))

    async def _withdraw(self, issue: QueuedIssue) -> None:
        content = Markup("<p>Nothing was sent yet. The issue becomes a draft again.</p>")
        if not await confirmed("Withdraw this issue?", content, "Withdraw"):
            return

        def work() -> None:
            with exclusive(self._desk.database) as connection:
                control.withdraw(connection, issue.id)

        await self._desk.act(self._visit, Role.SENDER, Change("issue.withdraw", issue.slug), work)
        ui.navigate.to(issue_path(issue.slug))

    async def _retry(self, issue: QueuedIssue, state: DeliveryState) -> None:
        number = await self._desk.change(
            self._visit,
            Role.SENDER,
            Change("issue.retry", issue.slug, {"state": state.value}),
            lambda connection: control.retry(connection, issue.id, state, at=datetime.now(UTC)),
        )
        say(f"queued again: {counted(number, 'delivery', 'deliveries')}")
        ui.navigate.to(issue_path(issue.slug))
