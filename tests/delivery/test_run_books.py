"""When a run writes its books, and looks for opt-outs, beside its connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mailer.database.tables import DeliveryState, IssueState
from mailer.delivery.ending import Ending
from mailer.delivery.letter_queue import LETTERS_AT_ONCE
from mailer.delivery.queue import Settled, Taken
from mailer.delivery.sender import Sender
from mailer.errors import StorageError
from mailer.smtp.pool import Item
from tests.delivery.run_scene import Scene, must_not_be_asked, void
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scripted import Script


def keeping(scene: Scene, seconds: float, prepare: Callable[[Sender], None], **hooks: Any) -> list[float]:
    """Keep the books for a while; return when they were written."""
    at: list[float] = []

    async def go() -> None:
        sender = scene.sender(**hooks)
        sender._wrote_at = clock().time()

        async def commit(count: int, except_domains: frozenset[str]) -> None:
            assert (count, except_domains) == (0, frozenset())
            at.append(scene.seconds())
            sender._books.unwritten.outcomes.clear()
            sender._wrote_at = clock().time()

        sender._commit = commit  # type: ignore[assignment, method-assign]
        prepare(sender)
        task = clock().create_task(sender._keep_books())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_clocked(go())
    return at


def settle(sender: Sender) -> None:
    sender._books.unwritten.outcomes.append(Settled(1, DeliveryState.SENT))


def test_books_of_an_idle_run_are_written_three_times_less_often(scene: Scene) -> None:
    assert keeping(scene, 3, lambda sender: None) == pytest.approx([0.75, 1.5, 2.25], abs=0.09)
    assert len(scene.shown) > 9


@pytest.mark.parametrize(("at", "written"), [(0.0, 0.25), (0.2, 0.25), (0.26, 0.33), (0.4, 0.42)])
def test_outcome_is_written_at_the_next_look(scene: Scene, at: float, written: float) -> None:
    first, *_ = keeping(scene, 0.6, lambda sender: void(clock().call_later(at, settle, sender)))
    assert first == pytest.approx(written, abs=0.005)


def test_claim_that_has_written_meanwhile_spares_a_commit(scene: Scene) -> None:
    def claims(sender: Sender) -> None:
        def claim() -> None:
            sender._wrote_at = clock().time()
            settle(sender)

        clock().call_later(0.2, claim)

    assert keeping(scene, 0.5, claims) == pytest.approx([0.45], abs=0.005)


@pytest.mark.parametrize(("refused", "first"), [(True, 0.05), (False, 0.75)])
def test_refused_request_for_limits_is_repeated_soon(scene: Scene, refused: bool, first: float) -> None:
    def prepare(sender: Sender) -> None:
        assert sender._sharing is not None
        sender._sharing.refused = refused

    assert keeping(scene, 1, prepare, begun=void)[0] == pytest.approx(first, abs=0.09 * (not refused) + 0.001)


def test_letters_and_latencies_are_looked_after_each_half_second(scene: Scene) -> None:
    asked: list[tuple[float, int, frozenset[str]]] = []
    wrote: list[float] = []
    letters = scene.letters()

    async def exchange(count: int, except_domains: frozenset[str] = frozenset()) -> Sequence[Item]:
        asked.append((scene.seconds(), count, except_domains))
        return []

    async def write() -> None:
        wrote.append(scene.seconds())

    def prepare(sender: Sender) -> None:
        sender._latencies.write_when_due = write  # type: ignore[method-assign]
        sender._pool.hold("held.example", 60)

    letters.exchange = exchange  # type: ignore[method-assign]
    keeping(scene, 2.3, prepare, letters=letters)
    assert wrote == [at for at, _, _ in asked] == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=0.12)
    assert {tuple(rest) for _, *rest in asked} == {(LETTERS_AT_ONCE, frozenset({"held.example"}))}


@pytest.mark.parametrize(
    ("outcomes", "age", "must"),
    [(0, 0.0, False), (0, 0.74, False), (0, 0.75, True), (0, 0.9, True), (1, 0.0, True)],
)
def test_books_are_written_when_something_waits_or_time_has_passed(
    scene: Scene, outcomes: int, age: float, must: bool
) -> None:
    async def go() -> None:
        sender = scene.sender()
        if outcomes:
            settle(sender)
        assert sender._must_write(age) is must

    run_clocked(go())


@pytest.mark.parametrize(
    ("state", "ending"),
    [
        (IssueState.SENDING, None),
        (IssueState.FINISHED, None),
        (IssueState.PAUSED, Ending.PAUSED),
        (IssueState.CANCELLED, Ending.CANCELLED),
    ],
)
def test_issue_that_others_stopped_ends_the_run(
    scene: Scene, state: IssueState, ending: Ending | None
) -> None:
    async def go() -> None:
        sender = scene.sender()
        collected: list[bool] = []
        sender._outcomes.collect = lambda: collected.append(True)  # type: ignore[method-assign]

        async def commit(count: int, except_domains: frozenset[str]) -> Taken:
            assert collected == [True]
            sender._books.state = state
            return Taken([], 0, 0, Counter())

        sender._books.commit = commit  # type: ignore[method-assign]
        clock().advance(3)
        await sender._commit(0, frozenset())
        assert (sender._ending, sender._wrote_at) == (ending, clock().time())

    run_clocked(go())


def test_opt_outs_are_looked_for_five_times_a_second(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        sender = scene.sender()
        at: list[float] = []

        async def look() -> None:
            at.append(scene.seconds())
            if len(at) == 2:
                raise StorageError("away", remedy="wait")
            if len(at) == 4:
                raise LookupError("broken")

        sender._books.look_for_opt_outs = look  # type: ignore[method-assign]
        await sender._look_for_opt_outs()
        assert at == [0, 0.2, 0.4, 0.6]
        assert str(sender._failure) == "broken"
        assert sender._ending is Ending.STOPPED

    run_clocked(go())


def test_on_sqlite_nobody_looks_for_opt_outs_beside(scene: Scene) -> None:
    async def watch(sender: Sender) -> None:
        sender._books.look_for_opt_outs = must_not_be_asked  # type: ignore[method-assign]

    ended, _ = scene.run(Script(), watch)
    assert ended.ending is Ending.FINISHED
