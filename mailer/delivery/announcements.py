"""Webhook events about issues and deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from mailer.database.tables import StoredIssue


def announce_issue(connection: Connection, issue_id: int, what: str, *, at: datetime) -> None:
    """Store the event that an issue was queued, paused, resumed, cancelled or finished."""
    # Imported on use: commands that only read announce nothing.
    from mailer.webhooks.queue import Occurrence, put

    row = connection.execute(
        select(StoredIssue.c.slug, StoredIssue.c.title, StoredIssue.c.reason, StoredIssue.c.audience).where(
            StoredIssue.c.id == issue_id
        )
    ).one()
    data = {"issue": row.slug, "title": row.title, "reason": row.reason, "audience": row.audience}
    put(connection, [Occurrence(f"issue.{what}", data)], at=at)


def announce_failures(
    connection: Connection, issue_id: int, classes: Mapping[int, str | None], *, at: datetime
) -> None:
    """Store the events that deliveries failed; `classes` are the bounce classes by subscriber."""
    if not classes:
        return
    from mailer.webhooks.queue import Occurrence, put

    slug = connection.scalar(select(StoredIssue.c.slug).where(StoredIssue.c.id == issue_id))
    put(
        connection,
        [
            Occurrence("delivery.bounced", {"issue": slug, "class": name}, subscriber_id)
            for subscriber_id, name in classes.items()
        ],
        at=at,
    )
