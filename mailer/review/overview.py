"""All issues in one list: drafts, scheduled, sending and sent."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, select

from mailer.config import Settings
from mailer.database.tables import IssueState, StoredIssue, TableRow
from mailer.delivery.books import running_books
from mailer.reports import statistics
from mailer.reports.statistics import IssueFigures
from mailer.review import directory
from mailer.review.directory import DRAFT, MISSED, SCHEDULED


class IssueLine(Struct, frozen=True):
    """An issue as a list shows it."""

    slug: str
    title: str
    state: str
    """An `IssueState`, `draft`, `scheduled` or `missed`."""
    at: datetime
    """When it was queued, is due, or was last saved."""
    segment: str = ""
    reason: str = ""
    audience: int = 0
    sent: int = 0
    failed: int = 0
    opened: int = 0
    """People who agreed to tracking, without machines."""
    clicked: int = 0
    unsubscribed: int = 0


def issue_lines(connection: Connection, settings: Settings, *, limit: int | None = None) -> list[IssueLine]:
    """Return the drafts, then the scheduled issues, then the queued ones, newest first.

    `limit` is for the queued ones.
    """
    queued = connection.execute(select(StoredIssue).order_by(StoredIssue.c.id.desc()).limit(limit)).all()
    counted = {one.issue_id: one for one in statistics.issue_figures(connection, limit=limit)}
    found = directory.entries(connection, settings)
    drafts = [one for one in found if one.state == DRAFT]
    scheduled = sorted((one for one in found if one.state in (SCHEDULED, MISSED)), key=lambda one: one.at)
    return [
        *(IssueLine(one.slug, one.title, one.state, one.at, one.segment) for one in (*drafts, *scheduled)),
        *(_queued(connection, stored, counted[stored.id]) for stored in queued),
    ]


def _queued(connection: Connection, stored: TableRow, counted: IssueFigures) -> IssueLine:
    sent, failed = counted.sent, counted.failed
    if stored.state != IssueState.FINISHED or not (sent or failed):
        # The statistics are refreshed from time to time; the books are current.
        books = running_books(connection, stored.id)
        sent, failed = books.sent, books.failed
    return IssueLine(
        stored.slug,
        stored.title,
        stored.state,
        stored.created_at,
        stored.segment,
        stored.reason,
        stored.audience,
        sent,
        failed,
        counted.openers,
        counted.clickers,
        counted.unsubscribed,
    )
