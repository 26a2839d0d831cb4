"""Each decision of a run: what it takes and writes, when it waits, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailer.config import DeliverySettings, Newsletter, Paths, Relay, Settings
from mailer.database.models import DeliveryState, IssueState
from mailer.database.session import Database
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.letter_queue import LETTERS_AT_ONCE, LetterQueue
from mailer.delivery.queue import Settled, Taken
from mailer.delivery.sender import STOP_SECONDS, Hooks, Sender
from mailer.errors import MailerError, RecipientError, RelayError, StorageError, UnavailableError
from mailer.logs import RUN
from mailer.replies import ReplyClass, judge
from mailer.smtp.pool import Access, Item, Network, NotNowError
from mailer.smtp.session import Attempt, Fate, Outgoing, Reply, Stage
from tests.delivery.scene import AT, SIGNER, books, learn_nothing, make_composer, queued
from tests.smtp.clocked import ClockedLoop, clock, run_clocked
from tests.smtp.scripted import SILENCE, Script, serving
from tests.smtp.test_session import on

TEMPLATES = Path(__file__).parents[2] / "email_templates"
PEOPLE = 12
SETTINGS = DeliverySettings(window=8)


class Scene:
    """A queued issue, and a run of it whose clocks are the loop's."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.issue = queued(database, PEOPLE)
        self.shown: list[tuple[float, Books]] = []
        self.began = 0.0
        self.loop: ClockedLoop | None = None

    def seconds(self) -> float:
        """Return the seconds since the beginning, to the hundredth."""
        assert self.loop is not None
        return round(self.loop.time() - self.began, 2)

    def sender(
        self,
        relay: Relay | None = None,
        settings: DeliverySettings = SETTINGS,
        **hooks: Any,
    ) -> Sender:
        """Return a sender; call it on the loop."""
        self.loop = clock()
        self.began = self.loop.time()
        return Sender(
            self.database,
            self.issue.id,
            make_composer(self.issue.id),
            Network({"main": Access(relay or Relay(host="127.0.0.1", port=25))}, client_name="here.example"),
            settings,
            Hooks(learn_nothing, lambda known: self.shown.append((self.seconds(), known)), **hooks),
            Clock(
                now=lambda: AT + timedelta(seconds=self.seconds()), ticks=self.loop.time, settle_seconds=0.25
            ),
        )

    def letters(self) -> LetterQueue:
        """Return the letters of this database."""
        settings = Settings(newsletter=Newsletter(name="The Weekly"), paths=Paths(templates=TEMPLATES))
        return LetterQueue(settings, self.database, SIGNER)

    def run(
        self,
        script: Script,
        meanwhile: Callable[[Sender], Coroutine[Any, Any, None]] | None = None,
        *,
        settings: DeliverySettings = SETTINGS,
        **hooks: Any,
    ) -> tuple[Ended, float]:
        """Send the issue; return how it ended, and after how many seconds."""

        async def go() -> tuple[Ended, float]:
            async with serving(script) as relay:
                sender = self.sender(msgspec.structs.replace(relay, connections=1), settings, **hooks)
                running = clock().create_task(sender.run())
                if meanwhile is not None:
                    await meanwhile(sender)
                ended = await running
                seconds = self.seconds()
                assert clock().timers() == 0
                return ended, seconds

        return run_clocked(go())


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database)


def replace(part: object, **answers: Any) -> None:
    """Let a part of a run answer as the test says."""
    for name, answer in answers.items():
        setattr(part, name, answer)


def must_not_be_asked(*arguments: Any) -> Any:
    raise AssertionError("this must not be asked")


def silent(verb: str, nth: int = 1) -> Script:
    return Script(answer=lambda said, count: SILENCE if said == verb and count >= nth else None)


# How it is put together.


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


# Whole runs.


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


# The books, on a clock.


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


def void(found: object) -> None:
    """Take a value that nobody needs."""


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


# Opt-outs on PostgreSQL, beside the loop.


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


# Taking and composing.


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


# Letters.


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


# What a run does once nothing can be sent.


@pytest.mark.parametrize(
    ("ending", "held", "tripped", "ends", "expected", "asked"),
    [
        (None, False, True, False, True, True),
        (None, False, False, False, False, True),
        (None, True, True, False, False, False),
        (Ending.STOPPED, False, True, False, False, False),
        # The breaker has paused the issue: no other relay was left.
        (None, False, True, True, False, True),
    ],
)
def test_breaker_decides_once_nothing_is_on_hold(
    scene: Scene, ending: Ending | None, held: bool, tripped: bool, ends: bool, expected: bool, asked: bool
) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._ending = ending
        if held:
            sender._pool.hold("example.org", 5)
        calls: list[bool] = []

        def decide() -> bool:
            calls.append(True)
            if ends:
                sender._pause("our fault")
            return tripped

        sender._outcomes.tripped = decide  # type: ignore[method-assign]
        assert sender._relay_took_over() is expected
        assert bool(calls) is asked

    run_clocked(go())


WAITING = DeliverySettings(window=8, wait_for_retries=True)


