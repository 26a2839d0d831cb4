"""Workers go on by themselves after their database was away, and nobody gets an issue twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailer.database.engine import Database
from mailer.delivery import issues
from tests.cluster.scene import QUICK, WorkerThread, settings, wait_until
from tests.delivery.scene import AT, EDITION, books, queued
from tests.end_to_end.recorder import Recorder
from tests.postgres import Server, configured, running

PEOPLE = 90


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as made:
        yield made


def restart(server: Server) -> None:
    server.restart("immediate")


def read_only(server: Server) -> None:
    with configured(server, "default_transaction_read_only = on"):
        time.sleep(2)


@pytest.mark.parametrize("fault", [restart, read_only])
def test_two_workers_go_on_after_an_outage_and_email_everybody_once(
    server: Server, tmp_path: Path, recorder: Recorder, fault: Callable[[Server], None]
) -> None:
    url = server.new_database()
    made = settings(tmp_path, recorder.port, rate=30)
    with Database(url) as database:
        database.open()
        issue = queued(database, PEOPLE)
        times = replace(QUICK, dead_seconds=30.0)
        with WorkerThread(url, made, name="a", times=times), WorkerThread(url, made, name="b", times=times):
            wait_until(lambda: recorder.total >= 10)
            fault(server)
            wait_until(lambda: books(database, issue).sent == PEOPLE)
            with database.transaction() as connection:
                again = replace(EDITION, slug="002-again")
                second, _ = issues.enqueue(connection, again, source_path="x.md", at=AT)
            wait_until(lambda: books(database, second).sent == PEOPLE)
    assert (recorder.total, len(recorder.accepted)) == (2 * PEOPLE, PEOPLE)
