"""Webhook events about issues and deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.database.models import StoredIssue


def announce_issue(session: Session, issue_id: int, what: str, *, at: datetime) -> None:
    """Store the event that an issue was queued, paused, resumed, cancelled or finished."""
    # Imported on use: commands that only read announce nothing.
    from mailer.webhooks.queue import Occurrence, put

    row = session.execute(
        select(StoredIssue.slug, StoredIssue.title, StoredIssue.reason, StoredIssue.audience).where(
            StoredIssue.id == issue_id
        )
    ).one()
    data = {"issue": row.slug, "title": row.title, "reason": row.reason, "audience": row.audience}
    put(session, [Occurrence(f"issue.{what}", data)], at=at)


def announce_failures(
    session: Session, issue_id: int, classes: Mapping[int, str | None], *, at: datetime
) -> None:
    """Store the events that deliveries failed; `classes` are the bounce classes by subscriber."""
    if not classes:
        return
    from mailer.webhooks.queue import Occurrence, put

    slug = session.scalar(select(StoredIssue.slug).where(StoredIssue.id == issue_id))
    put(
        session,
        [
            Occurrence("delivery.bounced", {"issue": slug, "class": name}, subscriber_id)
            for subscriber_id, name in classes.items()
        ],
        at=at,
    )
