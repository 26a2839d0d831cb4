"""The counts for statistics: kept step by step, they are those of a full count."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select

from mailer.address import parse_address
from mailer.audience.privacy.erasing import erase
from mailer.database.engine import Database
from mailer.database.tables import (
    CohortCount,
    Delivery,
    Event,
    IssueCount,
    LedgerDay,
    StoredIssue,
    Subscriber,
)
from mailer.reports import counting
from mailer.reports.counting import Key
from mailer.reports.rollups import marks, refresh
from tests.databases import empty_database
from tests.reports.scene import SEGMENTS, Scene


def everything(connection: Connection) -> list[list[tuple[object, ...]]]:
    """Return all counts that are not zero."""
    return [
        sorted(tuple(row) for row in connection.execute(select(table)) if getattr(row, number))
        for table, number in ((LedgerDay, "people"), (CohortCount, "people"), (IssueCount, "number"))
    ]


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_counts_kept_step_by_step_equal_a_full_count(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with empty_database(tmp_path_factory.mktemp("counts")) as database:
        assert_counts_equal(database, seed)


def test_the_same_holds_on_either_database(database: Database) -> None:
    assert_counts_equal(database, seed=7)


def assert_counts_equal(database: Database, seed: int) -> None:
    scene = Scene(seed)
    for _ in range(4):
        with database.transaction() as connection:
            scene.step(connection)
        assert refresh(database, at=scene.now + timedelta(days=1), segments=SEGMENTS, quiet_days=30)
        with database.reading() as connection:
            kept = everything(connection)
        assert refresh(
            database, at=scene.now + timedelta(days=1), segments=SEGMENTS, quiet_days=30, rebuild=True
        )
        with database.reading() as connection:
            assert everything(connection) == kept
    with database.reading() as connection:
        assert_equal_by_hand(connection)


def assert_equal_by_hand(connection: Connection) -> None:
    """Compare the counts of events with a count in Python, row by row."""
    people = {one.id: one for one in connection.execute(select(Subscriber))}
    sent = {(row.issue_id, row.subscriber_id): row for row in connection.execute(select(Delivery))}
    expected: Counter[Key] = Counter()
    seen: set[tuple[object, ...]] = set()
    for event in connection.execute(select(Event).order_by(Event.c.at, Event.c.id)):
        if event.kind not in ("open", "click"):
            continue
        assert event.issue_id is not None
        machine = "machine_" if "machine" in event.details else ""
        hour = counting.hour_name(int(event.at.timestamp()) // 3600)
        expected[Key(event.issue_id, "hour", hour, f"{machine}{event.kind}s")] += 1
        if event.kind == "click":
            expected[Key(event.issue_id, "link", str(event.details["link"]), f"{machine}clicks")] += 1
        if machine or event.subscriber_id is None:
            continue
        word = {"open": "openers", "click": "clickers"}[event.kind]
        link = (event.issue_id, event.subscriber_id, "link", event.details.get("link"))
        if event.kind == "click" and link not in seen:
            seen.add(link)
            expected[Key(event.issue_id, "link", str(event.details["link"]), word)] += 1
        if (first := (event.issue_id, event.subscriber_id, event.kind)) not in seen:
            seen.add(first)
            person = people[event.subscriber_id]
            if person.attributes["country"] == "RO":
                expected[Key(event.issue_id, "segment", "romania", word)] += 1
            if person.domain == "gmail.com":
                expected[Key(event.issue_id, "segment", "gmail", word)] += 1
            delivery = sent.get((event.issue_id, event.subscriber_id))
            place = -1
            if delivery is not None and delivery.first_at is not None:
                delay = event.at - delivery.first_at
                place = sum(delay >= limit for limit in counting.DELAYS)
            expected[Key(event.issue_id, "delay", str(place), word)] += 1
    facets = {key.facet for key in expected}
    stored = {
        Key(row.issue_id, row.facet, row.name, row.measure): row.number
        for row in connection.execute(select(IssueCount).where(IssueCount.c.facet.in_(facets)))
        if row.number and row.measure not in ("recipients", "tracked")
    }
    assert stored == dict(expected)


def test_counts_outlive_the_events(database: Database) -> None:
    scene = Scene(3)
    with database.transaction() as connection:
        scene.join(connection, 20)
        scene.issue(connection)
        scene.respond(connection, 50)
    refresh(database, at=scene.now, segments={}, quiet_days=30)
    with database.transaction() as connection:
        before = everything(connection)
        connection.execute(delete(Event))
    later = scene.now + timedelta(days=400)
    refresh(
        database, at=later, segments={}, quiet_days=30, rebuild=True, kept_since=later - timedelta(days=365)
    )
    with database.reading() as connection:
        assert everything(connection) == before


def test_refresh_beside_another_one_stores_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(1)
    with database.transaction() as connection:
        scene.step(connection)
    whole = counting.whole_list

    def another_one(connection: Connection, *, soft_since: datetime) -> Counter[Key]:
        monkeypatch.setattr(counting, "whole_list", whole)
        assert refresh(database, at=scene.now, segments=SEGMENTS, quiet_days=30)
        return whole(connection, soft_since=soft_since)

    monkeypatch.setattr(counting, "whole_list", another_one)
    assert not refresh(database, at=scene.now, segments=SEGMENTS, quiet_days=30)
    with database.reading() as connection:
        kept = everything(connection)
    refresh(database, at=scene.now, segments=SEGMENTS, quiet_days=30, rebuild=True)
    with database.reading() as connection:
        assert everything(connection) == kept


def test_erased_person_is_counted_nowhere_in_the_ledger(database: Database) -> None:
    scene = Scene(5)
    with database.transaction() as connection:
        scene.join(connection, 1)
        address = parse_address(connection.scalars(select(Subscriber.c.address)).one())
        erase(connection, address, secret=b"0" * 32, at=scene.now)
    refresh(database, at=scene.now, segments={}, quiet_days=30)
    with database.reading() as connection:
        assert everything(connection)[:2] == [[], []]


def test_events_of_the_last_minute_are_counted_later(database: Database) -> None:
    scene = Scene(2)
    with database.transaction() as connection:
        scene.join(connection, 5)
        scene.issue(connection)
        opened = {"kind": "open", "issue_id": scene.issues[0], "details": {}}
        connection.execute(insert(Event).values(at=scene.now, **opened))
    opens = select(IssueCount.c.number).where(IssueCount.c.facet == "hour")
    refresh(database, at=scene.now + timedelta(seconds=30), segments={}, quiet_days=30)
    with database.reading() as connection:
        assert connection.scalars(opens).all() == []
    refresh(database, at=scene.now + timedelta(seconds=90), segments={}, quiet_days=30)
    with database.reading() as connection:
        assert connection.scalars(opens).all() == [1]
        assert marks(connection).counted_at == scene.now + timedelta(seconds=90)
        assert connection.scalars(select(StoredIssue.c.id)).all() == scene.issues