@pytest.mark.parametrize(
    ("state", "expected", "seconds", "commits"),
    [
        ({"due": 5}, True, 5, 1),
        ({"due": 5, "settings": SETTINGS}, False, 0, 0),
        ({"due": 5, "ending": Ending.STOPPED}, False, 0, 0),
        ({"due": 5, "members_only": True}, False, 0, 1),
        ({"due": 5, "pending": 1}, True, 0, 1),
        ({"due": 5, "pending": 1, "held": 3}, True, 3, 1),
        ({"due": 5, "held": 3}, True, 3, 1),
        ({"due": 2, "held": 3}, True, 2, 1),
        ({"held": 3}, True, 3, 1),
        ({}, False, 0, 1),
        ({"due": 3600}, True, 60, 1),
        ({"due": -3600}, True, 0.05, 1),
        ({"due": 5, "stop": 2}, False, 2, 1),
    ],
)
def test_run_waits_for_its_retries(
    scene: Scene, state: dict[str, Any], expected: bool, seconds: float, commits: int
) -> None:
    async def go() -> None:
        sender = scene.sender(settings=state.get("settings", WAITING))
        written: list[int] = []
        asked: list[frozenset[str]] = []

        async def commit(count: int, except_domains: frozenset[str]) -> Taken:
            written.append(count)
            assert except_domains == frozenset()
            return Taken([], 0, 0, Counter())

        def next_due(except_domains: frozenset[str]) -> Any:
            asked.append(except_domains)
            return AT + timedelta(seconds=state["due"]) if "due" in state else None

        sender._books.commit, sender._books.next_due = commit, next_due  # type: ignore[method-assign]
        sender._books.members_only = state.get("members_only", False)
        replace(sender._outcomes._breaker, _pending=dict.fromkeys(range(state.get("pending", 0))))
        sender._ending = state.get("ending")
        if "held" in state:
            sender._pool.hold("example.org", state["held"])
        if "stop" in state:
            clock().call_later(state["stop"], sender._end_as, Ending.STOPPED)
        assert await sender._wait_for_retry() is expected
        assert scene.seconds() == pytest.approx(seconds)
        assert written == [0] * commits
        assert all(("example.org" in domains) is ("held" in state) for domains in asked)

    run_clocked(go())


@pytest.mark.parametrize(
    ("state", "expected", "seconds", "asked"),
    [
        ({"hold": True}, True, 1, 1),
        ({"hold": False}, False, 0, 1),
        ({"hold": True, "alone": True}, False, 0, 0),
        ({"hold": True, "held": 3}, False, 0, 0),
        ({"hold": True, "ending": Ending.STOPPED}, False, 0, 0),
        ({"hold": False, "uncertain": 2}, True, 0, 1),
        ({"hold": True, "uncertain": 2}, True, 1, 1),
        ({"hold": True, "stop": 0.5}, False, 0.5, 1),
    ],
)
def test_run_waits_for_the_others_of_its_issue(
    scene: Scene, state: dict[str, Any], expected: bool, seconds: float, asked: int
) -> None:
    async def go() -> None:
        sender = scene.sender(begun=None if "alone" in state else void)
        calls: list[bool] = []

        def others_hold_some() -> bool:
            calls.append(True)
            sender._books._counts[DeliveryState.UNCERTAIN.value] += state.get("uncertain", 0)
            return bool(state["hold"])

        sender._books.others_hold_some = others_hold_some  # type: ignore[method-assign]
        sender._ending = state.get("ending")
        if "held" in state:
            sender._pool.hold("example.org", state["held"])
        if "stop" in state:
            clock().call_later(state["stop"], sender._end_as, Ending.STOPPED)
        assert await sender._wait_for_others() is expected
        assert scene.seconds() == pytest.approx(seconds)
        assert len(calls) == asked

    run_clocked(go())


@pytest.mark.parametrize(
    ("ending", "reason", "tripped", "finished", "written", "ended"),
    [
        # How it ended so far and what the breaker says; then what is written, and how it ends.
        (None, "", "", True, ("", ""), (Ending.FINISHED, "")),
        (None, "", "", False, ("", ""), (Ending.WAITING, "")),
        (None, "", "all refuse", False, ("all refuse", ""), (Ending.PAUSED, "all refuse")),
        (Ending.PAUSED, "why", "", False, ("why", ""), (Ending.PAUSED, "why")),
        (Ending.UNREACHABLE, "down", "", False, ("", "down"), (Ending.UNREACHABLE, "down")),
        (Ending.STOPPED, "", "", False, ("", ""), (Ending.STOPPED, "")),
        (Ending.CANCELLED, "", "", True, ("", ""), (Ending.CANCELLED, "")),
    ],
)
def test_end_of_a_run_is_written(
    scene: Scene,
    ending: Ending | None,
    reason: str,
    tripped: str,
    finished: bool,
    written: tuple[str, str],
    ended: tuple[Ending, str],
) -> None:
    async def go() -> None:
        sender = scene.sender()
        judged: list[bool] = []
        ends: list[tuple[str, str]] = []

        def close(*, judging: bool) -> str:
            judged.append(judging)
            return tripped

        def end(pause_reason: str, reason: str = "") -> bool:
            ends.append((pause_reason, reason))
            return finished

        sender._outcomes.close, sender._books.end = close, end  # type: ignore[method-assign]
        sender._ending, sender._reason = ending, reason
        sender._end()
        # A run that was cut short cannot tell whose fault the refusals are.
        assert (judged, ends) == ([ending is None], [written])
        assert (sender._ending, sender._reason) == ended

    run_clocked(go())
