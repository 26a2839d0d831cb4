"""Delete personal data after its retention period; the books stay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, Update, delete, or_, select, update
from sqlalchemy.orm import Session

from mailer.audience.ledger import BLANK_EVIDENCE
from mailer.audience.transitions import OUT
from mailer.database.models import (
    Consent,
    Delivery,
    Event,
    Instance,
    StoredIssue,
    StoredReport,
    Subscriber,
)
from mailer.database.session import Database

# Small enough that an unsubscribe request never waits long for the transaction.
_BATCH: Final = 5_000
_PRUNED_UNTIL: Final = "replies_pruned_until"
_LEFT: Final = tuple(sorted(status.value for status in OUT))


@dataclass(frozen=True, slots=True)
class Terms:
    """How long each kind of record is kept."""

    events: timedelta
    reports: timedelta
    """The raw octets of a report; its classification stays."""
    replies: timedelta
    """The text of SMTP replies, counted from the end of the issue; states and codes stay."""
    evidence: timedelta
    """IP address, form and note in the ledger, counted from when the person unsubscribed; the lines stay."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many records of each kind were deleted or blanked."""

    events: int
    reports: int
    replies: int
    evidence: int


def prune(database: Database, terms: Terms, *, at: datetime) -> Pruned:
    """Delete or blank all data whose retention period is over. Running it again changes nothing."""
    events = select(Event.id).where(Event.at < at - terms.events)
    reports = select(StoredReport.id).where(
        StoredReport.received_at < at - terms.reports, StoredReport.raw != b""
    )
    evidence = (
        select(Consent.id)
        .join(Subscriber, Subscriber.id == Consent.subscriber_id)
        .where(
            Subscriber.status.in_(_LEFT),
            Subscriber.changed_at < at - terms.evidence,
            or_(Consent.ip != "", Consent.form != "", Consent.note != ""),
        )
    )
    return Pruned(
        events=_in_batches(database, events, Event, None),
        reports=_in_batches(database, reports, StoredReport, update(StoredReport).values(raw=b"")),
        replies=_forget_replies(database, at - terms.replies),
        evidence=_in_batches(database, evidence, Consent, BLANK_EVIDENCE),
    )


def _in_batches(database: Database, due: Select[int], table: Any, change: Update | None) -> int:
    """Update or delete the rows whose ids `due` selects, in batches; return how many."""
    number = 0
    while True:
        with database.transaction() as session:
            ids = list(session.scalars(due.limit(_BATCH)))
            if ids:
                act = delete(table) if change is None else change
                session.execute(act.where(table.id.in_(ids)).execution_options(synchronize_session=False))
        number += len(ids)
        if len(ids) < _BATCH:
            return number


def _forget_replies(database: Database, until: datetime) -> int:
    """Blank the replies of issues that finished before `until`; each issue is processed once."""
    with database.reading() as session:
        noted = session.get(Instance, _PRUNED_UNTIL)
        after = datetime.fromisoformat(noted.value) if noted else None
        due = select(StoredIssue.id).where(StoredIssue.finished_at < until)
        issues = list(session.scalars(due if after is None else due.where(StoredIssue.finished_at >= after)))
    number = 0
    for issue_id in issues:
        number += _forget_replies_of(database, issue_id)
    if issues:
        with database.transaction() as session:
            _note(session, until)
    return number


def _forget_replies_of(database: Database, issue_id: int) -> int:
    number, last = 0, 0
    while True:
        with database.transaction() as session:
            ids = list(
                session.scalars(
                    select(Delivery.subscriber_id)
                    .where(
                        Delivery.issue_id == issue_id,
                        Delivery.subscriber_id > last,
                        Delivery.reply.is_not(None),
                    )
                    .order_by(Delivery.subscriber_id)
                    .limit(_BATCH)
                )
            )
            session.execute(
                update(Delivery)
                .where(Delivery.issue_id == issue_id, Delivery.subscriber_id.in_(ids))
                .values(reply=None)
                .execution_options(synchronize_session=False)
            )
        number += len(ids)
        if len(ids) < _BATCH:
            return number
        last = ids[-1]


def _note(session: Session, until: datetime) -> None:
    session.merge(Instance(name=_PRUNED_UNTIL, value=until.isoformat()))
