"""Issues that are sent at a set time: which instant that is, and that it happens once or not at all."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer.database.engine import Database
from mailer.database.tables import CanaryState, DeliveryState, IssueState
from mailer.delivery import canary, control, issues, queue, runs, schedule
from mailer.delivery.books import books_of
from mailer.delivery.queue import Settled
from mailer.delivery.schedule import STALE_AFTER
from mailer.delivery.work import with_work
from mailer.errors import RefusedError, SourceError
from tests.connections import in_threads
from tests.delivery.scene import (
    AT,
    EDITION,
    books,
    queued,
    subscribe,
)
from tests.delivery.scheduling import DUE, Worker, add, alerts, working


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        ("2026-12-04T08:00", "Europe/Bucharest", "2026-12-04T06:00Z"),
        ("2026-06-05T08:00", "Europe/Bucharest", "2026-06-05T05:00Z"),
        ("2026-12-04T08:00", "America/New_York", "2026-12-04T13:00Z"),
        ("2026-12-04T08:00", "Asia/Kathmandu", "2026-12-04T02:15Z"),
        ("2026-12-04T08:00+01:00", "America/New_York", "2026-12-04T07:00Z"),
        # Skipped: clocks go from 02:00 to 03:00 in New York, and from 03:00 to 04:00 in Bucharest.
        ("2026-03-08T02:30", "America/New_York", "2026-03-08T07:30Z"),
        ("2026-03-29T03:30", "Europe/Bucharest", "2026-03-29T01:30Z"),
        # Occurs twice: the first.
        ("2026-11-01T01:30", "America/New_York", "2026-11-01T05:30Z"),
        ("2026-10-25T03:30", "Europe/Bucharest", "2026-10-25T00:30Z"),
    ],
)
def test_local_time_is_an_instant(local: str, zone: str, expected: str) -> None:
    assert schedule.instant(datetime.fromisoformat(local), zone) == datetime.fromisoformat(expected)


def test_skipped_time_is_shown_as_the_clocks_will_show_it() -> None:
    due_at = schedule.instant(datetime.fromisoformat("2026-03-08T02:30"), "America/New_York")
    shown = schedule.Scheduled("x", "", due_at, "America/New_York", missed=False).local
    assert f"{shown:%H:%M %Z}" == "03:30 EDT"


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Worker:
    return Worker(database, tmp_path)


def test_scheduled_issue_is_sent_at_its_time_to_the_audience_of_that_time(
    database: Database, worker: Worker
) -> None:
    subscribe(database, 3)
    add(database)
    worker.at = DUE - timedelta(seconds=1)
    worker.rounds.once()
    assert worker.mailed() == []
    subscribe(database, 1, first=4)
    worker.at = DUE
    worker.rounds.once()
    worker.rounds.once()
    assert worker.mailed() == [f"s{n}@example.org" for n in (1, 2, 3, 4)]
    assert worker.said[0] == "001-hello: queued"
    with database.reading() as connection:
        assert schedule.scheduled(connection) == []


def test_restart_before_or_after_its_time_does_not_change_who_gets_a_scheduled_issue(
    database: Database, tmp_path: Path
) -> None:
    subscribe(database, 2)
    add(database)
    mailed = []
    for minutes in (-60, -1, 0, 1, 30, 24 * 60):
        worker = Worker(database, tmp_path)
        worker.at = DUE + timedelta(minutes=minutes)
        worker.rounds.once()
        mailed.append(len(worker.mailed()))
    assert mailed == [0, 0, 2, 2, 2, 2]


@pytest.mark.parametrize(("late", "mailed"), [(STALE_AFTER, 2), (STALE_AFTER + timedelta(seconds=1), 0)])
def test_issue_that_is_too_late_waits_for_the_operator(
    database: Database, worker: Worker, late: timedelta, mailed: int
) -> None:
    subscribe(database, 2)
    add(database)
    worker.at = DUE + late
    worker.rounds.once()
    worker.rounds.once()
    assert len(worker.mailed()) == mailed
    if mailed:
        return
    assert alerts(database) == [
        "001-hello was to be sent at 2026-03-04 11:00, and no worker ran then."
        " It is not sent. To send it: mailer send 001-hello"
    ]
    with database.reading() as connection:
        assert [one.missed for one in schedule.scheduled(connection)] == [True]


def test_cancelled_schedule_sends_nothing(database: Database, worker: Worker) -> None:
    subscribe(database, 2)
    add(database)
    with database.transaction() as connection:
        assert schedule.cancel(connection, "1") == "001-hello"
        with pytest.raises(SourceError, match="no issue '1' is scheduled"):
            schedule.cancel(connection, "1")
    worker.at = DUE
    worker.rounds.once()
    assert worker.mailed() == []


def test_scheduling_again_replaces_time_and_content(database: Database) -> None:
    add(database)
    with database.transaction() as connection:
        changed = replace(EDITION, subject="Hello again")
        schedule.add(
            connection,
            changed,
            source_path="x.md",
            segment="",
            due_at=DUE + timedelta(days=1),
            zone="",
            at=AT,
        )
        assert [one.due_at for one in schedule.scheduled(connection)] == [DUE + timedelta(days=1)]
        at = DUE + timedelta(days=1)
        issue = schedule.queue_due(connection, EDITION.slug, at=at, condition=None)
        assert issue is not None
        assert issue.edition_digest == changed.digest


def test_issue_that_is_queued_by_hand_is_not_scheduled_any_more(database: Database) -> None:
    add(database)
    queued(database, 1)
    with database.reading() as connection:
        assert schedule.scheduled(connection) == []
    with pytest.raises(RefusedError, match="is queued already"):
        add(database)


def test_past_time_is_refused(database: Database) -> None:
    with pytest.raises(RefusedError, match="has passed"):
        add(database, due_at=AT)


def test_two_workers_queue_an_issue_once(database: Database) -> None:
    subscribe(database, 3)
    add(database)
    start = threading.Barrier(2)

    def queue_it() -> bool:
        start.wait()
        with database.transaction() as connection:
            return schedule.queue_due(connection, EDITION.slug, at=DUE, condition=None) is not None

    with in_threads(queue_it, 2) as done:
        pass
    assert sorted(each.result() for each in done) == [False, True]
    with database.reading() as connection:
        assert len(issues.issues(connection)) == 1


def test_issue_has_work_while_something_is_queued_interrupted_or_due(database: Database) -> None:
    issue = queued(database, 2)

    def works(at: datetime = AT) -> bool:
        with database.reading() as connection:
            return [one.id for one in with_work(connection, at=at, resend_uncertain=True)] == [issue.id]

    assert works()
    with database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        queue.claim(connection, issue.id, run_id=run_id, limit=2, after=0, at=AT, resend_uncertain=True)
    assert works()
    with database.transaction() as connection:
        later = Settled(2, DeliveryState.DEFERRED, due_at=DUE, code=451)
        sent = Settled(1, DeliveryState.SENT)
        queue.settle(connection, issue.id, [sent, later], run_id=run_id, at=AT)
        runs.end(connection, run_id, at=AT)
    assert not works(DUE - timedelta(seconds=1))
    assert works(DUE)
    with database.transaction() as connection:
        control.pause(connection, issue.id, "by the operator")
    assert not works(DUE)


def test_worker_closed_during_a_run_settles_messages_in_flight(database: Database, worker: Worker) -> None:
    issue = queued(database, 400)
    worker.at = datetime.now(UTC)
    with working(worker):
        while len(worker.mailed()) < 20:
            pass
    found = books(database, issue)
    assert found.sending == found.uncertain == 0
    assert found.sent == len(worker.mailed()) >= 20
    with database.reading() as connection:
        assert issues.get(connection, issue.id).state in (IssueState.SENDING, IssueState.FINISHED)


def test_canary_that_waits_for_reports_does_not_delay_another_issue(
    database: Database, worker: Worker
) -> None:
    subscribe(database, 4)
    with database.transaction() as connection:
        first, _ = issues.enqueue(connection, EDITION, source_path="a.md", at=AT)
        canary.begin(connection, first.id, 0.5, ())
        other = replace(EDITION, slug="002-other")
        second, _ = issues.enqueue(connection, other, source_path="b.md", at=AT)
    with working(worker):
        until = time.monotonic() + 30
        while True:
            with database.reading() as connection:
                sent = books_of(connection, second.id).sent
                waits = issues.get(connection, first.id).canary is CanaryState.WAITING
            if sent == 4 and waits:
                break
            assert time.monotonic() < until, worker.said
            time.sleep(0.05)
    with database.reading() as connection:
        assert (books_of(connection, first.id).sent, books_of(connection, first.id).queued) == (2, 2)
