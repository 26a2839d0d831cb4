"""Mail that comes to a signed return path and is no bounce changes nothing for the subscriber."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import pytest
from sqlalchemy import select

from mailer.bounces.batch import record
from mailer.bounces.record import Effect, Rules
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus
from tests.bounces.reading.test_report_kinds import AUTO_REPLIES, CHALLENGES, SYSTEMS, mail
from tests.bounces.reports import SIGNER, complaint, dsn, subscribe, token

ADDRESS = "reader@example.com"
NOTICES: Mapping[str, tuple[str, str]] = {
    "delay": ("Delayed mail (still being retried)", "Your message has not been delivered yet: timed out."),
    "delivered": ("Delivery Status Notification (Success)", "Your message was delivered to the recipient."),
    "a reader's letter": ("Re: Issue 7", "My mailbox was full, now I have room. User unknown? Not me!"),
    "a question": ("Issue 7", "The link does not exist any more, the server says 550 not found."),
    "a forward": ("Fwd: Issue 7", "See below what they write about undeliverable mail and quotas."),
}


def signed(raw: bytes, subscriber: int) -> bytes:
    """Return the mail as it came to the subscriber's return path."""
    return f"Delivered-To: b.{token(subscriber)}@bounce.example.org\r\n".encode() + raw


def innocent_mails() -> dict[str, bytes]:
    found = {name: mail(*words, Return_Path="<>") for name, words in AUTO_REPLIES.items()}
    found |= {
        name: mail("Re: Issue 7", "Not here. User unknown.", **fields) for name, fields in SYSTEMS.items()
    }
    found |= {
        f"challenge: {name}": mail("Issue 7", text, From=sender, Return_Path="<>")
        for name, (sender, text) in CHALLENGES.items()
    }
    found |= {name: mail(subject, text) for name, (subject, text) in NOTICES.items()}
    return found


MAILS = innocent_mails()


@pytest.mark.parametrize("name", MAILS)
def test_mail_that_is_no_bounce_changes_nothing(database: Database, at: datetime, name: str) -> None:
    reader = subscribe(database, at, ADDRESS)
    done = record(database, SIGNER, signed(MAILS[name], reader), source="maildir:box", at=at, rules=Rules())
    assert done.effect is Effect.NOTHING
    check_untouched(database, reader)


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded"])
def test_status_that_is_no_failure_changes_nothing(database: Database, at: datetime, action: str) -> None:
    reader = subscribe(database, at, ADDRESS)
    raw = dsn(token(reader), recipient=ADDRESS, action=action, status="4.4.1", reply="450 4.2.1 later")
    record(database, SIGNER, raw, source="maildir:box", at=at, rules=Rules())
    check_untouched(database, reader)


def test_boxbe_writes_its_challenge_as_a_failed_delivery(database: Database, at: datetime) -> None:
    reader = subscribe(database, at, ADDRESS)
    raw = dsn(token(reader), recipient=ADDRESS, reply="550 5.1.1 You are on the Boxbe waiting list")
    raw = raw.replace(
        b"About your message", b"Boxbe holds your message; you are not on the guest list. About it"
    )
    record(database, SIGNER, raw, source="maildir:box", at=at, rules=Rules())
    check_untouched(database, reader)


@pytest.mark.parametrize("kind", ["auth-failure", "not-spam", "dmarc", "virus-report-of-the-future"])
def test_feedback_that_is_no_complaint_changes_nothing(database: Database, at: datetime, kind: str) -> None:
    reader = subscribe(database, at, ADDRESS)
    raw = complaint(token(reader), kind=kind, recipient=ADDRESS)
    record(database, SIGNER, raw, source="maildir:box", at=at, rules=Rules())
    check_untouched(database, reader)


def check_untouched(database: Database, reader: int) -> None:
    with database.reading() as connection:
        found = connection.execute(
            select(Subscriber.c.status, Subscriber.c.soft_points).where(Subscriber.c.id == reader)
        )
        assert tuple(found.one()) == (SubscriberStatus.ACTIVE.value, 0.0)
