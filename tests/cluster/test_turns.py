"""Workers on PostgreSQL send every issue together, several at a time, and nobody gets one twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, update

from mailer.cluster import daemon, engine, members
from mailer.cluster.chores import Chore
from mailer.cluster.daemon import Times
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, Run
from mailer.delivery import issues, runs, schedule
from mailer.delivery.clock import now
from mailer.delivery.issues import QueuedIssue
from mailer.errors import MailerError, StorageError
from tests.cluster.scene import QUICK, WorkerThread, settings, wait_until
from tests.connections import in_threads
from tests.delivery.scene import AT, EDITION, books, subscribe
from tests.delivery.scheduling import DUE
from tests.end_to_end.recorder import Recorder
from tests.postgres import Server

PEOPLE = 60


@dataclass
class Scene:
    """A PostgreSQL database with subscribers, and a server that notes what it gets."""

    url: str
    database: Database
    recorder: Recorder
    folder: Path

    def queue(self, *slugs: str) -> list[QueuedIssue]:
        with self.database.transaction() as connection:
            return [
                issues.enqueue(connection, replace(EDITION, slug=slug), source_path="x.md", at=AT)[0]
                for slug in slugs
            ]

    def worker(
        self,
        name: str = "a",
        *,
        rate: float = 0.0,
        turns: int = 0,
        chores: Sequence[Chore] = (),
        concurrency: int = 2,
        times: Times = QUICK,
        clock: Callable[[], datetime] = now,
    ) -> WorkerThread:
        made = settings(self.folder, self.recorder.port, rate=rate, turns=turns)
        return WorkerThread(
            self.url, made, chores, name=name, concurrency=concurrency, times=times, clock=clock
        )

    def is_finished(self, issue: QueuedIssue) -> bool:
        with self.database.reading() as connection:
            return issues.get(connection, issue.id).state is IssueState.FINISHED

    def run_count(self) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(Run)) or 0


@pytest.fixture
def scene(postgresql: Server, tmp_path: Path) -> Iterator[Scene]:
    url = postgresql.new_database()
    with Database(url) as database, Recorder() as recorder:
        database.open()
        subscribe(database, PEOPLE)
        yield Scene(url, database, recorder, tmp_path)


def test_tables_of_the_engine_are_made_once(scene: Scene) -> None:
    with in_threads(lambda: engine.prepare(scene.database), 3) as done:
        pass
    assert sorted(each.result() for each in done) == [False, False, True]
    assert not engine.prepare(scene.database)


def test_worker_sends_an_issue_in_several_turns(scene: Scene) -> None:
    (issue,) = scene.queue("001-a")
    with scene.worker(rate=10, times=replace(QUICK, turn_seconds=4.0)):
        wait_until(lambda: scene.is_finished(issue))
    assert scene.run_count() > 1
    assert books(scene.database, issue).sent == len(scene.recorder.accepted) == scene.recorder.total == PEOPLE


@pytest.mark.slow
def test_worker_finishes_an_issue_whose_last_run_died_after_settling_everything(scene: Scene) -> None:
    (issue,) = scene.queue("001-hello")
    with scene.database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        connection.execute(update(Delivery).values(state=DeliveryState.SENT.value, run_id=run_id))
        # Of another machine, and silent for long.
        connection.execute(update(Run).values(place="", seen_at=AT, ended_at=None))
    with scene.worker():
        wait_until(lambda: scene.is_finished(issue))
    assert scene.recorder.total == 0


def test_two_workers_send_an_issue_together_and_end_within_ten_seconds(scene: Scene) -> None:
    (issue,) = scene.queue("001-a")
    with scene.worker("a", rate=25) as a, scene.worker("b", rate=25) as b:
        wait_until(lambda: scene.is_finished(issue))
        assert scene.run_count() == 2
        with scene.database.reading() as connection:
            assert {one.name for one in members.living(connection)} == {"a", "b"}
        assert max(a.close(), b.close()) < 10
    assert books(scene.database, issue).sent == len(scene.recorder.accepted) == scene.recorder.total == PEOPLE
    with scene.database.reading() as connection:
        assert members.living(connection) == []


@pytest.mark.slow
def test_two_workers_that_restart_before_and_after_its_time_send_a_scheduled_issue_once(scene: Scene) -> None:
    minute = timedelta(minutes=1)
    dues = {"001-before": DUE - minute, "002-hello": DUE, "003-after": DUE + minute}
    with scene.database.transaction() as connection:
        for slug, due_at in dues.items():
            edition = replace(EDITION, slug=slug)
            schedule.add(connection, edition, source_path="x.md", segment="", due_at=due_at, zone="", at=AT)

    def are_sent(slugs: Sequence[str]) -> bool:
        with scene.database.reading() as connection:
            found = [issue.slug for issue in issues.issues(connection) if issue.state is IssueState.FINISHED]
        return sorted(found) == slugs

    def clock(at: datetime) -> datetime:
        return at

    for number, at in enumerate((DUE - minute / 2, DUE, DUE + minute), 1):
        now_is = partial(clock, at)
        with scene.worker("a", clock=now_is), scene.worker("b", clock=now_is):
            wait_until(partial(are_sent, list(dues)[:number]))
        assert scene.recorder.total == number * PEOPLE
    assert set(scene.recorder.accepted.values()) == {len(dues)}


def test_worker_sends_several_issues_at_the_same_time(scene: Scene) -> None:
    made = scene.queue("001-a", "002-b", "003-c")
    seen: set[int] = set()

    def together() -> bool:
        with scene.database.reading() as connection:
            seen.add(len({run.issue_id for run in runs.sending(connection)}))
        return all(scene.is_finished(issue) for issue in made)

    with scene.worker(rate=100, concurrency=2):
        wait_until(together)
    assert max(seen) == 2
    assert scene.recorder.total == 3 * PEOPLE


def test_only_as_many_workers_send_an_issue_as_configured(scene: Scene) -> None:
    (issue,) = scene.queue("001-a")
    with scene.worker("a", rate=60, turns=1), scene.worker("b", rate=60, turns=1):
        wait_until(lambda: scene.is_finished(issue))
    with scene.database.reading() as connection:
        turns = connection.execute(select(Run.c.started_at, Run.c.ended_at).order_by(Run.c.started_at)).all()
    # On a busy machine, one turn may not be enough.
    assert all(before.ended_at <= after.started_at for before, after in pairwise(turns))


def test_chore_is_done_by_one_worker_at_a_time(scene: Scene) -> None:
    at_work, most, times = 0, 0, 0
    lock = threading.Lock()

    def do() -> None:
        nonlocal at_work, most, times
        with lock:
            at_work, times = at_work + 1, times + 1
            most = max(most, at_work)
        time.sleep(1.5)
        with lock:
            at_work -= 1

    chores = [Chore("count", 1, do)]
    with scene.worker("a", chores=chores), scene.worker("b", chores=chores):
        wait_until(lambda: times >= 3)
    assert most == 1


def test_failing_chore_is_logged_and_done_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    times = 0

    def fail() -> None:
        nonlocal times
        times += 1
        raise MailerError("the mailbox is closed")

    with scene.worker(chores=[Chore("fail", 1, fail)]) as worker:
        wait_until(lambda: times >= 2)
        assert failing(worker) == {"fail"}
    assert "fail: the mailbox is closed" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("unexpected"), StorageError("the server is away")])
def test_worker_whose_loop_fails_says_so_and_goes_on(
    scene: Scene, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon, "_AWAY_SECONDS", 0.3)
    left = 2
    dead = members.remove_dead

    def fail(connection: Connection, *, dead_seconds: float) -> list[int]:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error
        return dead(connection, dead_seconds=dead_seconds)

    (issue,) = scene.queue("001-a")
    with monkeypatch.context() as broken:
        broken.setattr(members, "remove_dead", fail)
        with scene.worker() as worker:
            wait_until(lambda: failing(worker) == {"turns"})
            wait_until(lambda: scene.is_finished(issue))
            wait_until(lambda: failing(worker) == set())
    assert str(error.args[0]) in caplog.text


def failing(worker: WorkerThread) -> set[str]:
    return {one.name for one in worker.tasks.health() if one.failing_since is not None}
