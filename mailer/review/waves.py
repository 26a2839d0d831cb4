"""Who still gets an issue that is scheduled by local time, and when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from mailer.config import Settings
from mailer.delivery import enqueueing, local_time, schedule
from mailer.delivery.local_time import Wave


def waves_of(connection: Connection, settings: Settings, slug: str, *, at: datetime) -> list[Wave]:
    """Return who still gets an issue and when, if it is scheduled by local time."""
    planned = schedule.find(connection, slug)
    if planned is None or planned.wall is None:
        return []
    condition = enqueueing.audience_condition(settings, planned.segment)
    return local_time.waves(connection, planned, condition, at=at)
