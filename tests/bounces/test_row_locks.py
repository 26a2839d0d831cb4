"""What two processes do to one person at the same moment happens once: PostgreSQL, two connections."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, select

from mailer.audience.ledger import change_status
from mailer.audience.subscribers import history
from mailer.audience.transitions import Origin
from mailer.bounces.batch import record, record_batch
from mailer.bounces.effects import apply_verdicts, fail_delivery
from mailer.bounces.policy import SoftLimits
from mailer.bounces.providers.events import EventKind, Reason, WebhookEvent
from mailer.bounces.providers.webhooks import SOURCE, freeze
from mailer.bounces.record import Recorded, Rules, record_events
from mailer.bounces.storing import insert_report
from mailer.database.engine import Database
from mailer.database.tables import SOFT_BOUNCE, Event, Subscriber, SubscriberStatus
from mailer.delivery.books import books_of, running_books
from mailer.replies import judge
from tests.bounces.reports import ISSUE, SIGNER, dsn, subscribe, subscribe_all, token
from tests.connections import in_threads, new_database, wait_until_blocked
from tests.databases import recount
from tests.postgres import Server

ONE_CLICK = Origin("one-click")
FULL = {"reply": "552 5.2.2 Mailbox is full", "status": "5.2.2"}


@pytest.fixture
def shared(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def lock(connection: Connection, subscriber_id: int) -> None:
    connection.execute(select(Subscriber.c.id).where(Subscriber.c.id == subscriber_id).with_for_update())


def test_two_who_take_a_person_off_write_one_ledger_line(shared: Database, at: datetime) -> None:
    ana = subscribe(shared, at)

    def take_off() -> bool:
        with shared.transaction() as connection:
            return change_status(connection, ana, SubscriberStatus.UNSUBSCRIBED, origin=ONE_CLICK, at=at)

    with shared.transaction() as first:
        assert change_status(first, ana, SubscriberStatus.UNSUBSCRIBED, origin=ONE_CLICK, at=at)
        with in_threads(take_off) as second:
            wait_until_blocked(shared)
            first.commit()
        assert not second[0].result()
    with shared.reading() as connection:
        assert [line.after for line in history(connection, ana)] == ["active", "unsubscribed"]


def test_one_report_read_by_two_processes_counts_once(shared: Database, at: datetime) -> None:
    ana = subscribe(shared, at)
    raw = dsn(token(ana), **FULL)

    def read() -> Recorded:
        return record(shared, SIGNER, raw, source="test", at=at, rules=Rules())

    # Both wait: the first for the subscriber, the second for the report (or for the subscriber as well).
    with shared.transaction() as held:
        lock(held, ana)
        with in_threads(read, times=2) as both:
            wait_until_blocked(shared, 2)
            held.commit()
    assert sorted(done.result().duplicate for done in both) == [False, True]
    with shared.reading() as connection:
        assert connection.scalars(select(Subscriber.c.soft_points)).one() == 1.0
        assert len(connection.scalars(select(Event.c.id).where(Event.c.kind == SOFT_BOUNCE)).all()) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_webhook_event_read_by_two_processes_counts_once(
    shared: Database, at: datetime, stored: bool
) -> None:
    ana = subscribe(shared, at)
    event = WebhookEvent(
        "mandrill", EventKind.REJECTED, recipient="ana@example.com", reason=Reason.INVALID, at=at,
        payload={"event": "reject", "msg": {"email": "ana@example.com"}},
    )  # fmt: skip

    def store(connection: Connection) -> None:
        insert_report(connection, freeze(event), source=f"{SOURCE}mandrill", at=at)

    def read() -> list[Recorded]:
        return record_events(shared, SIGNER, [event], at=at, rules=Rules())

    if stored:
        with shared.transaction() as connection:
            # As a process leaves it that ended before it acted.
            store(connection)
    with shared.transaction() as held:
        if stored:
            lock(held, ana)
        else:
            store(held)
        with in_threads(read, times=2) as both:
            wait_until_blocked(shared, 2)
            held.commit()
    assert sorted(one.duplicate for done in both for one in done.result()) == [False, True]
    with shared.reading() as connection:
        assert [line.after for line in history(connection, ana)] == ["active", "bounced"]


def test_soft_bounces_that_are_counted_at_the_same_moment_add_up(shared: Database, at: datetime) -> None:
    ana = subscribe(shared, at, issues=2)
    full = judge(552, "5.2.2", "Mailbox is full")

    def count() -> None:
        # Two in one day would be one point.
        with shared.transaction() as connection:
            verdicts = [(2, ana, full)]
            apply_verdicts(connection, verdicts, at=at + timedelta(days=3), limits=SoftLimits())

    with shared.transaction() as first:
        apply_verdicts(first, [(1, ana, full)], at=at, limits=SoftLimits())
        with in_threads(count) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as connection:
        assert connection.scalars(select(Subscriber.c.soft_points)).one() == 2.0


def test_breaker_trips_once_for_two_processes_that_read_the_reports_of_an_issue(
    shared: Database, at: datetime
) -> None:
    addresses = [f"s{number}@example.com" for number in range(40)]
    people = subscribe_all(shared, at, addresses)
    raws = [dsn(token(people[one]), recipient=one) for one in addresses]
    halves = iter([raws[::2], raws[1::2]])

    def read() -> None:
        half = next(halves)
        for start in range(0, len(half), 5):
            done = record_batch(shared, SIGNER, half[start : start + 5], source="test", at=at, rules=Rules())
            assert all(isinstance(one, Recorded) for one in done)

    with in_threads(read, times=2) as both:
        pass
    for one in both:
        one.result()
    with shared.reading() as connection:
        assert set(connection.scalars(select(Subscriber.c.status))) == {"active"}
        alerts = connection.scalars(select(Event.c.details).where(Event.c.kind == "alert"))
        assert [one["of"] for one in alerts].count("one reply") == 1


def test_delivery_that_two_reports_return_at_the_same_moment_fails_once(
    shared: Database, at: datetime
) -> None:
    ana = subscribe(shared, at)
    with shared.transaction() as connection:
        recount(connection)
    gone = judge(550, "5.1.1", "no such user")

    def fail() -> bool:
        with shared.transaction() as connection:
            return fail_delivery(connection, ISSUE, ana, gone, at=at)

    with shared.transaction() as first:
        assert fail_delivery(first, ISSUE, ana, gone, at=at)
        with in_threads(fail) as second:
            wait_until_blocked(shared)
            first.commit()
        assert not second[0].result()
    with shared.reading() as connection:
        assert running_books(connection, ISSUE) == books_of(connection, ISSUE)
