"""An issue that was queued: its books while it is sent, and what became of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup
from nicegui import ui

from mailer.console import approval
from mailer.console.approval import Kind
from mailer.console.by_provider import provider_table
from mailer.console.controls import Controls
from mailer.console.correcting import show_correction
from mailer.console.desk import Desk, Visit
from mailer.console.frame import heading
from mailer.console.markup import (
    facts,
    figure,
    figures,
    issue_path,
    link,
    note,
    show,
    table,
    tag,
    when,
)
from mailer.console.pace import Pace
from mailer.console.provider_counts import ProviderCount
from mailer.console.results import show_results
from mailer.console.users import Role
from mailer.database.tables import CanaryState, DeliveryState, IssueState
from mailer.delivery import issues
from mailer.delivery.arms import Arm, Test
from mailer.delivery.books import Books, newest_books
from mailer.delivery.difference import NAMES
from mailer.delivery.issues import QueuedIssue
from mailer.errors import MailerError
from mailer.reports.progress import ProviderBooks
from mailer.review.status import IssueStatus, status_of

_LIVE_SECONDS: Final = 0.5
_SLOWEST_SECONDS: Final = 2.0
"""How long the books may wait on a busy machine, where a look takes long but costs no more."""
_REST: Final = 50
"""How much of the time the page does not spend looking: a sender loses little more than one part of it."""
_DETAILS_SECONDS: Final = 5.0
"""How long the page shows everything but the books before it looks again; longer if a look takes long."""
_RATE_OVER: Final = 20


class Watching:
    """The page of a queued issue."""

    def __init__(self, desk: Desk, visit: Visit, issue: QueuedIssue) -> None:
        self._desk = desk
        self._visit = visit
        self._issue = issue
        self._pace = Pace(_LIVE_SECONDS, _REST)
        self._details_pace = Pace(_DETAILS_SECONDS, _REST)
        self._provider_count: ProviderCount | None = None
        self._seen: deque[tuple[datetime, int]] = deque(maxlen=_RATE_OVER)
        self._books: Books | None = None
        self._undecided = 0

    async def build(self) -> None:
        """Fill the page."""
        with self._details_pace.looking():
            count = not self._running
            status = await self._desk.read(lambda connection: status_of(connection, self._issue, count=count))
        self._books = status.books
        with heading(self._issue.title, above=("/issues", "Issues")):
            self._state = show(tag(self._issue.state))
            self._controls = Controls(self._desk, self._visit)
        self._live = show(Markup("")).props('aria-live="off"').style("width:100%")
        self._providers = show(Markup("")).style("width:100%")
        self._providers.set_visibility(False)
        self._details = show(Markup("")).style("width:100%")
        self._draw(status.books)
        self._draw_details(status)
        self._undecided = len(status.arms) if status.test and status.test.winner is None else 0
        self._controls.draw(self._issue, status.books, self._undecided)
        proposal = await self._desk.read(lambda connection: approval.find(connection, self._issue.slug))
        if proposal is not None and proposal.release.kind is Kind.AMEND:
            show_correction(self._desk, self._visit, proposal)
        if self._running:
            self._timer = ui.timer(_LIVE_SECONDS, self.look)
            # A timer of its own: a look at a million deliveries takes longer than the books may wait.
            self._rest_timer = ui.timer(_DETAILS_SECONDS, self.look_at_rest)
        await show_results(self._desk, self._issue)

    @property
    def _running(self) -> bool:
        return self._issue.state in (IssueState.SENDING, IssueState.PAUSED)

    async def look(self) -> None:
        """Look at the books."""
        before = self._issue
        try:
            with self._pace.looking():
                state, books = await asyncio.to_thread(newest_books, self._desk.database, before.id)
                if state not in (None, before.state):
                    self._issue = await self._desk.read(lambda connection: issues.get(connection, before.id))
            self._timer.interval = min(self._pace.seconds, _SLOWEST_SECONDS)
        except MailerError as error:
            self._end(error)
            return
        if state is None or not self._running:
            self._end()
            ui.navigate.reload()
            return
        if self._issue.state != before.state:
            self._state.content = tag(self._issue.state)
        self._controls.draw(self._issue, books, self._undecided)
        if books != self._books or self._seen:
            self._draw(books)
        self._books = books

    def _end(self, error: MailerError | None = None) -> None:
        """Look no more; show the error, if there is one."""
        self._timer.deactivate()
        self._rest_timer.deactivate()
        if error is not None:
            self._live.content = note(error.message, "bad", error.remedy or "")

    async def look_at_rest(self) -> None:
        """Look at everything but the books, and whether the person may still look."""
        try:
            await self._desk.check(self._visit, Role.READER)
            if self._details_pace.due:
                await self._look_at_details()
            await self._look_at_providers()
        except MailerError as error:
            self._end(error)

    async def _look_at_details(self) -> None:
        """Draw what waits, alerts and editions."""
        with self._details_pace.looking():
            status = await self._desk.read(
                lambda connection: status_of(connection, issues.get(connection, self._issue.id), count=False)
            )
        if status.issue.state == self._issue.state:
            # The next look at the books tells of another state.
            self._issue = status.issue
        self._draw_details(status)

    async def _look_at_providers(self) -> None:
        """Draw the deliveries by provider."""
        count = await self._desk.provider_counts.newest(self._issue.id)
        if self._running and count is not self._provider_count and len(count.providers) > 1:
            self._provider_count = count
            said = Markup('<p class="soft small">Counted at {:%H:%M:%S}, next at about {:%H:%M:%S}.</p>')
            content = _by_provider(self._issue.slug, count.providers)
            content += said.format(count.at, count.next_at)
            self._providers.content = _section("By provider", content)
            self._providers.set_visibility(True)

    def _draw(self, books: Books) -> None:
        deliveries = f"{issue_path(self._issue.slug)}/deliveries"
        total = books.audience or 1
        shares = {name: 100 * getattr(books, name) / total for name in ("sent", "failed", "deferred")}
        bar = Markup("").join(
            Markup('<i class="{}" style="width:{:.2f}%"></i>').format(name, share)
            for name, share in shares.items()
        )
        numbers = [figure(f"{books.audience:,}", "recipients", f"{deliveries}?state=all")]
        for state in DeliveryState:
            number = getattr(books, state)
            if number or state in (DeliveryState.SENT, DeliveryState.FAILED):
                numbers.append(figure(f"{number:,}", state, f"{deliveries}?state={state}"))
        label = f"{books.sent:,} of {books.audience:,} sent"
        self._live.content = Markup(
            '<div class="stack">{}<div class="bar" role="img" aria-label="{}">{}</div>{}</div>'
        ).format(figures(numbers), label, bar, self._rate(books))

    def _rate(self, books: Books) -> Markup:
        """Return the rate and the time that is left, from the last ten seconds."""
        if self._issue.state == IssueState.PAUSED:
            return note(f"Paused: {self._issue.reason or 'by the operator'}", "warn")
        if self._issue.state != IssueState.SENDING:
            return Markup("")
        if self._issue.canary is CanaryState.WAITING:
            until = f" until {when(self._issue.canary_until)}" if self._issue.canary_until else ""
            return Markup(
                '<p class="soft">The first part was sent. The rest waits for its results{}.</p>'
            ).format(until)
        now = datetime.now(UTC)
        self._seen.append((now, books.sent + books.failed))
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        seconds = (last_at - first_at).total_seconds()
        rate = (last - first) / seconds if seconds else 0.0
        left = books.queued + books.sending
        if not left:
            said = "Waiting for the next attempt." if books.open else "Finishing."
        elif rate:
            eta = timedelta(seconds=round(left / rate))
            said = f"{rate:,.0f} a second, {eta} left."
        else:
            said = "Waiting for a worker to send it."
        return Markup('<p class="soft">{}</p>').format(said)

    def _draw_details(self, status: IssueStatus) -> None:
        parts: list[Markup] = []
        if status.waiting:
            base = f"{issue_path(status.issue.slug)}/deliveries?state="
            rows = [
                (
                    link(f"{base}{one.state}", f"{one.number:,}"),
                    tag(one.state),
                    one.reason[:300],
                    str(one.attempts),
                    when(one.next_at),
                )
                for one in status.waiting
            ]
            heads = ("#Deliveries", "State", "Reason", "#Attempts", "Next")
            parts.append(_section("Waiting for another attempt", table(heads, rows, wide=(3, 4))))
        for alert in status.alerts:
            parts.append(note(f"{when(alert.at)}: {alert.text}", "warn"))
        issue = status.issue
        pairs = [
            ("Audience", issue.segment or "everyone"),
            ("Queued", when(issue.created_at)),
            ("Finished", when(issue.finished_at)),
        ]
        if len(status.editions) > 1:
            pairs += [
                (f"Edition {one.number}", f"{one.sent:,} sent, since {when(one.since)}")
                for one in status.editions
            ]
        if status.test is not None:
            parts.append(_section("A/B test", _test(status.test, status.arms)))
        if issue.canary is not None:
            name = "Canary" if status.test is None else "A/B test"
            pairs.append((name, f"{issue.canary}: {status.canary}" if status.canary else issue.canary))
        parts.append(_section("About this issue", facts(pairs)))
        self._details.content = Markup('<div class="stack" style="gap:22px">{}</div>').format(
            Markup("").join(parts)
        )


def _section(title: str, content: Markup) -> Markup:
    return Markup('<section class="card"><h2 style="margin-bottom:12px">{}</h2>{}</section>').format(
        title, content
    )


def _by_provider(slug: str, found: Sequence[ProviderBooks]) -> Markup:
    shown = (DeliveryState.SENT, DeliveryState.DEFERRED, DeliveryState.FAILED)
    base = f"{issue_path(slug)}/deliveries?state="
    columns = {"Recipients": f"{base}all", **{state.capitalize(): f"{base}{state}" for state in shown}}
    rows = [(one.name, [one.recipients, *(one.states.get(state, 0) for state in shown)]) for one in found]
    return provider_table(columns, rows, wide=(1, 3))


def _test(test: Test, arms: Sequence[Arm]) -> Markup:
    did = "Clicked" if test.kind == "click" else "Opened"
    rows = [
        (
            f"{arm.name}{' (won)' if NAMES.index(arm.name) == test.winner else ''}",
            arm.subject,
            f"{arm.sent:,} of {arm.members:,}",
            f"{arm.count.readers:,}",
            f"{arm.count.clicked:,}",
        )
        for arm in arms
    ]
    said = Markup('<p class="soft">{}</p>').format(test.said or "Not decided yet.")
    return table(("Arm", "Subject", "#Sent", "#Tracked", f"#{did}"), rows, wide=(3,)) + said
