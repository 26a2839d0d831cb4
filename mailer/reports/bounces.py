"""Stored reports, and bounces in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, and_, func, literal_column, select

from mailer.database.tables import Delivery, StoredIssue, StoredReport, Subscriber, Suppression, TableRow
from mailer.replies.mailbox_hosts import provider_of
from mailer.reports.alerts import Happening, issue_alerts

_FAILED: Final = and_(
    # A literal, so that the database can use the partial index of failed deliveries.
    Delivery.c.state == literal_column("'failed'"), Delivery.c.bounce_class.is_not(None)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BounceRow:
    """A stored report as the listing shows it."""

    id: int
    received_at: datetime
    source: str
    kind: str
    outcome: str
    recipient: str
    bounce_class: str
    hard: bool
    issue_id: int | None
    subscriber_id: int | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BounceCount:
    """The number of failed deliveries of one class, for an issue or a provider."""

    name: str
    bounce_class: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class IssueCount:
    """The bounces and complaints of one issue. `audience` is 0 if it is unknown."""

    issue: str
    audience: int
    failed: int
    complaints: int


@dataclass(frozen=True, slots=True)
class BounceSummary:
    """The bounces in numbers."""

    issues: tuple[IssueCount, ...]
    by_issue: tuple[BounceCount, ...]
    by_provider: tuple[BounceCount, ...]
    """By provider, or by domain if the provider is unknown."""
    by_outcome: Mapping[str, int]
    by_kind: Mapping[str, int]
    suppressions: Mapping[str, int]
    alerts: tuple[Happening, ...]
    """The newest first."""


def bounce_rows(
    connection: Connection,
    *,
    outcome: str = "",
    kind: str = "",
    limit: int = 50,
    before_id: int | None = None,
) -> list[BounceRow]:
    """Return stored reports, newest first."""
    query = select(*_COLUMNS).order_by(StoredReport.c.id.desc()).limit(limit)
    if outcome:
        query = query.where(StoredReport.c.outcome == outcome)
    if kind:
        query = query.where(StoredReport.c.kind == kind)
    if before_id is not None:
        query = query.where(StoredReport.c.id < before_id)
    return [_row(stored) for stored in connection.execute(query)]


def bounce_row(connection: Connection, report_id: int) -> tuple[BounceRow, bytes] | None:
    """Return one stored report and its raw message, or None."""
    stored = connection.execute(
        select(*_COLUMNS, StoredReport.c.raw).where(StoredReport.c.id == report_id)
    ).one_or_none()
    return None if stored is None else (_row(stored), stored.raw)


def bounce_report(
    connection: Connection, *, providers: Mapping[str, str] = MappingProxyType({}), alerts: int = 10
) -> BounceSummary:
    """Return the bounces in numbers: by issue, class and provider, and what became of the reports.

    `providers` maps domains to configured providers. Only failed deliveries are read, through their
    partial index.
    """
    every = select(StoredIssue.c.id, StoredIssue.c.slug, StoredIssue.c.audience).order_by(StoredIssue.c.id)
    issues = {row.id: row for row in connection.execute(every)}
    by_issue = connection.execute(
        select(Delivery.c.issue_id, Delivery.c.bounce_class, func.count())
        .where(_FAILED)
        .group_by(Delivery.c.issue_id, Delivery.c.bounce_class)
        .order_by(Delivery.c.issue_id, func.count().desc())
    ).all()
    by_domain = connection.execute(
        select(Subscriber.c.domain, Delivery.c.bounce_class, func.count())
        .join(Delivery, Delivery.c.subscriber_id == Subscriber.c.id)
        .where(_FAILED)
        .group_by(Subscriber.c.domain, Delivery.c.bounce_class)
    )
    at_provider: Counter[tuple[str, str]] = Counter()
    for domain, name, count in by_domain:
        at_provider[provider_of(domain, providers), name or ""] += count
    complained = connection.execute(
        select(StoredReport.c.issue_id, func.count())
        .where(StoredReport.c.kind == "complaint", StoredReport.c.issue_id.is_not(None))
        .group_by(StoredReport.c.issue_id)
    )
    complaints = {row[0]: row[1] for row in complained}
    failed: Counter[int] = Counter()
    for issue_id, _, count in by_issue:
        failed[issue_id] += count
    return BounceSummary(
        issues=tuple(
            IssueCount(row.slug, row.audience, failed[row.id], complaints.get(row.id, 0))
            for row in issues.values()
        ),
        by_issue=tuple(BounceCount(issues[id_].slug, name or "", count) for id_, name, count in by_issue),
        by_provider=tuple(BounceCount(*key, count) for key, count in at_provider.most_common()),
        by_outcome=_counted(connection, StoredReport.c.outcome),
        by_kind=_counted(connection, StoredReport.c.kind),
        suppressions=_counted(connection, Suppression.c.reason),
        alerts=issue_alerts(connection, limit=alerts),
    )


def _counted(connection: Connection, column: Any) -> dict[str, int]:
    rows = connection.execute(select(column, func.count()).group_by(column).order_by(column))
    return {row[0]: row[1] for row in rows}


_COLUMNS: Final = tuple(column for column in StoredReport.c if column is not StoredReport.c.raw)
"""All but the messages, which are large."""


def _row(stored: TableRow) -> BounceRow:
    return BounceRow(
        stored.id,
        stored.received_at,
        stored.source,
        stored.kind,
        stored.outcome,
        stored.recipient,
        stored.bounce_class or "",
        stored.hard,
        stored.issue_id,
        stored.subscriber_id,
        stored.details,
    )
