"""A report about the time before a person's own return changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest
from sqlalchemy import select

from mailer.audience.ledger import change_status
from mailer.audience.transitions import Origin
from mailer.bounces.batch import record
from mailer.bounces.providers.webhooks import events_of
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules, record_events
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus, Suppression
from tests.bounces.reports import SIGNER, dsn, subscribe, token

DAY = timedelta(days=1)
EVENTS = {
    "bounce": {"event": "bounce", "reason": "550 5.1.1 User unknown"},
    "full": {"event": "bounce", "reason": "552 5.2.2 Mailbox is full"},
    "complaint": {"event": "spamreport"},
    "opt-out": {"event": "unsubscribe"},
}


def return_by(database: Database, subscriber_id: int, way: str, at: datetime) -> None:
    """Unsubscribe someone, and let them come back a minute later."""
    with database.transaction() as connection:
        left = Origin("one-click")
        assert change_status(connection, subscriber_id, SubscriberStatus.UNSUBSCRIBED, origin=left, at=at)
        back = Origin(way)
        later = at + timedelta(minutes=1)
        assert change_status(connection, subscriber_id, SubscriberStatus.ACTIVE, origin=back, at=later)


def state(database: Database, subscriber_id: int) -> tuple[str, float, int]:
    with database.reading() as connection:
        person = connection.execute(
            select(Subscriber.c.status, Subscriber.c.soft_points).where(Subscriber.c.id == subscriber_id)
        ).one()
        suppressed = connection.scalars(select(Suppression.c.address_key)).all()
        return person.status, person.soft_points, len(suppressed)


def happened(database: Database, event: str, happened_at: datetime, reported_at: datetime) -> Recorded:
    payload = {**EVENTS[event], "email": "ana@example.com", "timestamp": int(happened_at.timestamp())}
    events = events_of("sendgrid", payload)
    (done,) = record_events(database, SIGNER, events, at=reported_at, rules=Rules())
    return done


@pytest.mark.parametrize("event", EVENTS)
def test_late_webhook_about_the_time_before_a_return_changes_nothing(
    database: Database, at: datetime, event: str
) -> None:
    ana = subscribe(database, at)
    return_by(database, ana, "form", at + 2 * DAY)
    done = happened(database, event, at + DAY, at + 3 * DAY)
    assert (done.outcome, done.effect) == (ReportOutcome.IGNORED, Effect.NOTHING)
    assert state(database, ana) == ("active", 0.0, 0)


@pytest.mark.parametrize("event", EVENTS)
def test_webhook_about_the_time_after_a_return_counts(database: Database, at: datetime, event: str) -> None:
    ana = subscribe(database, at)
    return_by(database, ana, "form", at + 2 * DAY)
    assert happened(database, event, at + 3 * DAY, at + 4 * DAY).outcome is ReportOutcome.APPLIED
    assert state(database, ana) != ("active", 0.0, 0)


def test_consent_that_somebody_else_recorded_outdates_nothing(database: Database, at: datetime) -> None:
    # `subscribe` adds people by the operator's command, after the event.
    ana = subscribe(database, at)
    assert happened(database, "complaint", at - DAY, at + DAY).effect is Effect.COMPLAINED
    assert state(database, ana)[0] == "complained"


@pytest.mark.parametrize(
    ("dated", "expected"),
    [
        (DAY, "active"),  # The message bounced before the return.
        (3 * DAY, "bounced"),  # It bounced after it.
        (-99 * DAY, "active"),  # A wrong clock: a message cannot bounce before it was sent.
        (None, "bounced"),  # No date: when the report came counts.
    ],
)
def test_late_bounce_mail_counts_by_its_date(
    database: Database, at: datetime, dated: timedelta | None, expected: str
) -> None:
    ana = subscribe(database, at)
    return_by(database, ana, "form", at + 2 * DAY)
    date = f"Date: {format_datetime(at + dated)}\n".encode() if dated is not None else b""
    record(database, SIGNER, date + dsn(token(ana)), source="lmtp", at=at + 4 * DAY, rules=Rules())
    assert state(database, ana)[0] == expected


def test_wrong_clock_never_hides_a_bounce_of_a_message_sent_after_the_consent(
    database: Database, at: datetime
) -> None:
    ana = subscribe(database, at)
    with database.transaction() as connection:
        change_status(connection, ana, SubscriberStatus.UNSUBSCRIBED, origin=Origin("form"), at=at - 3 * DAY)
        change_status(connection, ana, SubscriberStatus.ACTIVE, origin=Origin("form"), at=at - 2 * DAY)
    raw = f"Date: {format_datetime(at - 999 * DAY)}\n".encode() + dsn(token(ana))
    record(database, SIGNER, raw, source="lmtp", at=at + DAY, rules=Rules())
    assert state(database, ana)[0] == "bounced"
