"""The counts for statistics: kept step by step, they are those of a full count."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.address import parse_address
from mailer.audience.privacy.erasing import erase
from mailer.database.models import (
    CohortCount,
    Delivery,
    Event,
    IssueCount,
    LedgerDay,
    StoredIssue,
    Subscriber,
)
from mailer.database.session import Database
from mailer.reports import counting
from mailer.reports.counting import Key
from mailer.reports.rollups import marks, refresh
from tests.databases import empty_database
from tests.reports.scene import SEGMENTS, Scene


def everything(session: Session) -> list[list[tuple[object, ...]]]:
    """Return all counts that are not zero."""
    return [
        sorted(
            tuple(getattr(row, column.name) for column in model.__table__.columns)
            for row in session.scalars(select(model))
            if getattr(row, number)
        )
        for model, number in ((LedgerDay, "people"), (CohortCount, "people"), (IssueCount, "number"))
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
        with database.transaction() as session:
            scene.step(session)
        assert refresh(database, at=scene.now + timedelta(days=1), segments=SEGMENTS)
        with database.reading() as session:
            kept = everything(session)
        assert refresh(database, at=scene.now + timedelta(days=1), segments=SEGMENTS, rebuild=True)
        with database.reading() as session:
            assert everything(session) == kept
    with database.reading() as session:
        assert_equal_by_hand(session)


def assert_equal_by_hand(session: Session) -> None:
    """Compare the counts of events with a count in Python, row by row."""
    people: dict[int, Subscriber] = {one.id: one for one in session.scalars(select(Subscriber))}
    sent = {(row.issue_id, row.subscriber_id): row for row in session.scalars(select(Delivery))}
    expected: Counter[Key] = Counter()
    seen: set[tuple[object, ...]] = set()
    for event in session.scalars(select(Event).order_by(Event.at, Event.id)):
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
        for row in session.scalars(select(IssueCount).where(IssueCount.facet.in_(facets)))
        if row.number and row.measure not in ("recipients", "tracked")
    }
    assert stored == dict(expected)


def test_counts_outlive_the_events(database: Database) -> None:
    scene = Scene(3)
    with database.transaction() as session:
        scene.join(session, 20)
        scene.issue(session)
        scene.respond(session, 50)
    refresh(database, at=scene.now, segments={})
    with database.transaction() as session:
        before = everything(session)
        session.execute(delete(Event))
    later = scene.now + timedelta(days=400)
    refresh(database, at=later, segments={}, rebuild=True, kept_since=later - timedelta(days=365))
    with database.reading() as session:
        assert everything(session) == before


def test_refresh_beside_another_one_stores_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(1)
    with database.transaction() as session:
        scene.step(session)
    whole = counting.whole_list

    def another_one(session: Session) -> Counter[Key]:
        monkeypatch.setattr(counting, "whole_list", whole)
        assert refresh(database, at=scene.now, segments=SEGMENTS)
        return whole(session)

    monkeypatch.setattr(counting, "whole_list", another_one)
    assert not refresh(database, at=scene.now, segments=SEGMENTS)
    with database.reading() as session:
        kept = everything(session)
    refresh(database, at=scene.now, segments=SEGMENTS, rebuild=True)
    with database.reading() as session:
        assert everything(session) == kept


def test_erased_person_is_counted_nowhere_in_the_ledger(database: Database) -> None:
    scene = Scene(5)
    with database.transaction() as session:
        scene.join(session, 1)
        address = parse_address(session.get_one(Subscriber, scene.people[0]).address)
        erase(session, address, secret=b"0" * 32, at=scene.now)
    refresh(database, at=scene.now, segments={})
    with database.reading() as session:
        assert everything(session)[:2] == [[], []]


def test_events_of_the_last_minute_are_counted_later(database: Database) -> None:
    scene = Scene(2)
    with database.transaction() as session:
        scene.join(session, 5)
        scene.issue(session)
        session.add(Event(at=scene.now, kind="open", issue_id=scene.issues[0], details={}))
    opens = select(IssueCount.number).where(IssueCount.facet == "hour")
    refresh(database, at=scene.now + timedelta(seconds=30), segments={})
    with database.reading() as session:
        assert session.scalars(opens).all() == []
    refresh(database, at=scene.now + timedelta(seconds=90), segments={})
    with database.reading() as session:
        assert session.scalars(opens).all() == [1]
        assert marks(session).counted_at == scene.now + timedelta(seconds=90)
        assert session.scalars(select(StoredIssue.id)).all() == scene.issues
