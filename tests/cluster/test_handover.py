"""`mailer send` beside workers: it reads little, and says what the workers wait for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from mailer.cluster import members
from mailer.cluster.handover import watch
from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, IssueState
from mailer.delivery import issues, queue, runs
from mailer.delivery.clock import now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.queue import Settled
from mailer.review.status import status_of
from tests.cluster.scene import WorkerThread, settings, wait_until
from tests.delivery.scene import AT, queued
from tests.postgres import Server


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    with Database(postgresql.new_database()) as made:
        made.open()
        yield made


def living(database: Database) -> bool:
    with database.reading() as connection:
        return bool(members.living(connection))


def test_command_says_why_no_worker_can_send_and_so_does_the_status(
    database: Database, tmp_path: Path
) -> None:
    issue = queued(database, 3)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    said: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if "tries again" in line:
            heard.set()

    ended: list[Ended | None] = []

    def look() -> None:
        with Database(database.url.render_as_string(hide_password=False)) as own:
            ended.append(watch(own, issue, DeliverySettings(), say=say, progress=lambda books: None))

    watching = threading.Thread(target=look)
    with WorkerThread(database.url.render_as_string(hide_password=False), settings(tmp_path, port)):
        wait_until(lambda: living(database))
        watching.start()
        assert heard.wait(60), said
        with database.reading() as connection:
            status = status_of(connection, issue)
    watching.join(30)
    assert ended == [None]
    assert said[0] == "the workers send it; Ctrl-C ends only this command"
    assert said[1].startswith("a worker waits before it tries again: ")
    assert f"127.0.0.1:{port}" in said[1]
    assert f"127.0.0.1:{port}" in status.left_because
    assert len(said) == 2


def test_issue_whose_last_delivery_is_settled_is_finished_although_its_run_has_not_ended(
    database: Database,
) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        members.enter(connection, "a", at=now())
        run_id = runs.begin(connection, issue.id, at=AT)
        queue.claim(connection, issue.id, run_id=run_id, limit=1, after=0, at=AT, resend_uncertain=True)
        queue.settle(connection, issue.id, [Settled(1, DeliveryState.SENT)], run_id=run_id, at=AT)
    ended = watch(database, issue, DeliverySettings(), say=lambda line: None, progress=lambda books: None)
    assert ended is not None
    assert (ended.ending, ended.books.sent) == (Ending.FINISHED, 1)
    with database.reading() as connection:
        assert issues.get(connection, issue.id).state is IssueState.FINISHED


def test_deliveries_are_counted_less_often_the_longer_that_takes(database: Database) -> None:
    issue = queued(database, 3)
    with database.transaction() as connection:
        members.enter(connection, "a", at=now())
    seconds, looks, counts = 0.0, 0, 0

    def count(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        nonlocal seconds, counts
        if "deliveries" in statement and "count(" in statement:
            seconds, counts = seconds + 2.0, counts + 1

    def sleep(for_seconds: float) -> None:
        nonlocal seconds, looks
        seconds, looks = seconds + for_seconds, looks + 1
        if looks == 100:
            raise KeyboardInterrupt

    event.listen(database.engine, "before_cursor_execute", count)
    shown: list[int] = []
    said: list[str] = []
    ended = watch(
        database, issue, DeliverySettings(), say=said.append,
        progress=lambda books: shown.append(books.queued), sleep=sleep, ticks=lambda: seconds,
    )  # fmt: skip
    assert ended is not None
    assert (ended.ending, ended.books.queued) == (Ending.STOPPED, 3)
    # Once in 42 seconds, and at the end.
    assert (shown, counts) == ([3, 3, 3], 4)
    assert said[-1] == "the workers go on; to stop them: mailer pause 001-hello"
