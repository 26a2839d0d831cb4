"""Delete personal data after its retention period; the books stay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Select, Table, Update, delete, or_, select, update

from mailer.audience.ledger import BLANK_EVIDENCE
from mailer.audience.transitions import OUT
from mailer.database import instances
from mailer.database.engine import Database
from mailer.database.tables import (
    Consent,
    Delivery,
    Event,
    StoredIssue,
    StoredReport,
    Subscriber,
)

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
    events = select(Event.c.id).where(Event.c.at < at - terms.events)
    reports = select(StoredReport.c.id).where(
        StoredReport.c.received_at < at - terms.reports, StoredReport.c.raw != b""
    )
    evidence = (
        select(Consent.c.id)
        .join(Subscriber, Subscriber.c.id == Consent.c.subscriber_id)
        .where(
            Subscriber.c.status.in_(_LEFT),
            Subscriber.c.changed_at < at - terms.evidence,
            or_(Consent.c.ip != "", Consent.c.form != "", Consent.c.note != ""),
        )
    )
    return Pruned(
        events=_in_batches(database, events, Event, None),
        reports=_in_batches(database, reports, StoredReport, update(StoredReport).values(raw=b"")),
        replies=_forget_replies(database, at - terms.replies),
        evidence=_in_batches(database, evidence, Consent, BLANK_EVIDENCE),
    )


def _in_batches(database: Database, due: Select[int], table: Table, change: Update | None) -> int:
    """Update or delete the rows whose ids `due` selects, in batches; return how many."""
    number = 0
    while True:
        with database.transaction() as connection:
            ids = list(connection.scalars(due.limit(_BATCH)))
            if ids:
                act = delete(table) if change is None else change
                connection.execute(act.where(table.c.id.in_(ids)))
        number += len(ids)
        if len(ids) < _BATCH:
            return number


def _forget_replies(database: Database, until: datetime) -> int:
    """Blank the replies of issues that finished before `until`; each issue is processed once."""
    with database.reading() as connection:
        noted = instances.value(connection, _PRUNED_UNTIL)
        after = datetime.fromisoformat(noted) if noted else None
        due = select(StoredIssue.c.id).where(StoredIssue.c.finished_at < until)
        issues = list(
            connection.scalars(due if after is None else due.where(StoredIssue.c.finished_at >= after))
        )
    number = 0
    for issue_id in issues:
        number += _forget_replies_of(database, issue_id)
    if issues:
        with database.transaction() as connection:
            instances.set_value(connection, _PRUNED_UNTIL, until.isoformat())
    return number


def _forget_replies_of(database: Database, issue_id: int) -> int:
    number, last = 0, 0
    while True:
        with database.transaction() as connection:
            ids = list(
                connection.scalars(
                    select(Delivery.c.subscriber_id)
                    .where(
                        Delivery.c.issue_id == issue_id,
                        Delivery.c.subscriber_id > last,
                        Delivery.c.reply.is_not(None),
                    )
                    .order_by(Delivery.c.subscriber_id)
                    .limit(_BATCH)
                )
            )
            connection.execute(
                update(Delivery)
                .where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id.in_(ids))
                .values(reply=None)
            )
        number += len(ids)
        if len(ids) < _BATCH:
            return number
        last = ids[-1]
