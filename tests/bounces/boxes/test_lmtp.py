"""The LMTP server, spoken to by smtplib's client."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from mailer.audience.subscribers import get
from mailer.bounces.boxes.lmtp import Intake, serve
from mailer.bounces.record import Effect, Recorded, Rules
from mailer.database.engine import Database
from mailer.errors import StorageError
from mailer.tokens import Subject
from tests.bounces.reports import ISSUE, SIGNER, dsn, subscribe, token
from tests.served import served

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DOMAIN = "bounce.example.org"


@pytest.fixture
def told() -> list[Recorded]:
    return []


@pytest.fixture
def port(database: Database, told: list[Recorded]) -> Iterator[int]:
    intake = Intake(
        database,
        SIGNER,
        bounce_domain=DOMAIN,
        rules=Rules(unsubscribe_address=f"unsubscribe@{DOMAIN}"),
        clock=lambda: NOW,
        told=told.append,
    )
    with served(lambda ready: serve(intake, "127.0.0.1", 0, ready=ready)) as port:
        yield port


def refused(port: int, recipient: str) -> int:
    with smtplib.LMTP("127.0.0.1", port) as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
        client.sendmail("", [recipient], b"Subject: x\r\n\r\nx\r\n")
    return refusal.value.recipients[recipient][0]


def test_return_path_of_ours_is_taken_and_acted_upon(
    database: Database, port: int, told: list[Recorded]
) -> None:
    ana = subscribe(database, NOW)
    with smtplib.LMTP("127.0.0.1", port) as client:
        # The report itself quotes no token: the envelope alone says whose it is.
        client.sendmail("", [f"b.{token(ana)}@{DOMAIN}"], dsn("").replace(b"\n", b"\r\n"))
    assert [recorded.effect for recorded in told] == [Effect.SUPPRESSED]
    with database.reading() as connection:
        found = get(connection, ana)
    assert found is not None
    assert found.status.value == "bounced"


@pytest.mark.parametrize("octets", [998, 1_001, 70_000, 1_100_000])
def test_line_may_be_longer_than_smtp_allows(
    database: Database, port: int, told: list[Recorded], octets: int
) -> None:
    # RFC 5321 section 4.5.3.1.6 allows 1,000 octets. A report may quote a message that has more.
    quoted = b"\r\nX-Long: " + b"x" * octets + b"\r\n"
    report = dsn("").replace(b"\n", b"\r\n") + quoted
    with smtplib.LMTP("127.0.0.1", port) as client:
        client.sendmail("", [f"b.{token(subscribe(database, NOW))}@{DOMAIN}"], report)
    assert [recorded.effect for recorded in told] == [Effect.SUPPRESSED]


def test_unsubscribe_address_is_taken(database: Database, port: int, told: list[Recorded]) -> None:
    link = SIGNER.link(Subject(ISSUE, subscribe(database, NOW)))
    with smtplib.LMTP("127.0.0.1", port) as client:
        client.sendmail("ana@example.com", [f"unsubscribe@{DOMAIN}"], f"Subject: {link}\r\n\r\n".encode())
    assert [recorded.effect for recorded in told] == [Effect.UNSUBSCRIBED]


def test_everything_else_is_refused_at_rcpt(database: Database, port: int) -> None:
    ana = subscribe(database, NOW)
    good = token(ana)
    forged = ("b" if good[0] == "a" else "a") + good[1:]
    link = SIGNER.link(Subject(ISSUE, ana))
    for recipient in (
        f"b.{forged}@{DOMAIN}", f"b.{good}@other.example", f"b.{link}@{DOMAIN}", f"b.@{DOMAIN}",
        f"postmaster@{DOMAIN}",
    ):  # fmt: skip
        assert refused(port, recipient) == 550


def test_message_that_cannot_be_stored_is_answered_451_and_taken_later(
    database: Database, port: int, told: list[Recorded]
) -> None:
    ana = subscribe(database, NOW)
    raw = dsn("").replace(b"\n", b"\r\n")
    create, drop = {
        "sqlite": (
            "CREATE TRIGGER full BEFORE INSERT ON reports BEGIN SELECT RAISE(ABORT, 'no room'); END",
            "DROP TRIGGER full",
        ),
        "postgresql": (
            "ALTER TABLE reports ADD CONSTRAINT no_room CHECK (source = '') NOT VALID",
            "ALTER TABLE reports DROP CONSTRAINT no_room",
        ),
    }[database.engine.dialect.name]
    with database.transaction() as connection:
        connection.execute(text(create))
    with smtplib.LMTP("127.0.0.1", port) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail("", [f"b.{token(ana)}@{DOMAIN}"], raw)
    assert (refusal.value.smtp_code, told) == (451, [])
    with database.transaction() as connection:
        connection.execute(text(drop))
    with smtplib.LMTP("127.0.0.1", port) as client:
        client.sendmail("", [f"b.{token(ana)}@{DOMAIN}"], raw)
    assert [recorded.effect for recorded in told] == [Effect.SUPPRESSED]


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ValueError("unforeseen")])
def test_any_failure_to_record_is_answered_451(
    database: Database, port: int, told: list[Recorded], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> Recorded:
        raise error

    monkeypatch.setattr("mailer.bounces.boxes.lmtp.record", fail)
    with smtplib.LMTP("127.0.0.1", port) as client, pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail("", [f"b.{token(subscribe(database, NOW))}@{DOMAIN}"], b"Subject: x\r\n\r\nx\r\n")
    assert (refusal.value.smtp_code, told) == (451, [])
