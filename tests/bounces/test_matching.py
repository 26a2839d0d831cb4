"""Who a report is about, and on what evidence."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import update

from mailer.bounces.matching import Basis, Match, match
from mailer.bounces.reading.report import BounceReport, RecipientReport, ReportKind, parse_report
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState
from mailer.tokens import Signer, Subject
from tests.bounces.reports import ISSUE, SIGNER, dsn, subscribe, subscribe_all, token


def forged(subscriber_id: int) -> str:
    return Signer([b"f" * 32]).return_path(Subject(ISSUE, subscriber_id))


def found(database: Database, raw: bytes) -> Match:
    with database.reading() as connection:
        return match(connection, SIGNER, parse_report(raw))


def test_genuine_token_decides(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    about = found(database, dsn(token(ana), recipient="ana@example.com"))
    assert about.recipient is not None
    assert (about.basis, about.subscriber_id, about.issue_id) == (Basis.TOKEN, ana, ISSUE)
    assert (about.recipient.address, about.foreign, about.bad_token) == ("ana@example.com", False, False)


def test_genuine_token_in_a_report_about_somebody_else_is_foreign(database: Database, at: datetime) -> None:
    ana, ben = subscribe(database, at), subscribe(database, at, "ben@example.com")
    about = found(database, dsn(token(ana), recipient="ben@example.com"))
    assert (about.basis, about.subscriber_id, about.recipient) == (Basis.TOKEN, ana, None)
    assert (about.foreign, about.bad_token) == (True, False)
    assert ben != ana


@pytest.mark.parametrize("hidden", ["redacted@example.com", "[address removed]", "undisclosed-recipient"])
def test_hidden_address_is_nobody_elses(database: Database, at: datetime, hidden: str) -> None:
    ana = subscribe(database, at)
    about = found(database, dsn(token(ana), recipient=hidden))
    assert (about.basis, about.subscriber_id, about.foreign) == (Basis.TOKEN, ana, False)


def test_token_of_another_signer_leaves_the_address_alone_as_evidence(
    database: Database, at: datetime
) -> None:
    ana = subscribe(database, at)
    about = found(database, dsn(forged(ana), recipient="ana@example.com"))
    assert (about.basis, about.subscriber_id, about.issue_id) == (Basis.ADDRESS, ana, ISSUE)
    assert (about.foreign, about.bad_token) == (False, True)
    unknown = found(database, dsn(forged(ana), recipient="nobody@example.com"))
    assert unknown == Match(Basis.NONE, bad_token=True)


def test_token_of_a_subscriber_who_is_gone_is_about_nobody(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    about = found(database, dsn(token(ana + 1), recipient="ana@example.com"))
    assert about == Match(Basis.NONE, None, ISSUE)


def test_report_that_only_names_an_address_is_about_the_newest_issue_that_was_sent(
    database: Database, at: datetime
) -> None:
    ana = subscribe(database, at, issues=3)
    subscribe(database, at, "ben@example.com", issues=4)
    with database.transaction() as connection:
        last = update(Delivery).where(Delivery.c.subscriber_id == ana, Delivery.c.issue_id == 3)
        connection.execute(last.values(state=DeliveryState.SKIPPED.value))
    about = found(database, dsn("", recipient="Ana@example.com"))
    assert (about.basis, about.subscriber_id, about.issue_id) == (Basis.ADDRESS, ana, 2)
    assert found(database, dsn("", recipient="nobody@example.com")) == Match(Basis.NONE)


@pytest.mark.parametrize(("length", "ours"), [(19, False), (20, True)])
def test_short_message_id_is_no_token(database: Database, at: datetime, length: int, ours: bool) -> None:
    subscribe(database, at)
    about = found(database, dsn("", message_id=f"{'a' * length}.1@example.org"))
    assert about.bad_token is ours


def test_token_in_a_message_id_is_evidence(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    about = found(database, dsn("", message_id=f"{token(ana)}.17@example.org"))
    assert (about.basis, about.subscriber_id, about.issue_id) == (Basis.TOKEN, ana, ISSUE)


def named(address: str, original: str = "") -> RecipientReport:
    return RecipientReport(address, original or address, "failed", "5.1.1", 550, "user unknown", "", None)


def about(database: Database, *recipients: RecipientReport, token: str = "") -> Match:
    report = BounceReport(ReportKind.BOUNCE, recipients, (token,) if token else ())
    with database.reading() as connection:
        return match(connection, SIGNER, report)


ANA, BEN = named("ana@example.com"), named("ben@example.com")
FORWARDED = named("hidden@elsewhere.example", "Ana@example.com")


@pytest.mark.parametrize(
    ("recipients", "mine", "foreign"),
    [
        ((), None, False),
        ((ANA,), ANA, False),
        ((BEN, ANA), ANA, False),
        ((BEN, FORWARDED), FORWARDED, False),
        ((BEN,), None, True),
        ((named("[redacted]"),), None, False),
        ((named("[redacted]"), named("HIDDEN@example.com")), None, False),
        ((named("[redacted]"), BEN), None, True),
        ((named(""),), None, False),
        ((named(""), BEN), None, True),
    ],
)
def test_token_is_foreign_if_only_others_are_named(
    database: Database, at: datetime, recipients: tuple[RecipientReport, ...], mine: object, foreign: bool
) -> None:
    ana = subscribe(database, at)
    made = about(database, *recipients, token=token(ana))
    assert made == Match(Basis.TOKEN, ana, ISSUE, mine, foreign, bad_token=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        ((BEN, ANA), ANA),
        ((FORWARDED, BEN), FORWARDED),
        ((ANA, named("cleo@example.com")), None),
        ((BEN,), None),
        ((), None),
    ],
)
def test_addresses_are_evidence_if_one_is_known(
    database: Database,
    at: datetime,
    recipients: tuple[RecipientReport, ...],
    expected: RecipientReport | None,
) -> None:
    ana = subscribe_all(database, at, ["ana@example.com", "cleo@example.com"])["ana@example.com"]
    made = about(database, *recipients)
    if expected is None:
        assert made == Match(Basis.NONE, None, None, None, foreign=False, bad_token=False)
    else:
        assert made == Match(Basis.ADDRESS, ana, ISSUE, expected, foreign=False, bad_token=False)


@pytest.mark.parametrize(("others", "known"), [(499, True), (500, False)])
def test_so_many_addresses_are_looked_up(database: Database, at: datetime, others: int, known: bool) -> None:
    subscribe(database, at)
    made = about(database, *(named(f"x{number}@example.net") for number in range(others)), ANA)
    assert (made.subscriber_id is not None) is known


def test_letter_is_about_no_issue(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    assert about(database, ANA, token=token(ana, 0)) == Match(Basis.TOKEN, ana, None, ANA)


def test_what_nothing_is_said_of_is_false() -> None:
    made = Match(Basis.NONE)
    assert (made.foreign, made.bad_token) == (False, False)


def test_genuine_token_counts_after_a_forged_one(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    with database.reading() as connection:
        report = BounceReport(ReportKind.BOUNCE, (ANA,), (forged(ana), token(ana)))
        assert match(connection, SIGNER, report) == Match(Basis.TOKEN, ana, ISSUE, ANA)


def test_unsent_issue_is_not_what_a_report_is_about(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    with database.transaction() as connection:
        connection.execute(update(Delivery).values(state=DeliveryState.FAILED.value))
    assert about(database, ANA) == Match(Basis.ADDRESS, ana, None, ANA)
