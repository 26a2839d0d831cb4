"""All statistics of a newsletter at a glance, as every face shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct
from sqlalchemy import Connection

from mailer.reports import statistics
from mailer.reports.best_hour import BestHour, best_hour
from mailer.reports.statistics import Cohort, GrowthDay, IssueFigures, ListHealth


class Overview(Struct, frozen=True):
    """The statistics of a period."""

    counted_at: datetime | None
    """The time of the counts; None if nothing was counted yet."""
    growth: tuple[GrowthDay, ...]
    cohorts: tuple[Cohort, ...]
    issues: tuple[IssueFigures, ...]
    """The newest first."""
    health: ListHealth
    best_hour: BestHour


def overview(
    connection: Connection, *, at: datetime, days: int = 365, zone: tzinfo | None = None
) -> Overview:
    """Return the statistics of the last `days` days; `zone` (by default the machine's) is that of hours."""
    since = at - timedelta(days=days - 1)
    until = at.astimezone(UTC).date()
    issues = statistics.issue_figures(connection, since=since)
    return Overview(
        counted_at=statistics.counted_at(connection),
        growth=statistics.growth(connection, since.astimezone(UTC).date(), until),
        cohorts=tuple(
            cohort
            for cohort in statistics.cohorts(connection, until)
            if cohort.month >= since.astimezone(UTC).date().isoformat()[:7]
        ),
        issues=issues,
        health=statistics.list_health(connection),
        best_hour=best_hour(issues, zone),
    )
