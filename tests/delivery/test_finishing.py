"""An issue is finished once nothing of it is open, even if its last run was killed before it could say so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import update

from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, IssueState, Run
from mailer.delivery import issues, queue, runs
from mailer.delivery.queue import Settled
from tests.delivery.scene import AT, queued
from tests.delivery.scheduling import DUE, Worker

SENT, FAILED, SKIPPED = DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.SKIPPED
SENDING, FINISHED = IssueState.SENDING, IssueState.FINISHED


def gone() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("last", "alive", "expected"),
    [
        (SENT, False, FINISHED),
        (FAILED, False, FINISHED),
        (SKIPPED, False, FINISHED),
        # Open until it is tried again.
        (DeliveryState.DEFERRED, False, SENDING),
        # The run says so itself.
        (SENT, True, SENDING),
    ],
)
def test_look_finishes_what_a_killed_run_had_settled(
    database: Database, tmp_path: Path, last: DeliveryState, alive: bool, expected: IssueState
) -> None:
    issue = queued(database, 2)
    with database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        queue.claim(connection, issue.id, run_id=run_id, limit=2, after=0, at=AT, resend_uncertain=True)
        due_at = DUE if last is DeliveryState.DEFERRED else None
        outcomes = [Settled(1, SENT), Settled(2, last, due_at=due_at)]
        queue.settle(connection, issue.id, outcomes, run_id=run_id, at=AT)
        connection.execute(update(Run).values(pid=os.getpid() if alive else gone()))
    worker = Worker(database, tmp_path)
    worker.rounds.once()
    with database.reading() as connection:
        assert issues.get(connection, issue.id).state is expected
    assert worker.mailed() == []
