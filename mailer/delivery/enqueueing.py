"""Queueing an issue: its audience, and the edition it freezes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import IntegrityError

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.delivery import canary, issues
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition


def frozen(database: Database, slug: str) -> Edition | None:
    """Return the edition that was frozen when an issue was queued; None if it is not queued."""
    with database.reading() as connection:
        known = issues.find(connection, slug)
        return issues.edition(connection, known.edition_digest) if known is not None else None


def enqueue(
    settings: Settings,
    database: Database,
    edition: Edition,
    path: Path,
    segment: str,
    *,
    at: datetime,
    canary_share: float | None = None,
    also: Callable[[Connection, QueuedIssue], object] = lambda connection, issue: None,
) -> QueuedIssue:
    """Freeze an issue and queue it for its audience, in one transaction; a queued issue never changes.

    With `canary_share`, that share of the audience and the seeds in it are mailed before the others.
    `also` runs in the same transaction. Raises `RefusedError` for a canary of an issue with an A/B test.
    """
    if edition.arms and canary_share is not None:
        raise RefusedError(
            f"{edition.slug} has an A/B test, which goes to a part of the audience first already",
            remedy="leave out --canary",
        )

    def queued() -> QueuedIssue:
        with database.transaction() as connection:
            issue, new = issues.enqueue(
                connection,
                edition,
                source_path=str(path),
                at=at,
                segment=segment,
                condition=audience_condition(settings, segment),
            )
            if new and canary_share is not None:
                canary.begin(connection, issue.id, canary_share, settings.canary.seeds)
                issue = issues.get(connection, issue.id)
            also(connection, issue)
        return issue

    try:
        return queued()
    except IntegrityError:
        # On PostgreSQL another process may have queued it at the same moment: use what it froze.
        return queued()


def audience_condition(settings: Settings, segment: str) -> ColumnElement[bool] | None:
    """Return the condition of a segment; None selects everyone."""
    if not segment:
        return None
    # Load the parser only if a segment is given.
    from mailer.audience.segments import parse_segment

    return parse_segment(segment, settings.segments).condition
