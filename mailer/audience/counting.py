"""Counting subscribers."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailer.database.models import Subscriber, SubscriberStatus


def status_counts(session: Session) -> dict[SubscriberStatus, int]:
    """Return the number of subscribers by status; the index of the statuses suffices."""
    rows = session.execute(select(Subscriber.status, func.count()).group_by(Subscriber.status))
    return {SubscriberStatus(status): number for status, number in rows}
