"""Scheduled issues, and a worker that sends them to an outbox at times of the test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from mailer.config import Newsletter, Settings
from mailer.database.engine import Database
from mailer.database.tables import ALERT, Event
from mailer.delivery import schedule
from mailer.delivery.canary import Steps
from mailer.delivery.rounds import Rounds
from mailer.delivery.work import Work
from tests.delivery.scene import AT, EDITION, SIGNER, learn_nothing, recipients

DUE = AT + timedelta(days=2)


def add(database: Database, *, due_at: datetime = DUE, at: datetime = AT) -> None:
    with database.transaction() as connection:
        schedule.add(
            connection, EDITION, source_path="issues/001-hello.md", segment="", due_at=due_at,
            zone="Europe/Bucharest", at=at,
        )  # fmt: skip


def alerts(database: Database) -> list[str]:
    with database.reading() as connection:
        return [
            str(one["text"])
            for one in connection.scalars(select(Event.c.details).where(Event.c.kind == ALERT))
        ]


class Worker:
    """The rounds of a worker that sends to an outbox, at a time of the test's choice."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.box = folder / "outbox"
        self.at = AT
        self.said: list[str] = []
        settings = Settings(newsletter=Newsletter(author_address="ana@example.org"), folder=folder)
        work = Work(
            settings,
            database,
            SIGNER,
            learn=learn_nothing,
            steps_of=lambda run: Steps(run, lambda edition, seed: None, lambda: None, self.said.append),
            say=self.said.append,
            clock=lambda: self.at,
        )
        self.rounds = Rounds(work, look_seconds=0.05)

    def mailed(self) -> list[str]:
        return recipients(self.box) if (self.box / "new").exists() else []


@contextmanager
def working(worker: Worker) -> Iterator[None]:
    worker.rounds.start()
    try:
        yield
    finally:
        worker.rounds.close()
