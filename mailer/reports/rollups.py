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
from sqlalchemy import ColumnElement, bindparam, delete, func, select, text
from sqlalchemy.orm import Session

from mailer.database.models import (
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
from mailer.database.rows import insert_rows
from mailer.database.session import Database
from mailer.reports import counting
from mailer.reports.counting import Key

REFRESH_SECONDS: Final = 300
"""How often the processes that keep running refresh the counts."""
_NAME: Final = "statistics"
_SETTLED: Final = timedelta(minutes=1)
"""Events are counted a minute later, because another transaction may still commit one with a lower id."""
_OPEN: Final = ("queued", "sending", "deferred", "uncertain")
_LAST_REPORT: Final = (
    select(StoredReport.id)
    .where(StoredReport.received_at <= bindparam("until"))
    .order_by(StoredReport.id.desc())
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


def marks(session: Session) -> Marks:
    """Return how far the counts go."""
    stored = session.scalar(select(Instance.value).where(Instance.name == _NAME))
    return Marks() if stored is None else msgspec.json.decode(stored, type=Marks)


def refresh(
    database: Database,
    *,
    at: datetime,
    segments: Mapping[str, str],
    rebuild: bool = False,
    kept_since: datetime | None = None,
) -> bool:
    """Count what changed since the last refresh; return whether the counts were stored.

    `segments` are the saved segments. With `rebuild`, everything is counted again, except the issues queued
    before `kept_since`, whose events may have been deleted.
    """
    conditions = {}
    if segments:
        # Imported on use: loading the parser takes longer than counting a quiet day.
        from mailer.audience.segments import parse_segment

        conditions = {name: parse_segment(text_, segments).condition for name, text_ in segments.items()}
    with database.reading() as session:
        before = marks(session)
        changes, after = _count(session, before, conditions, at, rebuild=rebuild, kept_since=kept_since)
    with database.transaction() as session:
        session.execute(select(Instance.name).where(Instance.name == _NAME).with_for_update())
        if marks(session) != before:
            return False
        _store(session, changes)
        session.merge(Instance(name=_NAME, value=msgspec.json.encode(after).decode()))
    return True


def _count(
    session: Session,
    before: Marks,
    conditions: Mapping[str, ColumnElement[bool]],
    at: datetime,
    *,
    rebuild: bool,
    kept_since: datetime | None,
) -> tuple[_Changes, Marks]:
    changes = _Changes()
    day = at.date().isoformat()
    ledger = _ledger_state(session)
    if rebuild or day != before.day or ledger != before.ledger:
        changes.days = counting.ledger_days(session)
        changes.replace.append(("left", None))
        changes.rows += counting.departures(session)
    if rebuild or day != before.day:
        changes.cohorts = counting.cohorts(session)
        changes.replace += [("suppressed", 0), ("active", 0)]
        changes.rows += counting.whole_list(session)
    every = list(session.scalars(select(StoredIssue.id).order_by(StoredIssue.id)))
    recounted = every if kept_since is None else _queued_since(session, kept_since)
    if rebuild:
        changes.forget = recounted
    upto = _last_event(session, at)
    domains = _known_domains(session, () if not rebuild else recounted)
    for issue_id in recounted if rebuild else every:
        if issue_id not in domains:
            found = counting.recipients(session, issue_id, conditions)
            domains[issue_id] = {key.name for key in found if key.facet == "domain"}
            changes.added += found
    for issue_id in recounted if rebuild else _sending_changed(session, before):
        changes.replace += [(facet, issue_id) for facet in counting.SENDING]
        changes.rows += counting.sending(session, issue_id, domains[issue_id])
    changes.added += counting.responses(
        session,
        set(recounted if rebuild else every),
        after=0 if rebuild else before.event_id,
        upto=upto,
        domains=domains,
        segments=conditions,
    )
    reports = session.scalar(_LAST_REPORT, {"until": at - _SETTLED})
    after = Marks(
        counted_at=at,
        day=day,
        event_id=max(upto, before.event_id),
        report_id=max(reports or 0, before.report_id),
        ledger=ledger,
    )
    return changes, after


def _ledger_state(session: Session) -> str:
    last = session.scalar(select(func.max(Consent.id)))
    reverted = session.scalar(select(func.max(Import.reverted_at)))
    return f"{last or 0} {reverted.isoformat() if reverted else ''}"


def _queued_since(session: Session, since: datetime) -> list[int]:
    return list(
        session.scalars(
            select(StoredIssue.id).where(StoredIssue.created_at >= since).order_by(StoredIssue.id)
        )
    )


def _last_event(session: Session, at: datetime) -> int:
    settled = select(Event.id).where(Event.at <= at - _SETTLED).order_by(Event.id.desc()).limit(1)
    return session.scalar(settled) or 0


def _known_domains(session: Session, except_: Collection[int]) -> dict[int, set[str]]:
    """Return the names of the domains that are counted, by issue."""
    rows = session.execute(
        select(IssueCount.issue_id, IssueCount.name).where(
            IssueCount.facet == "domain", IssueCount.measure == "recipients"
        )
    )
    found: dict[int, set[str]] = {}
    for issue_id, name in rows:
        if issue_id not in except_:
            found.setdefault(issue_id, set()).add(name)
    return found


def _sending_changed(session: Session, before: Marks) -> list[int]:
    """Return the issues whose deliveries may have changed since the last count."""
    open_ = select(IssueCount.issue_id).where(
        IssueCount.facet == "books", IssueCount.measure.in_(_OPEN), IssueCount.number > 0
    )
    counted = select(IssueCount.issue_id).where(IssueCount.facet == "books")
    reported = select(StoredReport.issue_id).where(StoredReport.id > before.report_id)
    under_way = StoredIssue.state.in_([IssueState.SENDING.value, IssueState.PAUSED.value])
    return list(
        session.scalars(
            select(StoredIssue.id)
            .where(
                under_way
                | StoredIssue.id.in_(open_)
                | StoredIssue.id.not_in(counted)
                | StoredIssue.id.in_(reported)
            )
            .order_by(StoredIssue.id)
        )
    )


def _store(session: Session, changes: _Changes) -> None:
    if changes.days is not None:
        session.execute(delete(LedgerDay))
        insert_rows(session, LedgerDay, changes.days)
    if changes.cohorts is not None:
        session.execute(delete(CohortCount))
        rows = [
            {"joined_month": joined, "left_month": left, "people": people}
            for (joined, left), people in changes.cohorts.items()
        ]
        insert_rows(session, CohortCount, rows)
    for issue_id in changes.forget:
        session.execute(delete(IssueCount).where(IssueCount.issue_id == issue_id))
    for facet, issue in changes.replace:
        theirs = IssueCount.facet == facet
        session.execute(
            delete(IssueCount).where(theirs if issue is None else theirs & (IssueCount.issue_id == issue))
        )
    _add(session, changes.rows.items())
    _add(session, changes.added.items())


def _add(session: Session, counts: Iterable[tuple[Key, int]]) -> None:
    rows: list[dict[str, Any]] = [key._asdict() | {"number": number} for key, number in counts]
    if rows:
        session.execute(_ADD, rows)
