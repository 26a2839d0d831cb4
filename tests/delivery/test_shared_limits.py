"""Several machines on one PostgreSQL database keep every limit together."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from mailer.database.engine import Database
from mailer.database.tables import Seat
from mailer.smtp.limits import BURST_SECONDS
from tests.connections import new_database
from tests.delivery.machine import WINDOW, Machine
from tests.delivery.scene import books, queued
from tests.delivery.test_sharing import most
from tests.end_to_end.recorder import Recorder
from tests.postgres import Server

RATE = 80
CONNECTIONS = 6
MACHINES = 4


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def wait_for(recorder: Recorder, messages: int) -> None:
    until = time.monotonic() + 60
    while recorder.total < messages:
        assert time.monotonic() < until
        time.sleep(0.01)


def wait_for_heirs(database: Database) -> None:
    """Wait until three machines have all connections, for ten seconds at most."""
    until = time.monotonic() + 10
    while True:
        with database.reading() as connection:
            seats = list(connection.scalars(select(Seat.c.connections).where(Seat.c.wanted > 0)))
        if len(seats) == MACHINES - 1 and sum(seats) == CONNECTIONS:
            return
        assert time.monotonic() < until, seats
        time.sleep(0.1)


def started(database: Database, port: int) -> subprocess.Popen[bytes]:
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.delivery.machine", url, str(port), "resend"]
    return subprocess.Popen([*command, str(RATE), str(CONNECTIONS)], stdout=subprocess.DEVNULL)


def test_four_machines_of_which_one_dies_keep_the_limits_and_the_others_take_over(database: Database) -> None:
    people = 700
    issue = queued(database, people)
    with Recorder() as recorder:
        machines = [started(database, recorder.port) for _ in range(MACHINES)]
        wait_for(recorder, people // 3)
        machines[0].kill()
        machines[0].wait()
        wait_for_heirs(database)
        for machine in machines[1:]:
            assert machine.wait(60) == 0
    assert books(database, issue).sent == len(recorder.accepted) == people
    assert recorder.total - people <= WINDOW
    assert recorder.most_connections <= CONNECTIONS
    # The network and a busy machine delay some messages, too.
    assert most(recorder.times) <= RATE * (5 + 2 * BURST_SECONDS) + MACHINES


def test_421_that_one_machine_gets_slows_the_other(database: Database) -> None:
    people = 350
    issue = queued(database, people)
    url = database.url.render_as_string(hide_password=False)
    with Recorder(busy_after=80) as first, Recorder() as second:
        machines = [Machine(url, one.port, provider_rate=RATE) for one in (first, second)]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.wait()
    assert [machine.error for machine in machines] == [None, None]
    found = books(database, issue)
    assert (found.sent + found.deferred, found.sent) == (people, first.total + second.total)
    # Half of the provider's rate is left for both, and each gets its half of that.
    after = sorted(at for at in second.times if at >= first.busy_at + 1.5)
    assert 0 < most(after, 1.5) <= RATE / 4 * (1.5 + 2 * BURST_SECONDS) + 2
