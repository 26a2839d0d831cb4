"""What a run takes and composes: messages of its issue, and letters."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from mailer.database.tables import DeliveryState
from mailer.delivery.ending import Ending
from mailer.delivery.queue import Settled, Taken
from mailer.delivery.sender import Sender
from mailer.errors import MailerError, RecipientError, RelayError, UnavailableError
from mailer.replies import ReplyClass, judge
from mailer.smtp.pool import Item, NotNowError
from mailer.smtp.session import Attempt, Fate, Reply, Stage
from tests.delivery.run_scene import Scene, must_not_be_asked, replace
from tests.smtp.clocked import run_clocked


@pytest.mark.parametrize(
    ("taken", "after", "asked", "found"),
    [
        # Each answer: how many are claimed and skipped; then where the claims before ended.
        ([(2, 0)], 0, 1, 2),
        ([(0, 0)], 0, 1, 0),
        ([(0, 3), (1, 0)], 0, 2, 1),
        ([(0, 3), (0, 0)], 0, 2, 0),
        ([(0, 0), (1, 0)], 7, 2, 1),
        ([(0, 0), (0, 0)], 7, 2, 0),
        ([(0, 3), (0, 0), (0, 0)], 7, 3, 0),
    ],
)
def test_claims_go_on_until_something_is_found_or_nothing_is_left(
    scene: Scene, taken: list[tuple[int, int]], after: int, asked: int, found: int
) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._begin()
        claimed = (await sender._books.commit(2, frozenset())).claimed
        sender._books.after = after
        cursors: list[int] = []

        async def commit(count: int, except_domains: frozenset[str]) -> Taken:
            assert (count, set(except_domains)) == (5, {"held.example"})
            cursors.append(sender._books.after)
            number, skipped = taken[len(cursors) - 1]
            return Taken(claimed[:number], sender._books.after, skipped, Counter())

        sender._books.commit = commit  # type: ignore[method-assign]
        items = await sender._take(5, frozenset({"held.example"}))
        assert [item.key for item in items] == [1, 2][:found]
        assert len(cursors) == asked == len(scene.shown)
        # It looks once more from the first row before it ends.
        assert found or cursors[-1] == 0

    run_clocked(go())


def test_run_that_ends_takes_nothing(scene: Scene) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._end_as(Ending.STOPPED)
        replace(sender._books, commit=must_not_be_asked)
        assert await sender._take(5, frozenset()) == ()

    run_clocked(go())


async def claimed(scene: Scene, **hooks: Any) -> Sender:
    """Return a sender that holds two deliveries."""
    sender = scene.sender(**hooks)
    sender._begin()
    assert len(await sender._take(2, frozenset())) == 2
    return sender


def test_message_is_ready_for_the_wire(scene: Scene) -> None:
    async def go() -> None:
        sender = await claimed(scene)
        sender._uncomposed = 3
        message = sender._compose(1)
        assert message is not None
        assert (message.key, message.wire_safe, message.envelope.recipient) == (1, True, "s1@example.org")
        assert sender._uncomposed is None
        # The next one is drafted after this one has left.
        assert sender._ahead.begun == 0
        await asyncio.sleep(0)
        assert sender._ahead.begun == 1
        sender._ahead.close()

    run_clocked(go())


def test_message_to_somebody_who_has_left_is_skipped(scene: Scene) -> None:
    async def go() -> None:
        sender = await claimed(scene)
        replace(sender._books.window, _may_begin=lambda subscriber: False)
        assert sender._compose(1) is None
        assert sender._books.unwritten.outcomes == [
            Settled(1, DeliveryState.SKIPPED, reply="opted out or suppressed before its turn")
        ]
        assert len(sender._books.window) == 1
        sender._ahead.close()

    run_clocked(go())


def test_message_waits_while_the_database_is_away(scene: Scene) -> None:
    async def go() -> None:
        sender = await claimed(scene)

        def away(subscriber: int) -> bool:
            raise UnavailableError("away", remedy="wait")

        replace(sender._books.window, _may_begin=away)
        with pytest.raises(NotNowError):
            sender._compose(1)
        assert len(sender._books.window) == 2
        sender._ahead.close()

    run_clocked(go())


def test_message_that_cannot_be_composed_fails_with_the_reason(scene: Scene) -> None:
    async def go() -> None:
        sender = await claimed(scene)

        def fail(*arguments: Any) -> Any:
            raise RecipientError("x" * 600, remedy="", field="city")

        replace(sender._ahead, message=fail)
        sender._uncomposed = 4
        assert sender._compose(1) is None
        (outcome,) = sender._books.unwritten.outcomes
        assert (outcome.subscriber_id, outcome.state) == (1, DeliveryState.FAILED)
        assert outcome.reply == "x" * 512
        assert (len(sender._books.window), sender._uncomposed) == (1, 5)
        sender._ahead.close()

    run_clocked(go())


@pytest.mark.parametrize(
    ("before", "ending"), [(None, None), (0, None), (8, None), (9, Ending.PAUSED), (10, None)]
)
def test_issue_pauses_at_the_tenth_message_that_cannot_be_composed(
    scene: Scene, before: int | None, ending: Ending | None
) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._uncomposed = before
        sender._not_composed(RecipientError("no city", remedy="", field="city"))
        assert (sender._ending, sender._uncomposed) == (ending, None if before is None else before + 1)
        assert ("no city" in sender._reason) is (ending is not None)

    run_clocked(go())


def test_reply_to_a_letter_is_heeded_for_its_provider(scene: Scene) -> None:
    async def go() -> None:
        letters = scene.letters()
        sender = await claimed(scene, letters=letters)
        verdict = judge(421, "4.7.0", "IP reputation is too low")
        assert verdict.reply_class is ReplyClass.REPUTATION
        heard: list[Any] = [None, (verdict, "big.example")]
        letters.settle = lambda attempt, relay: heard.pop(0)  # type: ignore[method-assign]
        replace(letters, compose=lambda key: key)
        relay = sender._pool.relays[0]
        for held in ([], ["big.example"]):
            sender._record(Attempt(-1, Fate.REFUSED, Stage.BODY, Reply(421, "4.7.0", "no")), relay)
            assert list(sender._pool.held()) == held
        composed: object = sender._compose(-1)
        assert composed == -1
        assert sender._books.unwritten.outcomes == []
        sender._record(Attempt(1, Fate.ACCEPTED, Stage.BODY, Reply(250, "", "ok")), relay)
        assert [one.state for one in sender._books.unwritten.outcomes] == [DeliveryState.SENT]
        sender._ahead.close()

    run_clocked(go())


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (MailerError("the disk is full", remedy="make room"), logging.ERROR),
        (LookupError("no such column"), logging.ERROR),
    ],
)
def test_letters_that_cannot_be_taken_wait(
    scene: Scene, caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    async def go() -> None:
        letters = scene.letters()
        sender = scene.sender(letters=letters)

        async def fail(*arguments: Any) -> Any:
            raise error

        replace(letters, exchange=fail, close=fail)
        await sender._take_letters()
        assert (sender._pool._pending, sender._ending) == (0, None)
        (record,) = caplog.records
        assert record.levelno == level
        assert (
            record.getMessage() == f"letters wait: {error}"
            if isinstance(error, MailerError)
            else "letters wait"
        )
        assert (record.exc_info is None) is isinstance(error, MailerError)
        caplog.clear()
        if isinstance(error, MailerError):
            await sender._close_letters(None)
            assert [one.getMessage() for one in caplog.records] == [f"letters wait: {error}"]

    run_clocked(go())


@pytest.mark.parametrize("stopping", [True, False])
def test_letters_are_taken_until_the_pool_stops(scene: Scene, stopping: bool) -> None:
    async def go() -> None:
        letters = scene.letters()
        sender = scene.sender(letters=letters)
        closed: list[RelayError | None] = []

        async def exchange(count: int, except_domains: frozenset[str] = frozenset()) -> Sequence[Item]:
            return [Item(-1, "a.example")]

        async def close(error: RelayError | None = None) -> None:
            closed.append(error)

        letters.exchange, letters.close = exchange, close  # type: ignore[method-assign]
        sender._pool.stopping = stopping
        await sender._take_letters()
        assert sender._pool.lanes.waiting == (0 if stopping else 1)
        error = RelayError("login refused")
        await sender._close_letters(error)
        assert closed == [error]

    run_clocked(go())


def test_run_without_letters_takes_none(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        sender = scene.sender()
        await sender._take_letters()
        await sender._close_letters(None)
        assert caplog.records == []

    run_clocked(go())
