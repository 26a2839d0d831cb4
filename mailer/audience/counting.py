"""Counting subscribers."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from mailer.database.tables import Subscriber, SubscriberStatus


def status_counts(connection: Connection) -> dict[SubscriberStatus, int]:
    """Return the number of subscribers by status; the index of the statuses suffices."""
    rows = connection.execute(select(Subscriber.c.status, func.count()).group_by(Subscriber.c.status))
    return {SubscriberStatus(status): number for status, number in rows}
