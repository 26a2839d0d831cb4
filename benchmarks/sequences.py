"""The periodic look at a sequence of 1,000,000 people, for each kind of trigger, and its memory."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text, update

from benchmarks import Figure
from benchmarks.people import database_of
from mailer.config import Sequence, Settings
from mailer.database.engine import Database
from mailer.database.tables import StoredSequence
from mailer.delivery.clock import now
from mailer.delivery.sequences import looking, storing
from tests.delivery.steps import NAME, step

_BAR = "<= 1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many people are in the sequence."""
    parser.add_argument("--sequence-people", type=int, default=1_000_000, metavar="N", help="for 'sequences'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the seconds of a look while nobody is due, and while a batch is."""
    number = options.sequence_people
    with tempfile.TemporaryDirectory() as scratch, database_of(Path(scratch), number) as database:
        with database.transaction() as connection:
            connection.execute(
                text("INSERT INTO subscriber_tags (subscriber_id, tag) SELECT id, 'all' FROM subscribers")
            )
        for trigger in ("confirmed", "tag:all", "date:birthday"):
            _fill(database, trigger)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            took = min(_look(database) for _ in range(3))
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            yield Figure(
                "sequences", f"seconds to look at {number:,} people ({trigger})", took,
                ratio=took, bar=_BAR, holds=took <= 1, unit="s",
            )  # fmt: skip
            yield Figure("sequences", "memory that the looks added", grown, unit="MB")
        with database.transaction() as connection:
            connection.execute(
                text("UPDATE sequence_members SET due_at = 0 WHERE subscriber_id <= :n"), {"n": looking.BATCH}
            )
        took = _look(database)
        yield Figure("sequences", f"seconds to queue {looking.BATCH:,} of them", took, unit="s")


def _fill(database: Database, trigger: str) -> None:
    """Put everyone into a sequence, waiting for its second step."""
    with database.transaction() as connection:
        for table in ("sequence_members", "sequence_steps", "sequences"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("DELETE FROM issues WHERE sequence_id IS NOT NULL"))
        sequence_id = storing.apply(connection, NAME, Sequence(), [step("1"), step("2", 5)], at=now())
        everyone = text(
            "INSERT INTO sequence_members"
            " (sequence_id, subscriber_id, entered_at, since_at, next_step_id, due_at, zone)"
            " SELECT :sequence, id, 1, 1, :step, :due, '' FROM subscribers"
        )
        second = looking.steps_of(connection, sequence_id)[1]
        due = int((now() + timedelta(days=5)).timestamp() * 1_000_000)
        connection.execute(everyone, {"sequence": sequence_id, "step": second.id, "due": due})
        connection.execute(update(StoredSequence).values(trigger=trigger))


def _look(database: Database) -> float:
    began = time.perf_counter()
    looking.look(database, Settings(), at=now())
    return time.perf_counter() - began
