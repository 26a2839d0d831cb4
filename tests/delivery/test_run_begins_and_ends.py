"""How a run is put together, what it does from its beginning to its end, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from mailer.config import DeliverySettings
from mailer.delivery.ending import Ending
from mailer.delivery.queue import Taken
from mailer.delivery.sender import STOP_SECONDS, Hooks, Sender
from mailer.errors import RelayError, StorageError
from mailer.logs import RUN
from mailer.smtp.session import Outgoing
from tests.delivery.run_scene import PEOPLE, SETTINGS, Scene, replace, silent
from tests.delivery.scene import books, learn_nothing
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scripted import Script
from tests.smtp.test_session import on


def test_run_is_put_together_as_its_settings_say(scene: Scene) -> None:
    async def go() -> None:
        said: list[str] = []
        sender = scene.sender(settings=DeliverySettings(window=1), say=said.append)
        pool = sender._pool
        assert (pool._window, pool._say, pool.now) == (1, said.append, clock().time)
        assert pool.may_send == sender._books.may_send
        assert pool.connected == sender._latencies.connected
        assert scene.sender(settings=DeliverySettings(window=9))._pool._window == 4
        assert Hooks(learn_nothing).end_dead
        letters = scene.letters()
        assert scene.sender(letters=letters)._latencies is letters.latencies

    run_clocked(go())


def test_limits_are_shared_by_the_workers_of_one_command(scene: Scene) -> None:
    async def go() -> None:
        alone, worker = scene.sender(), scene.sender(begun=lambda run: None)
        assert (alone._sharing, alone._books._sharing) == (None, None)
        assert worker._sharing is not None
        assert worker._books._sharing is worker._sharing
        # Nothing may start without a grant.
        assert [relay.places for relay in alone._pool.relays] != [0]
        assert [relay.places for relay in worker._pool.relays] == [0]

    run_clocked(go())


@pytest.mark.parametrize(("leader", "end_dead"), [(None, True), (7, False)])
@pytest.mark.parametrize("worker", [False, True])
def test_run_begins_as_its_caller_says(
    scene: Scene, worker: bool, leader: int | None, end_dead: bool
) -> None:
    async def go() -> None:
        begun: list[int] = []
        hooks: dict[str, Any] = {"begun": begun.append} if worker else {}
        sender = scene.sender(leader=leader, end_dead=end_dead, **hooks)
        asked: list[tuple[Any, ...]] = []

        def begin(leader: int | None = None, *, recover: bool, end_dead: bool = True) -> int:
            asked.append((leader, recover, end_dead, list(begun)))
            return 41

        fresh = sender._outcomes._breaker
        sender._books.begin = begin  # type: ignore[method-assign]
        assert sender._begin() == 41
        # Only the leader of workers recovers.
        assert asked == [(leader, not worker, end_dead, [])]
        assert begun == ([41] if worker else [])
        assert sender._outcomes._breaker is not fresh

    run_clocked(go())


@pytest.mark.parametrize(
    ("counts", "uncomposed"), [({}, 0), ({"sent": 1}, None), ({"failed": 1}, None), ({"deferred": 1}, 0)]
)
def test_first_messages_are_those_of_the_first_run(
    scene: Scene, counts: dict[str, int], uncomposed: int | None
) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._books.begin = lambda *_, **__: 1  # type: ignore[method-assign]
        sender._books._counts = Counter(counts)
        sender._begin()
        assert sender._uncomposed == uncomposed

    run_clocked(go())


def test_progress_is_shown_from_the_beginning_to_the_end(scene: Scene) -> None:
    ended, _ = scene.run(silent("BODY", 3), lambda sender: stop_after(sender, 5))
    times, shown = zip(*scene.shown, strict=True)
    # Before anything is claimed, after the claim, and once everything is written.
    assert (shown[0].queued, shown[0].sending, times[0]) == (PEOPLE, 0, 0)
    assert (shown[1].sending, times[1]) == (SETTINGS.window // 2, 0)
    assert shown[-1] == ended.books == books(scene.database, scene.issue)
    assert (ended.books.sent, ended.books.sending) == (2, 0)
    assert shown[-2] != shown[-1]
    # What the server answered shows after at most the time to settle.
    assert next(at for at, known in scene.shown if known.sent == 2) <= 0.5


async def stop_after(sender: Sender, seconds: float) -> None:
    await asyncio.sleep(seconds)
    sender.stop()


@pytest.mark.parametrize(
    ("how", "seconds", "hurried"),
    [("stop", STOP_SECONDS, True), ("stop_now", 0, True), ("end_turn", STOP_SECONDS, False)],
)
def test_silent_server_holds_up_the_end_for_as_long_as_its_kind_allows(
    scene: Scene, how: str, seconds: float, hurried: bool
) -> None:
    hurries: list[str] = []

    async def end(sender: Sender) -> None:
        assert sender._letters is not None
        sender._books.hurry = lambda: hurries.append("books")  # type: ignore[method-assign]
        sender._letters.hurry = lambda: hurries.append("letters")  # type: ignore[method-assign]
        await asyncio.sleep(5)
        getattr(sender, how)()
        assert sender._ending is Ending.STOPPED
        assert hurries == (["books", "letters"] if hurried else [])
        if how != "stop_now":
            await asyncio.sleep(10)
            # Asking again does not prolong it.
            getattr(sender, how)()

    ended, took = scene.run(silent("BODY", 3), end, letters=scene.letters())
    assert took == pytest.approx(5 + seconds, abs=1)
    assert (ended.ending, ended.books.sent, ended.books.uncertain) == (Ending.STOPPED, 2, 1)
    # A run that has waited long enough gives up on its database as well.
    assert Counter(hurries) == ({"books": len(hurries) // 2, "letters": len(hurries) // 2} if hurried else {})
    assert bool(hurries) is hurried


def test_run_that_was_stopped_leaves_no_timer(scene: Scene) -> None:
    ended, _ = scene.run(Script(), lambda sender: stop_after(sender, 0))
    assert ended.ending is Ending.STOPPED


def test_run_closes_what_it_has_opened(scene: Scene) -> None:
    order: list[str] = []
    letters = scene.letters()

    async def close(error: RelayError | None = None) -> None:
        order.append(f"letters: {error}")

    async def watch(sender: Sender) -> None:
        shut, write = sender._ahead.close, sender._latencies.write

        def shut_ahead() -> None:
            order.append("ahead")
            shut()

        def write_latencies() -> None:
            order.append("latencies")
            write()

        replace(sender._ahead, close=shut_ahead)
        replace(sender._latencies, write=write_latencies)

    replace(letters, close=close)
    ended, _ = scene.run(Script(), watch, letters=letters)
    assert (ended.ending, ended.books.sent, ended.error) == (Ending.FINISHED, PEOPLE, None)
    assert order == ["ahead", "latencies", "letters: None"]


def test_whatever_a_run_logs_names_it(scene: Scene) -> None:
    begun: list[int] = []
    named: list[int | None] = []

    async def watch(sender: Sender) -> None:
        compose = sender._pool.compose

        def note(key: int) -> Outgoing | None:
            named.append(RUN.get())
            return compose(key)

        replace(sender._pool, compose=note)

    scene.run(Script(), watch, begun=begun.append)
    assert named == begun * PEOPLE


def test_relay_that_is_down_ends_the_run(scene: Scene) -> None:
    closed: list[RelayError | None] = []
    letters = scene.letters()

    async def close(error: RelayError | None = None) -> None:
        closed.append(error)

    replace(letters, close=close)
    ended, _ = scene.run(Script(greeting=b"421 4.3.2 maintenance\r\n"), letters=letters)
    assert (ended.ending, ended.books.queued) == (Ending.UNREACHABLE, PEOPLE)
    assert ended.error is not None
    assert ended.reason == ended.error.message
    assert "421" in ended.reason
    assert closed == [ended.error]


def test_run_that_waits_for_its_retries_goes_on(scene: Scene) -> None:
    settings = DeliverySettings(window=8, wait_for_retries=True, retry_base=timedelta(minutes=10))
    ended, seconds = scene.run(Script(answer=on("RCPT", 1, b"451 4.3.0 later\r\n")), settings=settings)
    assert (ended.ending, ended.books.sent) == (Ending.FINISHED, PEOPLE)
    # The jitter of a retry is a tenth.
    assert 540 <= seconds <= 720


def test_first_ending_is_the_one_that_counts(scene: Scene) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._pause("the first reason")
        sender.stop()
        assert (sender._ending, sender._reason) == (Ending.PAUSED, "the first reason")
        assert sender._stopped.is_set()
        assert sender._pool.stopping
        assert sender._deadline is not None
        sender._deadline.cancel()

    run_clocked(go())


def test_books_are_closed_after_the_commits_beside_have_ended(scene: Scene) -> None:
    order: list[str] = []

    async def delay(sender: Sender) -> None:
        commit, end = sender._books.commit, sender._end

        async def slow(count: int, except_domains: frozenset[str]) -> Taken:
            taken = await commit(count, except_domains)
            if not count:
                order.append("writing")
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    # A transaction that is under way ends first.
                    await asyncio.sleep(3)
                    order.append("written")
                    raise
            return taken

        sender._books.commit = slow  # type: ignore[method-assign]

        def close() -> None:
            order.append("closed")
            end()

        sender._end = close  # type: ignore[method-assign]
        await asyncio.sleep(0.3)
        sender.stop_now()

    scene.run(silent("BODY", 3), delay)
    assert order == ["writing", "written", "closed"]


@pytest.mark.parametrize("error", [LookupError("no such column"), StorageError("gone", remedy="none")])
def test_error_of_a_commit_beside_ends_the_run_and_is_raised(scene: Scene, error: Exception) -> None:
    async def fail(sender: Sender) -> None:
        commit = sender._books.commit

        async def failing(count: int, except_domains: frozenset[str]) -> Taken:
            if not count:
                raise error
            return await commit(count, except_domains)

        sender._books.commit = failing  # type: ignore[method-assign]

    script = silent("BODY", 3)
    with pytest.raises(type(error)) as caught:
        scene.run(script, fail)
    assert caught.value is error
    # What was under way was awaited; nothing else began.
    assert len(script.bodies) == 3


def test_what_is_written_beside_takes_nothing(scene: Scene) -> None:
    asked: list[tuple[float, int, frozenset[str]]] = []

    async def watch(sender: Sender) -> None:
        commit = sender._books.commit

        async def watched(count: int, except_domains: frozenset[str]) -> Taken:
            asked.append((scene.seconds(), count, except_domains))
            return await commit(count, except_domains)

        sender._books.commit = watched  # type: ignore[method-assign]
        await asyncio.sleep(4)
        sender.stop_now()

    scene.run(silent("BODY", 5), watch)
    beside = [(at, domains) for at, count, domains in asked if not count]
    assert all(domains == frozenset() for _, domains in beside)
    # Once the replies are written, only now and then, to show that the run lives.
    times = [at for at, _ in beside]
    assert [later - earlier for earlier, later in pairwise(times)][1:3] == pytest.approx(
        [0.75, 0.75], abs=0.1
    )


def test_worker_asks_for_its_limits_before_anything_else(scene: Scene) -> None:
    asked: list[tuple[float, int]] = []
    begun: list[tuple[int, int]] = []

    async def watch(sender: Sender) -> None:
        commit = sender._books.commit

        async def watched(count: int, except_domains: frozenset[str]) -> Taken:
            asked.append((scene.seconds(), count))
            return await commit(count, except_domains)

        sender._books.commit = watched  # type: ignore[method-assign]

    def note(run: int) -> None:
        begun.append((run, books(scene.database, scene.issue).sending))

    ended, _ = scene.run(Script(), watch, begun=note)
    assert (ended.ending, ended.books.sent) == (Ending.FINISHED, PEOPLE)
    assert asked[0] == (0, 0)
    assert asked[1][1] > 0
    assert [sending for _, sending in begun] == [0]
