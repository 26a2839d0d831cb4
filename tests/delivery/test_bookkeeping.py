"""The books of a run: whatever could not be written is written by the next transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest
from sqlalchemy import Connection, select

from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Run
from mailer.delivery import control
from mailer.delivery.bookkeeping import RunBooks
from mailer.delivery.clock import Clock
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.queue import PENDING_UNTIL, Settled
from mailer.errors import StorageError
from mailer.replies import Refusal, judge
from tests.delivery.scene import AT, books, locked, queued

NOTHING: frozenset[str] = frozenset()
SENT, DEFERRED, FAILED = DeliveryState.SENT, DeliveryState.DEFERRED, DeliveryState.FAILED


class Scene:
    """A run over eight deliveries: one to four are settled, five to eight still held."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.issue: QueuedIssue = queued(database, 8)
        self.learned: list[int] = []

    def run_books(self) -> RunBooks:
        return RunBooks(
            self.database,
            self.issue.id,
            DeliverySettings(window=8),
            learn=self._learn,
            clock=Clock(now=lambda: AT, ticks=lambda: 0.0),
        )

    def _learn(self, connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
        self.learned += [refusal.subscriber_id for refusal in refusals]

    def settle(self, run: RunBooks) -> None:
        """Note two sent, one refused for good, one whose refusal was our fault, and one given back."""
        for number in (1, 2, 3, 4, 5):
            run.window.end(number)
        run.unwritten.outcomes += [Settled(1, SENT), Settled(2, SENT)]
        run.unwritten.outcomes += [Settled(n, DEFERRED, due_at=PENDING_UNTIL, code=550) for n in (3, 4)]
        run.unwritten.unsent.append(5)
        run.unwritten.cleared.append(self.refusal(3))
        run.unwritten.ours.append(4)

    def refusal(self, number: int) -> Refusal:
        return Refusal(self.issue.id, number, judge(550, "5.1.1", "no such user"))

    def states(self) -> list[str]:
        with self.database.reading() as connection:
            return list(connection.scalars(select(Delivery.c.state).order_by(Delivery.c.subscriber_id)))


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database)


def test_everything_noted_is_written_with_the_next_claim(scene: Scene) -> None:
    async def main() -> None:
        run = scene.run_books()
        run.begin(recover=True)
        await run.commit(8, NOTHING)
        scene.settle(run)
        await run.commit(0, NOTHING)
        assert run.books == books(scene.database, scene.issue)

    asyncio.run(main())
    assert scene.states() == ["sent", "sent", "failed", "deferred", "queued", *["sending"] * 3]
    assert scene.learned == [3]


def test_nothing_is_lost_when_a_write_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.database.engine._BUSY_TIMEOUT_MS", 50)
    scene.database.engine.dispose()

    async def main() -> None:
        run = scene.run_books()
        run.begin(recover=True)
        await run.commit(8, NOTHING)
        scene.settle(run)
        with locked(scene.database), pytest.raises(StorageError):
            await run.commit(0, NOTHING)
        # What comes in meanwhile is kept behind it.
        run.window.end(6)
        run.unwritten.outcomes.append(Settled(6, SENT))
        await run.commit(0, NOTHING)
        assert run.books == books(scene.database, scene.issue)

    asyncio.run(main())
    assert scene.states() == ["sent", "sent", "failed", "deferred", "queued", "sent", "sending", "sending"]
    assert scene.learned == [3]


def test_last_outcomes_and_refusals_are_written_at_the_end(scene: Scene) -> None:
    async def main() -> tuple[RunBooks, int]:
        run = scene.run_books()
        run_id = run.begin(recover=True)
        await run.commit(8, NOTHING)
        scene.settle(run)
        assert not run.end("")
        return run, run_id

    run, run_id = asyncio.run(main())
    assert scene.states() == ["sent", "sent", "failed", "deferred", *["queued"] * 4]
    assert scene.learned == [3]
    assert run.books == books(scene.database, scene.issue)
    with scene.database.reading() as connection:
        assert connection.scalar(select(Run.c.ended_at).where(Run.c.id == run_id)) == AT


def test_refusal_whose_delivery_was_queued_again_meanwhile_teaches_nothing(scene: Scene) -> None:
    async def main() -> None:
        run = scene.run_books()
        run.begin(recover=True)
        await run.commit(8, NOTHING)
        scene.settle(run)
        run.unwritten.cleared.clear()
        await run.commit(0, NOTHING)
        with scene.database.transaction() as connection:
            control.retry(connection, scene.issue.id, DEFERRED, at=AT)
        run.unwritten.cleared.append(scene.refusal(3))
        await run.commit(0, NOTHING)

    asyncio.run(main())
    assert scene.states()[2] == "queued"
    assert scene.learned == []
