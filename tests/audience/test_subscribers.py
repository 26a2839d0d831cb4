"""Statuses: who may go where, by which way, and what the ledger says of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update

from mailer.address import parse_address
from mailer.audience import ledger, suppression
from mailer.audience.ledger import change_status, unsubscribe, unsubscribe_all
from mailer.audience.subscribers import AddResult, add, find, get, history
from mailer.audience.transitions import PERSONAL_WAYS, Origin, SubscriberRequest
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus, SubscriberTag, Suppression
from mailer.errors import AddressError

SECRET = b"s" * 32
BY_REPORT = Origin("bounce", note="550")
ANA = parse_address("Ana@Example.org")
BY_OPERATOR = Origin("command")
BY_PERSON = Origin("page", ip="192.0.2.1")


def added(database: Database, at: datetime) -> int:
    with database.transaction() as connection:
        return added_in(connection, at)


def added_in(connection: Connection, at: datetime) -> int:
    made = add(connection, ANA, secret=SECRET, origin=BY_OPERATOR, at=at, name="Ana", tags=["vip"])
    assert made.subscriber_id is not None
    return made.subscriber_id


def test_two_spellings_are_one_subscriber(database: Database, at: datetime) -> None:
    first = added(database, at)
    with database.transaction() as connection:
        again = add(connection, parse_address("ana@EXAMPLE.ORG"), secret=SECRET, origin=BY_OPERATOR, at=at)
        view = find(connection, parse_address("ANA@example.org"))
    assert (again.subscriber_id, again.result) == (first, AddResult.UNCHANGED)
    assert view is not None
    assert (view.address, view.tags, view.name) == ("Ana@example.org", ("vip",), "Ana")


def test_unsubscribing_twice_is_one_line_in_the_ledger(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        assert unsubscribe(connection, ana, origin=Origin("one-click", ip="192.0.2.1"), at=at)
        assert not unsubscribe(connection, ana, origin=Origin("one-click"), at=at)
        lines = [(line.before, line.after, line.way, line.ip) for line in history(connection, ana)]
    assert lines == [("", "active", "command", ""), ("active", "unsubscribed", "one-click", "192.0.2.1")]


@pytest.mark.parametrize("way", ["command", "import", "api"])
def test_operator_never_revives_an_opt_out(database: Database, at: datetime, way: str) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        unsubscribe(connection, ana, origin=BY_PERSON, at=at)
        again = add(connection, ANA, secret=SECRET, origin=Origin(way), at=at)
        assert again.result is AddResult.KEPT_OUT
        assert not change_status(connection, ana, SubscriberStatus.ACTIVE, origin=Origin(way), at=at)


def test_person_comes_back_alone(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        unsubscribe(connection, ana, origin=BY_PERSON, at=at)
        assert change_status(connection, ana, SubscriberStatus.ACTIVE, origin=BY_PERSON, at=at)


@pytest.mark.parametrize("to", [SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED])
def test_bounce_and_complaint_suppress_the_address(
    database: Database, at: datetime, to: SubscriberStatus
) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        assert change_status(connection, ana, to, origin=Origin("bounce"), at=at)
        assert suppression.reason_for(connection, ANA.key, secret=SECRET) is not None
        assert change_status(connection, ana, SubscriberStatus.ACTIVE, origin=BY_PERSON, at=at)
        assert suppression.reason_for(connection, ANA.key, secret=SECRET) is None


def test_erased_address_is_known_by_its_hash_alone(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ledger.suppress(connection, suppression.erased_key(ANA.key, SECRET), suppression.ERASED, at=at)
        made = add(connection, ANA, secret=SECRET, origin=BY_OPERATOR, at=at)
        assert (made.subscriber_id, made.result) == (None, AddResult.KEPT_OUT)
        assert suppression.reason_for(connection, ANA.key, secret=b"o" * 32) is None


@pytest.mark.parametrize("name", ["Ana\r\nBcc: x@example.org", "a\x00b", "=?utf-8?q?admin?=", "\u202eanA"])
def test_dangerous_name_is_refused_with_the_field(database: Database, at: datetime, name: str) -> None:
    with pytest.raises(AddressError, match=r"^name: "), database.transaction() as connection:
        add(connection, ANA, secret=SECRET, origin=BY_OPERATOR, at=at, name=name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(list(SubscriberStatus)),
            st.sampled_from(["command", "import", "api", "bounce", "webhook", *sorted(PERSONAL_WAYS)]),
        ),
        max_size=12,
    )
)
def test_only_the_person_can_reactivate_after_an_opt_out(
    database: Database, at: datetime, steps: list[tuple[SubscriberStatus, str]]
) -> None:
    with database.transaction() as connection:
        ana = find(connection, ANA)
        subscriber_id = added_in(connection, at) if ana is None else ana.id
        out = False
        for to, way in steps:
            before = get(connection, subscriber_id)
            change_status(connection, subscriber_id, to, origin=Origin(way), at=at)
            after = get(connection, subscriber_id)
            assert before is not None
            assert after is not None
            if after.status is SubscriberStatus.ACTIVE:
                assert not out or way in PERSONAL_WAYS or before.status is SubscriberStatus.ACTIVE
            out = after.status not in (SubscriberStatus.ACTIVE, SubscriberStatus.PENDING)


def test_unsubscribe_all_equals_unsubscribing_each(database: Database, at: datetime) -> None:
    one_click = Origin("one-click", ip="192.0.2.1", issue_id=7)
    outcomes: list[list[bool]] = []
    ledgers: list[list[object]] = []
    for batch in ("alone", "together"):
        with database.transaction() as connection:
            ids: list[int] = []
            for status in SubscriberStatus:
                address = parse_address(f"{status}@{batch}.example")
                made = add(connection, address, secret=SECRET, origin=BY_OPERATOR, at=at, status=status)
                assert made.subscriber_id is not None
                ids.append(made.subscriber_id)
            ids = [*ids, ids[0], 999_999]
            if batch == "alone":
                outcomes.append([unsubscribe(connection, one, origin=one_click, at=at) for one in ids])
            else:
                outcomes.append(
                    unsubscribe_all(connection, [SubscriberRequest(one, one_click, at) for one in ids])
                )
            ledgers.append([(get_status(connection, one), history(connection, one)) for one in ids])
    assert outcomes[0] == outcomes[1]
    assert ledgers[0] == ledgers[1]


def get_status(connection: Connection, subscriber_id: int) -> SubscriberStatus | None:
    view = get(connection, subscriber_id)
    return None if view is None else view.status


@pytest.mark.parametrize("out", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED])
def test_returning_subscriber_has_no_soft_points_and_no_pause(
    database: Database, at: datetime, out: SubscriberStatus
) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        connection.execute(
            update(Subscriber)
            .where(Subscriber.c.id == ana)
            .values(soft_points=4.5, soft_since=at, paused_until=at + timedelta(days=30))
        )
        assert change_status(connection, ana, out, origin=Origin("command"), at=at)
    with database.transaction() as connection:
        known = connection.execute(select(Subscriber).where(Subscriber.c.id == ana)).one()
        assert (known.soft_points, known.soft_since) == (4.5, at)
        assert known.paused_until == at + timedelta(days=30)
        assert change_status(connection, ana, SubscriberStatus.ACTIVE, origin=BY_PERSON, at=at)
    with database.reading() as connection:
        known = connection.execute(select(Subscriber).where(Subscriber.c.id == ana)).one()
        assert (known.soft_points, known.soft_since) == (0.0, None)
        assert known.paused_until is None


REASONS = st.lists(st.sampled_from(["hard bounce", "complaint", "erased"]), min_size=2, max_size=4)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reasons=REASONS)
def test_first_reason_of_a_suppression_stays(database: Database, at: datetime, reasons: list[str]) -> None:
    with database.transaction() as connection:
        for number, reason in enumerate(reasons):
            new = ledger.suppress(
                connection,
                ANA.key,
                reason,
                at=at + timedelta(days=number),
                note=f"n{number}",
                report_id=number,
            )
            assert new is (number == 0)
        stored = connection.execute(select(Suppression).where(Suppression.c.address_key == ANA.key)).one()
        assert (stored.reason, stored.at, stored.note, stored.report_id) == (reasons[0], at, "n0", 0)
        connection.rollback()


def test_hard_bounce_of_a_suppressed_address_keeps_the_first_reason(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        ledger.suppress(connection, ANA.key, "complaint", at=at)
        assert change_status(
            connection,
            ana,
            SubscriberStatus.BOUNCED,
            origin=Origin("bounce", note="550"),
            at=at + timedelta(days=1),
        )
        assert suppression.reason_for(connection, ANA.key, secret=SECRET) == "complaint"


def test_tags_are_written_when_somebody_was_added(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        add(connection, ANA, secret=SECRET, origin=Origin("api"), at=at, tags=["vip"])
        assert connection.scalars(select(SubscriberTag.c.tag)).all() == ["vip"]
