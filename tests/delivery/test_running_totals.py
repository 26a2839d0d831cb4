"""Running totals: no transaction waits for another to add to them, and they survive being folded."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from sqlalchemy import func, insert, select, text

from mailer.database import running_totals
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, RunningTotal
from mailer.delivery import control, queue, runs
from mailer.delivery.backups import findings
from mailer.delivery.books import books_of, running_books
from mailer.delivery.queue import Settled
from tests.delivery.scene import AT, queued
from tests.postgres import Server

SERVERS = 80


@pytest.fixture
def database(postgresql: Server) -> Database:
    found = Database(postgresql.new_database())
    found.open()
    return found


def test_runs_on_postgresql_do_not_wait_for_each_other(database: Database) -> None:
    with database, ExitStack() as open_ones:
        issue = queued(database, 40)
        with database.transaction() as connection:
            ours = [runs.begin(connection, issue.id, at=AT) for _ in range(4)]
        # Each transaction stays open while the next ones claim and settle.
        for run_id in ours:
            connection = open_ones.enter_context(database.transaction())
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            taken = queue.claim(
                connection, issue.id, run_id=run_id, limit=10, after=0, at=AT, resend_uncertain=True
            )
            sent = [Settled(one.recipient.subscriber_id, DeliveryState.SENT) for one in taken.claimed[:7]]
            queue.settle(connection, issue.id, sent, run_id=run_id, at=AT)
        open_ones.close()
        with database.reading() as connection:
            found = running_books(connection, issue.id)
            assert (found.sent, found.sending, found.queued) == (28, 12, 0)
            assert found == books_of(connection, issue.id)
        assert findings(database) == []


def test_rows_of_many_servers_become_one_and_the_sums_stay(database: Database) -> None:
    with database:
        issue = queued(database, 3)
        with database.transaction() as connection:
            rows = [
                {"issue_id": issue.id, "slot": -slot}
                | {state.value: slot * (-1) ** number for number, state in enumerate(DeliveryState)}
                for slot in range(1, SERVERS + 1)
            ]
            connection.execute(insert(RunningTotal), rows)
        number_of_rows = select(func.count()).select_from(RunningTotal)
        with database.reading() as connection:
            before = running_books(connection, issue.id)
        # A row that another transaction is changing stays as it is, and nobody waits for it.
        with database.transaction() as busy:
            busy.execute(text("UPDATE running_totals SET sent = sent + 1 WHERE slot = -1"))
            with database.transaction() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                running_totals.fold(connection, issue.id)
                assert connection.scalar(number_of_rows) == 2
        with database.reading() as connection:
            assert running_books(connection, issue.id).sent == before.sent + 1
            assert running_books(connection, issue.id).queued == before.queued


def test_totals_of_an_issue_go_with_it(database: Database) -> None:
    with database:
        issue = queued(database, 3)
        with database.transaction() as connection:
            assert control.withdraw(connection, issue.id) == 3
            assert connection.execute(select(RunningTotal)).all() == []


def test_check_of_a_database_notices_wrong_totals(database: Database) -> None:
    with database:
        issue = queued(database, 3)
        with database.transaction() as connection:
            running_totals.add(connection, issue.id, {DeliveryState.SENT.value: 1})
        assert findings(database) == ["the running totals of 001-hello differ from its deliveries"]
