"""The operator is told when an issue comes back too often."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest
from sqlalchemy import select, update

from mailer.bounces.alerts import AlertLimits, Returns, watch
from mailer.bounces.batch import record, record_batch
from mailer.bounces.record import Rules
from mailer.bounces.refusals import learn_by
from mailer.config import Bounces
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Event
from mailer.replies import Refusal, judge
from tests.bounces.reports import ISSUE, SIGNER, complaint, dsn, subscribe, token


def sent_to(database: Database, at: datetime, number: int) -> list[int]:
    """Send the issue to so many subscribers, `r0@example.com` and so on; return them."""
    return [subscribe(database, at, f"r{place}@example.com") for place in range(number)]


def fail(database: Database, subscribers: list[int]) -> None:
    with database.transaction() as connection:
        connection.execute(
            update(Delivery)
            .where(Delivery.c.subscriber_id.in_(subscribers))
            .values(state=DeliveryState.FAILED.value, bounce_class="invalid_mailbox")
        )


def alerts(database: Database) -> list[str]:
    with database.reading() as connection:
        kept = select(Event.c.details).where(Event.c.kind == "alert").order_by(Event.c.id)
        return [details["text"] for details in connection.scalars(kept)]


def told(database: Database, at: datetime, failed: int, limits: AlertLimits) -> list[str]:
    with database.transaction() as connection:
        return watch(connection, {ISSUE: Returns(failed)}, at=at, limits=limits)


def test_bouncing_issue_raises_one_alert_and_another_when_the_number_doubles(
    database: Database, at: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    people = sent_to(database, at, 100)
    limits = AlertLimits(bounces_percent=10)
    said: list[int] = []
    with caplog.at_level(logging.WARNING):
        for number in range(90):
            fail(database, people[number : number + 1])
            if told(database, at, 1, limits):
                said.append(number + 1)
    assert said == [20, 40, 80]
    assert alerts(database)[0] == ("001: 20 of 100 messages came back (20%), most of them invalid_mailbox")
    assert [record.getMessage() for record in caplog.records] == alerts(database)


def test_share_below_the_threshold_is_not_told(database: Database, at: datetime) -> None:
    people = sent_to(database, at, 100)
    fail(database, people[:20])
    assert told(database, at, 20, AlertLimits(bounces_percent=21)) == []
    assert told(database, at, 20, AlertLimits(bounces_percent=20)) != []


def test_few_bounces_are_not_told_whatever_their_share(database: Database, at: datetime) -> None:
    people = sent_to(database, at, 19)
    fail(database, people)
    assert told(database, at, 19, AlertLimits(bounces_percent=1)) == []


def test_reports_that_come_by_mail_lead_to_an_alert(database: Database, at: datetime) -> None:
    people = sent_to(database, at, 40)
    raws = [dsn(token(one), recipient=f"r{place}@example.com") for place, one in enumerate(people[:25])]
    record_batch(database, SIGNER, raws, source="maildir:box", at=at, rules=Rules())
    assert alerts(database) == ["001: 25 of 40 messages came back (62%), most of them invalid_mailbox"]
    record_batch(database, SIGNER, raws, source="maildir:box", at=at, rules=Rules())
    assert len(alerts(database)) == 1


def test_three_complaints_lead_to_an_alert(database: Database, at: datetime) -> None:
    people = sent_to(database, at, 40)
    for place, one in enumerate(people[:3]):
        assert alerts(database) == []
        record(
            database, SIGNER, complaint(token(one), recipient=f"r{place}@example.com"),
            source="maildir:box", at=at, rules=Rules(),
        )  # fmt: skip
    assert alerts(database) == ["001: 3 of 40 messages drew complaints (7.5%)"]


def test_refusals_in_the_dialogue_lead_to_an_alert(database: Database, at: datetime) -> None:
    people = sent_to(database, at, 40)
    fail(database, people[:20])
    verdict = judge(550, "5.1.1", "User unknown")
    with database.transaction() as connection:
        learn_by(Bounces())(connection, [Refusal(ISSUE, one, verdict) for one in people[:20]], at)
    assert alerts(database) == ["001: 20 of 40 messages came back (50%), most of them invalid_mailbox"]
