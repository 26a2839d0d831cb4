"""All issues in one list: drafts, scheduled, sending and sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.config import Settings
from mailer.database.models import IssueState, StoredIssue
from mailer.delivery import schedule
from mailer.delivery.books import books_of
from mailer.errors import SourceError
from mailer.rendering.source import read_issue
from mailer.reports import statistics
from mailer.reports.statistics import IssueFigures

DRAFT: Final = "draft"
SCHEDULED: Final = "scheduled"
MISSED: Final = "missed"


@dataclass(frozen=True, slots=True)
class IssueLine:
    """An issue as a list shows it."""

    slug: str
    title: str
    state: str
    """An `IssueState`, `draft`, `scheduled` or `missed`."""
    at: datetime | None
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


def issue_lines(session: Session, settings: Settings, *, limit: int | None = None) -> list[IssueLine]:
    """Return the drafts, then the scheduled issues, then the queued ones, newest first.

    `limit` is for the queued ones.
    """
    queued = session.scalars(select(StoredIssue).order_by(StoredIssue.id.desc()).limit(limit)).all()
    counted = {one.issue_id: one for one in statistics.issue_figures(session, limit=limit)}
    lines = [_queued(session, stored, counted[stored.id]) for stored in queued]
    known = {*session.scalars(select(StoredIssue.slug))}
    waiting = [one for one in schedule.scheduled(session) if one.slug not in known]
    known |= {one.slug for one in waiting}
    sources = settings.path(settings.paths.issues)
    return [
        *_drafts(sources, known),
        *(
            IssueLine(
                one.slug,
                _title(sources / f"{one.slug}.md"),
                MISSED if one.missed else SCHEDULED,
                one.due_at,
                one.segment,
            )
            for one in waiting
        ),
        *lines,
    ]


def _drafts(folder: Path, known: set[str]) -> Iterator[IssueLine]:
    for path in sorted(folder.glob("*.md"), reverse=True):
        if path.stem not in known:
            saved = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            yield IssueLine(path.stem, _title(path), DRAFT, saved)


def _title(path: Path) -> str:
    """Return the title in a file, or the file's name if it cannot be read."""
    try:
        return read_issue(path).title
    except SourceError:
        return path.stem


def _queued(session: Session, stored: StoredIssue, counted: IssueFigures) -> IssueLine:
    sent, failed = counted.sent, counted.failed
    if stored.state != IssueState.FINISHED or not (sent or failed):
        # The statistics are counted now and then; the books are right now.
        books = books_of(session, stored.id)
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
