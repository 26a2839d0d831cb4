"""The first page: the next issue, problems that need attention, and how the newsletter is doing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from markupsafe import Markup
from nicegui import ui
from sqlalchemy import Connection
from starlette.requests import Request

from mailer.audience.counting import status_counts
from mailer.config import Settings
from mailer.console import approval
from mailer.console.approval import Kind
from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import chart, figure, figures, issue_path, link, note, show, table, tag, when
from mailer.database.tables import IssueState, SubscriberStatus
from mailer.delivery import issues, schedule
from mailer.reports import alerts, bounces, statistics
from mailer.reports.statistics import GrowthDay
from mailer.review import overview, readiness
from mailer.review.overview import IssueLine


def add_pages(desk: Desk) -> None:
    """Add the home page."""

    async def build(visit: Visit, request: Request) -> None:
        settings = desk.settings
        await desk.count()
        lines = await desk.read(lambda connection: overview.issue_lines(connection, settings, limit=8))
        counts = await desk.read(status_counts)
        notes = await desk.read(lambda connection: list(_attention(connection, settings, lines)))
        heading("Home")
        _next(lines)
        if notes:
            with card("Needs attention"):
                for one in notes:
                    show(one)
        show(figures(_subscribers(counts)))
        today = datetime.now(UTC).date()
        days = await desk.read(
            lambda connection: statistics.growth(connection, today - timedelta(days=89), today)
        )
        with card("Subscribers over the last 90 days"):
            show(_growth(days))
        with card("Latest issues"):
            show(_latest(lines))

    add_page(desk, "/", "Home", build)


def _next(lines: list[IssueLine]) -> None:
    """Show the issue that is being sent, is scheduled, or is being written."""
    order = ("sending", "paused", "scheduled", "draft")
    ranked = [line for state in order for line in lines if line.state == state]
    with card("Next issue"):
        if not ranked:
            show(Markup('<p class="soft">Every issue in the folder has been sent.</p>'))
            ui.link("Write the next one", "/issues")
            return
        line = ranked[0]
        said = {"scheduled": f" for {when(line.at)}", "sending": f"{line.sent:,} of {line.audience:,} sent"}
        show(
            Markup('<p><b style="font-weight:600">{}</b></p><p>{} {}</p>').format(
                link(issue_path(line.slug), line.title), tag(line.state), said.get(line.state, "")
            )
        )


def _attention(connection: Connection, settings: Settings, lines: list[IssueLine]) -> Iterator[Markup]:
    for line in lines:
        if line.state == IssueState.PAUSED:
            yield note(link(issue_path(line.slug), f"{line.title} is paused"), "warn", line.reason)
    for wanted in approval.proposals(connection):
        if wanted.release.kind is not Kind.AMEND and issues.find(connection, wanted.slug) is not None:
            continue
        yield note(link(issue_path(wanted.slug), f"{wanted.slug} waits for approval"), "warn",
                   f"{wanted.who} asked for it at {when(wanted.at)}.")  # fmt: skip
    for missed in (one for one in schedule.scheduled(connection) if one.missed):
        yield note(link(issue_path(missed.slug), f"{missed.slug} missed its time"), "bad",
                   "No worker ran then. Open it to send it now or to schedule it again.")  # fmt: skip
    for problem in readiness.problems(settings):
        yield note(str(problem), "bad" if problem.stops else "warn",
                   problem.remedy or "")  # fmt: skip
    unmatched = bounces.bounce_rows(connection, outcome="unmatched", limit=1)
    if unmatched:
        yield note(link("/bounces?outcome=unmatched", "There are bounces that match no delivery"), "warn")
    for alert in alerts.issue_alerts(connection, limit=3):
        if (datetime.now(UTC) - alert.at).days < 14:
            yield note(f"{when(alert.at)}: {alert.text}", "warn")
    if not settings.relays:
        yield note("No relay is configured: messages go to the outbox on this machine, not to readers.", "",
                   "Add a relay to config.toml when you are ready.")  # fmt: skip


def _subscribers(counts: dict[SubscriberStatus, int]) -> Iterator[Markup]:
    names = {
        SubscriberStatus.ACTIVE: "active subscribers",
        SubscriberStatus.PENDING: "not confirmed yet",
        SubscriberStatus.UNSUBSCRIBED: "unsubscribed",
        SubscriberStatus.BOUNCED: "bounced",
    }
    for status, name in names.items():
        yield figure(f"{counts.get(status, 0):,}", name, f"/subscribers?status={status}")


def _growth(days: Sequence[GrowthDay]) -> Markup:
    """Return the active subscribers as a line, and the changes as a sentence."""
    begun = next((index for index, day in enumerate(days) if day.active or day.joined), len(days))
    shown = days[max(0, begun - 1) :]
    joined, left, bounced = (
        sum(getattr(day, name) for day in days) for name in ("joined", "left", "bounced")
    )
    said = Markup('<p class="soft">{} joined, {} left, {} bounced.</p>').format(
        f"{joined:,}", f"{left:,}", f"{bounced:,}"
    )
    dates = [day.day.isoformat() for day in shown]
    return said + chart("Active subscribers", dates, {"Active": [day.active for day in shown]})


def _latest(lines: list[IssueLine]) -> Markup:
    sent = [line for line in lines if line.state not in ("draft", "scheduled")]
    if not sent:
        return Markup('<p class="empty">No issue has been sent yet.</p>')
    return table(
        ("Issue", "@State", "@Date", "#Sent", "#Failed", "#Opened", "#Clicked", "#Unsubscribed"),
        [
            (
                link(issue_path(line.slug), line.title),
                tag(line.state),
                when(line.at)[:10],
                f"{line.sent:,}",
                f"{line.failed:,}",
                f"{line.opened:,}",
                f"{line.clicked:,}",
                f"{line.unsubscribed:,}",
            )
            for line in sent
        ],
        wide=(2, 4, 5, 7),
    )
