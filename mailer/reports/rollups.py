"""Keep the counts for statistics up to date.

`refresh` counts only what changed since the last time: new events are added; the ledger and the deliveries
of an issue are counted again if they changed. With `rebuild`, everything is counted from the beginning. A
refresh reads one snapshot and then writes in a short transaction, so it delays nobody. If two processes
refresh at the same time, the second one stores nothing.

An issue's counts outlive the events that retention deletes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct, field
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, select, text

from mailer.database import instances
from mailer.database.engine import Database
from mailer.database.rows import insert_rows
from mailer.database.tables import (
    CohortCount,
    Consent,
    Event,
    Import,
    Instance,
    IssueCount,
    IssueState,
    LedgerDay,
    StoredIssue,
    StoredReport,
)
from mailer.reports import counting
from mailer.reports.counting import Key

REFRESH_SECONDS: Final = 300
"""How often the processes that keep running refresh the counts."""
_NAME: Final = "statistics"
_SETTLED: Final = timedelta(minutes=1)
"""Events are counted a minute later, because another transaction may still commit one with a lower id."""
_OPEN: Final = ("queued", "sending", "deferred", "uncertain")
_LAST_REPORT: Final = (
    select(StoredReport.c.id)
    .where(StoredReport.c.received_at <= bindparam("until"))
    .order_by(StoredReport.c.id.desc())
    .limit(1)
)
_ADD: Final = text(
    "INSERT INTO issue_counts (issue_id, facet, name, measure, number) "
    "VALUES (:issue_id, :facet, :name, :measure, :number) "
    "ON CONFLICT (issue_id, facet, name, measure) "
    "DO UPDATE SET number = issue_counts.number + excluded.number"
)


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """How far the counts go."""

    counted_at: datetime | None = None
    day: str = ""
    """The day of the last full count."""
    event_id: int = 0
    report_id: int = 0
    ledger: str = ""
    """Changes whenever the ledger does."""


class _Changes(Struct):
    """The rows that a refresh writes."""

    days: list[dict[str, object]] | None = None
    cohorts: Counter[tuple[str, str]] | None = None
    forget: list[int] = field(default_factory=list)
    """Issues whose counts are all replaced."""
    replace: list[tuple[str, int | None]] = field(default_factory=list)
    """Facets, each of one issue or of all (None)."""
    rows: Counter[Key] = field(default_factory=Counter)
    added: Counter[Key] = field(default_factory=Counter)


def marks(connection: Connection) -> Marks:
    """Return how far the counts go."""
    stored = instances.value(connection, _NAME)
    return Marks() if stored is None else msgspec.json.decode(stored, type=Marks)


def refresh(
    database: Database,
    *,
    at: datetime,
    segments: Mapping[str, str],
    quiet_days: int,
    rebuild: bool = False,
    kept_since: datetime | None = None,
) -> bool:
    """Count what changed since the last refresh; return whether the counts were stored.

    `segments` are the saved segments. Soft bounces count for `quiet_days` after the last one. With `rebuild`,
    everything is counted again, except the issues queued before `kept_since`, whose events may have been
    deleted.
    """
    soft_since = at - timedelta(days=quiet_days)
    conditions = {}
    if segments:
        # Imported on use: loading the parser takes longer than counting a quiet day.
        from mailer.audience.segments import parse_segment

        conditions = {name: parse_segment(text_, segments).condition for name, text_ in segments.items()}
    with database.reading() as connection:
        before = marks(connection)
        changes, after = _count(
            connection, before, conditions, at, soft_since=soft_since, rebuild=rebuild, kept_since=kept_since
        )
    with database.transaction() as connection:
        connection.execute(select(Instance.c.name).where(Instance.c.name == _NAME).with_for_update())
        if marks(connection) != before:
            return False
        _store(connection, changes)
        instances.set_value(connection, _NAME, msgspec.json.encode(after).decode())
    return True


def _count(
    connection: Connection,
    before: Marks,
    conditions: Mapping[str, ColumnElement[bool]],
    at: datetime,
    *,
    soft_since: datetime,
    rebuild: bool,
    kept_since: datetime | None,
) -> tuple[_Changes, Marks]:
    changes = _Changes()
    day = at.date().isoformat()
    ledger = _ledger_state(connection)
    if rebuild or day != before.day or ledger != before.ledger:
        changes.days = counting.ledger_days(connection)
        changes.replace.append(("left", None))
        changes.rows += counting.departures(connection)
    if rebuild or day != before.day:
        changes.cohorts = counting.cohorts(connection)
        changes.replace += [("suppressed", 0), ("active", 0)]
        changes.rows += counting.whole_list(connection, soft_since=soft_since)
    every = list(connection.scalars(select(StoredIssue.c.id).order_by(StoredIssue.c.id)))
    recounted = every if kept_since is None else _queued_since(connection, kept_since)
    if rebuild:
        changes.forget = recounted
    upto = _last_event(connection, at)
    domains = _known_domains(connection, () if not rebuild else recounted)
    for issue_id in recounted if rebuild else every:
        if issue_id not in domains:
            found = counting.recipients(connection, issue_id, conditions)
            domains[issue_id] = {key.name for key in found if key.facet == "domain"}
            changes.added += found
    for issue_id in recounted if rebuild else _sending_changed(connection, before):
        changes.replace += [(facet, issue_id) for facet in counting.SENDING]
        changes.rows += counting.sending(connection, issue_id, domains[issue_id])
    changes.added += counting.responses(
        connection,
        set(recounted if rebuild else every),
        after=0 if rebuild else before.event_id,
        upto=upto,
        domains=domains,
        segments=conditions,
    )
    reports = connection.scalar(_LAST_REPORT, {"until": at - _SETTLED})
    after = Marks(
        counted_at=at,
        day=day,
        event_id=max(upto, before.event_id),
        report_id=max(reports or 0, before.report_id),
        ledger=ledger,
    )
    return changes, after


def _ledger_state(connection: Connection) -> str:
    last = connection.scalar(select(func.max(Consent.c.id)))
    reverted = connection.scalar(select(func.max(Import.c.reverted_at)))
    return f"{last or 0} {reverted.isoformat() if reverted else ''}"


def _queued_since(connection: Connection, since: datetime) -> list[int]:
    return list(
        connection.scalars(
            select(StoredIssue.c.id).where(StoredIssue.c.created_at >= since).order_by(StoredIssue.c.id)
        )
    )


def _last_event(connection: Connection, at: datetime) -> int:
    settled = select(Event.c.id).where(Event.c.at <= at - _SETTLED).order_by(Event.c.id.desc()).limit(1)
    return connection.scalar(settled) or 0


def _known_domains(connection: Connection, except_: Collection[int]) -> dict[int, set[str]]:
    """Return the names of the domains that are counted, by issue."""
    rows = connection.execute(
        select(IssueCount.c.issue_id, IssueCount.c.name).where(
            IssueCount.c.facet == "domain", IssueCount.c.measure == "recipients"
        )
    )
    found: dict[int, set[str]] = {}
    for issue_id, name in rows:
        if issue_id not in except_:
            found.setdefault(issue_id, set()).add(name)
    return found


def _sending_changed(connection: Connection, before: Marks) -> list[int]:
    """Return the issues whose deliveries may have changed since the last count."""
    open_ = select(IssueCount.c.issue_id).where(
        IssueCount.c.facet == "books", IssueCount.c.measure.in_(_OPEN), IssueCount.c.number > 0
    )
    counted = select(IssueCount.c.issue_id).where(IssueCount.c.facet == "books")
    reported = select(StoredReport.c.issue_id).where(StoredReport.c.id > before.report_id)
    under_way = StoredIssue.c.state.in_([IssueState.SENDING.value, IssueState.PAUSED.value])
    return list(
        connection.scalars(
            select(StoredIssue.c.id)
            .where(
                under_way
                | StoredIssue.c.id.in_(open_)
                | StoredIssue.c.id.not_in(counted)
                | StoredIssue.c.id.in_(reported)
            )
            .order_by(StoredIssue.c.id)
        )
    )


def _store(connection: Connection, changes: _Changes) -> None:
    if changes.days is not None:
        connection.execute(delete(LedgerDay))
        insert_rows(connection, LedgerDay, changes.days)
    if changes.cohorts is not None:
        connection.execute(delete(CohortCount))
        rows = [
            {"joined_month": joined, "left_month": left, "people": people}
            for (joined, left), people in changes.cohorts.items()
        ]
        insert_rows(connection, CohortCount, rows)
    for issue_id in changes.forget:
        connection.execute(delete(IssueCount).where(IssueCount.c.issue_id == issue_id))
    for facet, issue in changes.replace:
        theirs = IssueCount.c.facet == facet
        connection.execute(
            delete(IssueCount).where(theirs if issue is None else theirs & (IssueCount.c.issue_id == issue))
        )
    _add(connection, changes.rows.items())
    _add(connection, changes.added.items())


def _add(connection: Connection, counts: Iterable[tuple[Key, int]]) -> None:
    rows: list[dict[str, Any]] = [key._asdict() | {"number": number} for key, number in counts]
    if rows:
        connection.execute(_ADD, rows)
