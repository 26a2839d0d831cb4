"""All issues in one list: drafts, scheduled, sending and sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from mailer.config import Settings
from mailer.database.models import Delivery, Event, IssueState, StoredIssue
from mailer.delivery import schedule
from mailer.delivery.books import books_of
from mailer.errors import SourceError
from mailer.rendering.source import read_issue

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
    """People, without machines."""
    clicked: int = 0


def issue_lines(session: Session, settings: Settings, *, limit: int | None = None) -> list[IssueLine]:
    """Return the drafts, then the scheduled issues, then the queued ones, newest first.

    `limit` is for the queued ones.
    """
    queued = session.scalars(select(StoredIssue).order_by(StoredIssue.id.desc()).limit(limit))
    lines = [_queued(session, stored) for stored in queued]
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


def _queued(session: Session, stored: StoredIssue) -> IssueLine:
    failed = session.scalar(
        # A literal, so that the database can use the partial index of failed deliveries.
        select(func.count()).where(
            Delivery.issue_id == stored.id, Delivery.state == literal_column("'failed'")
        )
    )
    unfinished = stored.state != IssueState.FINISHED
    sent = books_of(session, stored.id).sent if unfinished else stored.audience - (failed or 0)
    return IssueLine(
        stored.slug,
        stored.title,
        stored.state,
        stored.created_at,
        stored.segment,
        stored.reason,
        stored.audience,
        sent,
        failed or 0,
        people(session, stored.id, "open"),
        people(session, stored.id, "click"),
    )


def people(session: Session, issue_id: int, kind: str) -> int:
    """Count the people who opened an issue, or clicked a link in it, without machines."""
    found = select(func.count(Event.subscriber_id.distinct())).where(
        Event.issue_id == issue_id, Event.kind == kind, Event.details["machine"].as_string().is_(None)
    )
    return session.scalar(found) or 0
