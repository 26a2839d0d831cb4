"""On PostgreSQL the event loop waits for no query, and still nobody is mailed who has opted out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import event, update

from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery.bookkeeping import OPT_OUT_SECONDS
from tests.connections import new_database
from tests.delivery.machine import Machine
from tests.delivery.scene import books, queued
from tests.end_to_end.recorder import Recorder
from tests.postgres import Server

PEOPLE = 150


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def test_event_loop_waits_for_no_query(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    queued(database, PEOPLE)
    asked: set[int | None] = set()
    made: list[Database] = []
    make = Database.__init__

    def watched(self: Database, url: str) -> None:
        make(self, url)
        made.append(self)
        event.listen(
            self.engine, "before_cursor_execute", lambda *_: asked.add(threading.get_ident()), named=False
        )

    monkeypatch.setattr(Database, "__init__", watched)
    with Recorder() as recorder:
        machine = Machine(database.url.render_as_string(hide_password=False), recorder.port)
        # What is asked before the loop runs does not count.
        machine.before_loop = asked.clear
        machine.start()
        machine.wait()
    assert machine.error is None
    assert len(made) == 1
    assert len(recorder.accepted) == PEOPLE
    assert asked
    assert machine.ident not in asked


def test_opt_out_takes_effect_in_time_for_claimed_deliveries(database: Database) -> None:
    issue = queued(database, PEOPLE)
    with Recorder() as recorder:
        machine = Machine(database.url.render_as_string(hide_password=False), recorder.port, window=PEOPLE)
        machine.start()
        while recorder.total < 10:
            time.sleep(0.005)
        with database.transaction() as connection:
            connection.execute(update(Subscriber).values(status="unsubscribed"))
        left_at = time.monotonic()
        machine.wait()
    assert machine.error is None
    # A message that had begun was on its way for a moment.
    assert [at for at in recorder.times if at > left_at + OPT_OUT_SECONDS + 0.5] == []
    found = books(database, issue)
    assert (found.sent, found.skipped) == (recorder.total, PEOPLE - recorder.total)
    assert found.skipped > 0
