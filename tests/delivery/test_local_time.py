"""An issue scheduled by local time: everyone once, when it is that time where they are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, Subscriber
from mailer.delivery import adopting, control, issues, local_time, newcomers, schedule
from mailer.delivery.schedule import STALE_AFTER, instant
from mailer.errors import RefusedError
from mailer.review.waves import waves_of
from tests.connections import in_threads
from tests.databases import empty_database
from tests.delivery.scene import EDITION, subscribe
from tests.delivery.scheduling import Worker, alerts

WALL = datetime(2026, 3, 10, 8, 0)  # noqa: DTZ001
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOME = "Europe/Bucharest"
MINUTE = timedelta(minutes=1)


def people(database: Database, zones: Sequence[Any]) -> None:
    """Add a subscriber for each value of the attribute; None has none."""
    subscribe(database, len(zones))
    with database.transaction() as connection:
        for number, zone in enumerate(zones, 1):
            attributes = {} if zone is None else {"timezone": zone}
            connection.execute(
                update(Subscriber)
                .where(Subscriber.c.id == number)
                .values(attributes=attributes, created_at=AT - timedelta(days=number))
            )


def add(database: Database, wall: datetime = WALL, *, at: datetime = AT, zone: str = HOME) -> None:
    with database.transaction() as connection:
        local_time.add(
            connection, EDITION, source_path="x.md", segment="", wall=wall, zone=zone, at=at, condition=None
        )


def look(database: Database, at: datetime) -> None:
    """Do what a worker does when it looks for schedules."""
    with database.transaction() as connection:
        for due in schedule.due(connection, at=at):
            local_time.queue_due(connection, due.slug, at=at, condition=None)


def queued(database: Database) -> set[int]:
    """Return the subscribers for whom the issue was queued."""
    with database.reading() as connection:
        found = list(connection.scalars(select(Delivery.c.subscriber_id)))
    assert len(found) == len(set(found))
    return set(found)


def planned(database: Database) -> bool:
    with database.reading() as connection:
        return bool(schedule.scheduled(connection))


both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@both
@pytest.mark.parametrize(
    ("wall", "at"),
    [
        (WALL, AT),
        # The clocks in New York skip 02:30, and those in Bucharest 03:30.
        (datetime(2026, 3, 8, 2, 30), AT),  # noqa: DTZ001
        (datetime(2026, 3, 29, 3, 30), AT),  # noqa: DTZ001
        # Both occur twice there.
        (datetime(2026, 11, 1, 1, 30), AT),  # noqa: DTZ001
        (datetime(2026, 10, 25, 3, 30), AT),  # noqa: DTZ001
    ],
)
def test_everyone_is_queued_when_it_is_that_time_where_they_are(
    database: Database, wall: datetime, at: datetime
) -> None:
    own = ["Pacific/Kiritimati", "Asia/Kathmandu", HOME, "America/New_York", "Pacific/Niue"]
    unknown = [None, "", "Mars/Phobos", "europe/bucharest", 5, ["UTC"], "../etc/passwd"]
    people(database, [*own, *unknown])
    add(database, wall, at=at)
    turns = {number: instant(wall, zone) for number, zone in enumerate(own, 1)}
    turns |= {number: instant(wall, HOME) for number in range(len(own) + 1, len(own) + len(unknown) + 1)}
    for turn in sorted(set(turns.values())):
        before = turn - timedelta(seconds=1)
        look(database, before)
        assert queued(database) == {number for number, when in turns.items() if when <= before}
        look(database, turn)
        assert queued(database) == {number for number, when in turns.items() if when <= turn}
    assert not planned(database)


def test_issue_is_sent_zone_by_zone_by_a_worker_that_is_restarted(database: Database, tmp_path: Path) -> None:
    people(database, ["Asia/Tokyo", HOME, "America/New_York", "America/New_York"])
    add(database)
    got: list[int] = []
    for zone, leaves in (("Asia/Tokyo", None), (HOME, 3), ("America/New_York", None)):
        worker = Worker(database, tmp_path)
        worker.at = instant(WALL, zone)
        worker.rounds.once()
        got.append(len(worker.mailed()))
        with database.transaction() as connection:
            (issue,) = issues.issues(connection)
            assert issue.state is (IssueState.FINISHED if zone == "America/New_York" else IssueState.SENDING)
            if leaves is not None:
                connection.execute(
                    update(Subscriber).where(Subscriber.c.id == leaves).values(status="unsubscribed")
                )
    assert got == [1, 2, 3]
    assert worker.mailed() == ["s1@example.org", "s2@example.org", "s4@example.org"]


def test_who_changes_zone_or_subscribes_in_between_gets_it_once_or_not_at_all(database: Database) -> None:
    people(database, ["Asia/Tokyo", "America/New_York", "America/New_York", HOME])
    add(database)
    look(database, instant(WALL, "Asia/Tokyo"))
    with database.transaction() as connection:
        for number, zone in ((1, "America/New_York"), (2, "Asia/Tokyo")):
            connection.execute(
                update(Subscriber).where(Subscriber.c.id == number).values(attributes={"timezone": zone})
            )
    subscribe(database, 1, first=5)
    with database.transaction() as connection:
        late = instant(WALL, "Asia/Tokyo") + MINUTE
        connection.execute(update(Subscriber).where(Subscriber.c.id == 5).values(created_at=late))
    look(database, instant(WALL, HOME))
    assert queued(database) == {1, 2, 4}
    look(database, instant(WALL, "America/New_York"))
    assert queued(database) == {1, 2, 3, 4}
    assert not planned(database)


def test_cancelling_stops_the_zones_that_have_not_had_their_turn(database: Database, tmp_path: Path) -> None:
    people(database, ["Asia/Tokyo", HOME])
    add(database)
    worker = Worker(database, tmp_path)
    worker.at = instant(WALL, "Asia/Tokyo")
    worker.rounds.once()
    with database.transaction() as connection:
        schedule.cancel(connection, "1")
        (issue,) = issues.issues(connection)
        assert issue.state is IssueState.FINISHED
    worker.at = instant(WALL, HOME)
    worker.rounds.once()
    assert worker.mailed() == ["s1@example.org"]


@pytest.mark.parametrize("act", ["cancel", "withdraw", "new only"])
def test_ending_the_issue_ends_its_schedule(database: Database, act: str) -> None:
    people(database, ["Asia/Tokyo", HOME])
    add(database)
    look(database, instant(WALL, "Asia/Tokyo"))
    with database.transaction() as connection:
        (issue,) = issues.issues(connection)
        if act == "cancel":
            control.cancel(connection, issue.id, at=AT)
        elif act == "withdraw":
            control.withdraw(connection, issue.id)
        else:
            newcomers.queue_newcomers(connection, issue.id, None, at=AT)
    assert not planned(database)
    assert len(queued(database)) == {"cancel": 1, "withdraw": 0, "new only": 2}[act]


def test_paused_issue_stays_paused_when_the_next_zone_is_queued(database: Database) -> None:
    people(database, ["Asia/Tokyo", HOME])
    add(database)
    look(database, instant(WALL, "Asia/Tokyo"))
    with database.transaction() as connection:
        (issue,) = issues.issues(connection)
        control.pause(connection, issue.id, "by the operator")
    look(database, instant(WALL, HOME))
    with database.reading() as connection:
        assert issues.get(connection, issue.id).state is IssueState.PAUSED
    assert queued(database) == {1, 2}


@pytest.mark.parametrize(("late", "expected"), [(STALE_AFTER, {1, 2}), (STALE_AFTER + MINUTE, {1})])
def test_zone_whose_turn_was_missed_by_more_than_an_hour_waits_for_the_operator(
    database: Database, late: timedelta, expected: set[int]
) -> None:
    people(database, ["Asia/Tokyo", HOME, "America/New_York"])
    add(database)
    look(database, instant(WALL, "Asia/Tokyo"))
    look(database, instant(WALL, HOME) + late)
    assert queued(database) == expected
    if expected == {1}:
        assert alerts(database) == [
            "001-hello was to be sent at 2026-03-10 08:00, and no worker ran then."
            " It is not sent to the rest. To send it: mailer send 001-hello --new-only"
        ]
        look(database, instant(WALL, "America/New_York"))
        assert queued(database) == expected


def test_worker_that_was_off_before_anyones_turn_misses_nothing(database: Database) -> None:
    people(database, [HOME])
    add(database)
    look(database, instant(WALL, HOME))
    assert (queued(database), alerts(database)) == ({1}, [])


def test_adopted_copy_sends_no_further_zone(database: Database) -> None:
    people(database, ["Asia/Tokyo", HOME])
    add(database)
    look(database, instant(WALL, "Asia/Tokyo"))
    at = instant(WALL, HOME) + MINUTE
    assert adopting.adopt(database, at=at).missed == [EDITION.slug]
    look(database, at)
    assert queued(database) == {1}


def test_time_that_has_passed_where_a_subscriber_is_is_refused(database: Database) -> None:
    people(database, [HOME, "Asia/Tokyo"])
    at = instant(WALL, "Asia/Tokyo")
    with pytest.raises(RefusedError, match="has passed in Asia/Tokyo, the zone of 1 subscriber;"):
        add(database, at=at)
    # Nobody lives where the day began even earlier.
    add(database, at=at - MINUTE)
    look(database, at)
    assert queued(database) == {2}


def test_time_with_an_offset_is_refused(database: Database) -> None:
    with pytest.raises(RefusedError, match="no offset"):
        add(database, WALL.replace(tzinfo=UTC))


@both
def test_two_workers_that_look_at_the_same_time_queue_everyone_once(database: Database) -> None:
    people(database, ["Asia/Tokyo", HOME, HOME])
    add(database)
    for zone, expected in (("Asia/Tokyo", {1}), (HOME, {1, 2, 3})):
        start, at = threading.Barrier(2), instant(WALL, zone)

        def look_too(start: threading.Barrier = start, at: datetime = at) -> None:
            start.wait()
            look(database, at)

        with in_threads(look_too, 2) as done:
            pass
        assert [each.result() for each in done] == [None, None]
        assert queued(database) == expected
    assert not planned(database)


@both
def test_plan_shows_who_gets_it_when(database: Database) -> None:
    people(database, ["Asia/Tokyo", "Asia/Seoul", "Asia/Tokyo", HOME, None])
    add(database)

    def shown(at: datetime) -> list[tuple[datetime, int, tuple[str, ...]]]:
        with database.reading() as connection:
            return [
                (wave.at, wave.people, wave.zones)
                for wave in waves_of(connection, Settings(), EDITION.slug, at=at)
            ]

    first, second = instant(WALL, "Asia/Tokyo"), instant(WALL, HOME)
    home = (second, 2, (HOME, ""))
    assert shown(AT) == [(first, 3, ("Asia/Tokyo", "Asia/Seoul")), home]
    look(database, first)
    assert shown(first) == [home]
    look(database, second)
    assert shown(second) == []


ZONES = st.sampled_from(
    ["Pacific/Kiritimati", "Asia/Kolkata", HOME, "America/New_York", "Pacific/Niue", None]
)


@settings(max_examples=40, deadline=None)
@given(
    zones=st.lists(ZONES, min_size=1, max_size=8),
    minutes=st.lists(st.integers(0, 30 * 60), max_size=8).map(sorted),
    gone=st.dictionaries(st.integers(1, 8), st.integers(0, 30 * 60), max_size=3),
)
def test_whenever_workers_look_everyone_is_queued_at_most_once_and_never_early(
    zones: list[str | None], minutes: list[int], gone: dict[int, int]
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        database = stack.enter_context(empty_database(folder))
        people(database, zones)
        add(database)
        start = instant(WALL, "Pacific/Kiritimati")
        for minute in minutes:
            at = start + timedelta(minutes=minute)
            with database.transaction() as connection:
                for number in (number for number, when in gone.items() if when <= minute):
                    connection.execute(
                        update(Subscriber).where(Subscriber.c.id == number).values(status="unsubscribed")
                    )
            before = queued(database)
            look(database, at)
            for number in queued(database) - before:
                assert instant(WALL, zones[number - 1] or HOME) <= at
                assert gone.get(number, 10_000) > minute
        with database.reading() as connection:
            states = set(connection.scalars(select(Delivery.c.state)))
        assert states <= {DeliveryState.QUEUED.value}
