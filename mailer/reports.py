"""What has happened, told from the tables: the way of one address, and the bounces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from mailer.database.models import (
    Consent,
    Delivery,
    Event,
    StoredIssue,
    StoredReport,
    Subscriber,
    Suppression,
)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to an address: `what` is a word, `text` a line for people."""

    at: datetime
    what: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Story:
    """An address: whether it would be mailed, why not, and all that happened to it."""

    address: str
    status: str
    """Of the subscriber; empty when there is none."""
    suppressed: str
    """The reason; empty when it is not."""
    soft_points: float
    paused_until: datetime | None
    happenings: tuple[Happening, ...]


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
    """How many deliveries of an issue failed for one class."""

    issue: str
    bounce_class: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class BounceReport:
    """The bounces in numbers."""

    by_issue: tuple[BounceCount, ...]
    by_outcome: Mapping[str, int]
    by_kind: Mapping[str, int]
    by_domain: Sequence[tuple[str, int]]
    """Recipients' domains with the most failed deliveries."""
    suppressions: Mapping[str, int]


def story(session: Session, address_key: str) -> Story | None:
    """Return everything known of an address in order of time, or None if nothing is."""
    subscriber = session.scalar(select(Subscriber).where(Subscriber.address_key == address_key))
    suppression = session.get(Suppression, address_key)
    about: ColumnElement[bool] = func.lower(StoredReport.recipient) == address_key
    happenings: list[Happening] = []
    if subscriber is not None:
        about = StoredReport.subscriber_id == subscriber.id
        happenings += _consents(session, subscriber.id)
        happenings += _deliveries(session, subscriber.id)
        happenings += _events(session, subscriber.id)
    happenings += (_report(row) for row in session.scalars(select(StoredReport).where(about)))
    if suppression is not None:
        happenings.append(
            Happening(
                suppression.at,
                "suppressed",
                _line(suppression.reason, suppression.note),
                {"reason": suppression.reason, "report": suppression.report_id},
            )
        )
    if subscriber is None and not happenings:
        return None
    return Story(
        address=subscriber.address if subscriber else address_key,
        status=subscriber.status if subscriber else "",
        suppressed=suppression.reason if suppression else "",
        soft_points=subscriber.soft_points if subscriber else 0.0,
        paused_until=subscriber.paused_until if subscriber else None,
        happenings=tuple(sorted(happenings, key=lambda happening: happening.at)),
    )


def bounce_rows(
    session: Session, *, outcome: str = "", kind: str = "", limit: int = 50, before_id: int | None = None
) -> list[BounceRow]:
    """Return stored reports, the newest first."""
    query = select(StoredReport).order_by(StoredReport.id.desc()).limit(limit)
    if outcome:
        query = query.where(StoredReport.outcome == outcome)
    if kind:
        query = query.where(StoredReport.kind == kind)
    if before_id is not None:
        query = query.where(StoredReport.id < before_id)
    return [_row(stored) for stored in session.scalars(query)]


def bounce_row(session: Session, report_id: int) -> tuple[BounceRow, bytes] | None:
    """Return one stored report with its octets, or None."""
    stored = session.get(StoredReport, report_id)
    return None if stored is None else (_row(stored), stored.raw)


def bounce_report(session: Session, *, domains: int = 10) -> BounceReport:
    """Return the bounces in numbers: by issue and class, by domain, and what became of the reports."""
    by_issue = session.execute(
        select(StoredIssue.slug, Delivery.bounce_class, func.count())
        .join(StoredIssue, StoredIssue.id == Delivery.issue_id)
        .where(Delivery.bounce_class.is_not(None), Delivery.state == "failed")
        .group_by(StoredIssue.id, StoredIssue.slug, Delivery.bounce_class)
        .order_by(StoredIssue.id, func.count().desc())
    )
    by_domain = session.execute(
        select(Subscriber.domain, func.count())
        .join(Delivery, Delivery.subscriber_id == Subscriber.id)
        .where(Delivery.bounce_class.is_not(None), Delivery.state == "failed")
        .group_by(Subscriber.domain)
        .order_by(func.count().desc(), Subscriber.domain)
        .limit(domains)
    )
    return BounceReport(
        by_issue=tuple(BounceCount(slug, name or "", count) for slug, name, count in by_issue),
        by_outcome=_counted(session, StoredReport.outcome),
        by_kind=_counted(session, StoredReport.kind),
        by_domain=[(domain, count) for domain, count in by_domain],
        suppressions=_counted(session, Suppression.reason),
    )


def _counted(session: Session, column: Any) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).group_by(column).order_by(column))
    return {row[0]: row[1] for row in rows}


def _row(stored: StoredReport) -> BounceRow:
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


def _consents(session: Session, subscriber_id: int) -> Iterator[Happening]:
    for line in session.scalars(select(Consent).where(Consent.subscriber_id == subscriber_id)):
        facts = {"before": line.before, "after": line.after, "way": line.way, "ip": line.ip,
                 "form": line.form, "form_version": line.form_version, "note": line.note}  # fmt: skip
        change = f"{line.before} → {line.after}" if line.before else line.after
        yield Happening(line.at, "status", _line(f"{change} by {line.way}", line.note), facts)


def _deliveries(session: Session, subscriber_id: int) -> Iterator[Happening]:
    rows = session.execute(
        select(Delivery, StoredIssue.slug, StoredIssue.created_at)
        .join(StoredIssue, StoredIssue.id == Delivery.issue_id)
        .where(Delivery.subscriber_id == subscriber_id)
    )
    for delivery, slug, created_at in rows:
        said = " ".join(str(part) for part in (delivery.code, delivery.enhanced, delivery.reply) if part)
        facts = {"issue": slug, "state": delivery.state, "attempts": delivery.attempts,
                 "code": delivery.code, "enhanced": delivery.enhanced, "reply": delivery.reply,
                 "class": delivery.bounce_class}  # fmt: skip
        at = delivery.changed_at or delivery.first_at or created_at
        yield Happening(at, "delivery", _line(f"{slug}: {delivery.state}", said), facts)


def _events(session: Session, subscriber_id: int) -> Iterator[Happening]:
    for event in session.scalars(select(Event).where(Event.subscriber_id == subscriber_id)):
        said = ", ".join(f"{name} {value}" for name, value in sorted(event.details.items()))
        yield Happening(event.at, event.kind, said, {"issue_id": event.issue_id, **event.details})


def _report(stored: StoredReport) -> Happening:
    facts = {"report": stored.id, "source": stored.source, "kind": stored.kind, "outcome": stored.outcome,
             "class": stored.bounce_class, "hard": stored.hard, **stored.details}  # fmt: skip
    judged = f"{stored.kind} {stored.bounce_class or ''}".strip()
    text = _line(f"{judged}, {stored.outcome} (report {stored.id})", str(stored.details.get("text", "")))
    return Happening(stored.received_at, "report", text, facts)


def _line(first: str, rest: str) -> str:
    return f"{first}: {rest}" if rest else first
