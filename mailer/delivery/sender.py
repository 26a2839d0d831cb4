"""One run of an issue: claim a window, compose, transmit, settle, until nothing is due.

The pool asks for the next window when it runs low; outcomes are settled in that same transaction,
in a thread. A message is composed when a connection can take it, not before. At no moment are more
than `window` rows `sending`: that is what a crash can leave uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from sqlalchemy.orm import Session as DatabaseSession

from mailer.config import Delivery as DeliverySettings
from mailer.config import Provider
from mailer.database.models import DeliveryState, IssueState
from mailer.database.session import Database
from mailer.delivery import issues, queue
from mailer.delivery.ahead import Ahead
from mailer.delivery.judging import decide
from mailer.delivery.queue import Books, Settled, Taken
from mailer.delivery.waiting import RetryScan, next_due
from mailer.delivery.window import Window
from mailer.errors import MailerError, RecipientError, RelayDownError, RelayError
from mailer.rendering.message import Composer
from mailer.replies import ReplyClass, Verdict
from mailer.smtp.pool import Access, Item, Pool
from mailer.smtp.session import Attempt, Fate, Outgoing

# Outcomes are written at the latest after this long, however slow the relay.
_SETTLE_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 60.0
# How long a provider that blocks our address or domain is left alone when it does not say.
_REPUTATION_HOLD_SECONDS = 3600.0


class Ending(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    """Nothing of the issue is open."""
    WAITING = "waiting"
    """Some deliveries wait for their next try, or are held."""
    PAUSED = "paused"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """Asked to stop; what was in flight is settled."""
    UNREACHABLE = "unreachable"
    """No relay could be used; what was not sent is queued as before."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; `reason` says why in words where there is something to say."""

    ending: Ending
    books: Books
    reason: str = ""
    error: RelayError | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A delivery that failed for good in the dialogue, for the policy that learns from bounces."""

    issue_id: int
    subscriber_id: int
    verdict: Verdict


Learn = Callable[[DatabaseSession, Sequence[Refusal], datetime], None]


def now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


class Sender:
    """The run of one issue in this process."""

    def __init__(
        self,
        database: Database,
        issue_id: int,
        composer: Composer,
        relays: Mapping[str, Access],
        settings: DeliverySettings,
        *,
        learn: Learn,
        providers: Mapping[str, Provider] | None = None,
        progress: Callable[[Books], None] = lambda books: None,
        begun: Callable[[int], None] | None = None,
        clock: Callable[[], datetime] = now,
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),  # noqa: S311 - keeps no secret
        client_name: str | None = None,
        ticks: Callable[[], float] = time.monotonic,
        settle_seconds: float = _SETTLE_SECONDS,
        look_again_seconds: float = _LOOK_AGAIN_SECONDS,
    ) -> None:
        self._database = database
        self._issue_id = issue_id
        self._ahead = Ahead(composer)
        self._settings = settings
        self._learn = learn
        self._progress = progress
        self._begun = begun
        self._clock = clock
        self._jitter = jitter
        self._settle_seconds, self._look_again_seconds = settle_seconds, look_again_seconds
        self._resend = settings.uncertain == "resend"
        self._window = Window(database.change_counter(), self._still_mailable)
        self._pool = Pool(
            relays,
            providers or {},
            claim=self._claim,
            compose=self._compose,
            settle=self._settle,
            # The pool keeps up to two of its windows waiting; ours bounds what is `sending` in all.
            window=max(1, settings.window // 2),
            client_name=client_name,
            now=ticks,
        )
        self._writing = asyncio.Lock()
        self._outcomes: list[Settled] = []
        self._released: list[int] = []
        self._refusals: list[Refusal] = []
        self._after, self._retry_scan = 0, RetryScan(ticks)
        self._ending: Ending | None = None
        self._reason = ""
        self._stopped = asyncio.Event()
        self._failure: MailerError | None = None
        self._run_id, self._members_only = 0, False
        """Whether only the canary is mailed: its retries are not waited for."""
        self._counts: Counter[str] = Counter()

    async def run(self) -> Ended:
        """Send until nothing is due, the issue is paused, or `stop` is called.

        The caller holds `mailer.delivery.lock.sending`. Raises `StorageError` when the books cannot be
        written; what could not be settled is then `uncertain` at the next start.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._begin)
        self._progress(self.books)
        error: RelayError | None = None
        keeping = asyncio.create_task(self._keep_books())
        try:
            while self._ending is None:
                await self._pool.deliver()
                if not await self._wait_for_retry():
                    break
        except RelayDownError as down:
            error = down
            self._leave(Ending.UNREACHABLE, down.message)
        except RelayError as refused:
            # It would be refused again and again: wait for the operator to mend the configuration.
            error = refused
            self._leave(Ending.PAUSED, refused.message)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            self._ahead.close()
            await asyncio.to_thread(self._end)
        if self._failure is not None:
            raise self._failure
        self._progress(self.books)
        assert self._ending is not None
        return Ended(self._ending, self.books, self._reason, error)

    def stop(self) -> None:
        """Take nothing more; what is in flight is finished and settled."""
        self._leave(Ending.STOPPED)

    @property
    def books(self) -> Books:
        """The books as this run knows them."""
        counts = {state.value: self._counts[state.value] for state in DeliveryState}
        return Books(audience=sum(counts.values()), **counts)

    # What the pool calls, on the event loop.

    async def _claim(self, count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        """Settle what came back and take up to `count` deliveries more, in one transaction."""
        while self._ending is None:
            taken = await self._write(count, except_domains)
            self._progress(self.books)
            if taken.claimed:
                return [Item(one.recipient.subscriber_id, one.domain) for one in taken.claimed]
            if not taken.skipped:
                if not self._after:
                    break
                # Once more from the start: rows may have been queued again behind the cursor.
                self._after = 0
        return ()

    def _compose(self, subscriber_id: int) -> Outgoing | None:
        claimed = self._window.begin(subscriber_id)
        if claimed is None:
            self._outcomes.append(Settled(subscriber_id, DeliveryState.SKIPPED, reply=queue.OPTED_OUT))
            return None
        try:
            message = self._ahead.message(claimed, self._window.following())
        except RecipientError as error:
            self._window.end(subscriber_id)
            self._outcomes.append(Settled(subscriber_id, DeliveryState.FAILED, reply=str(error)[:512]))
            return None
        return Outgoing(subscriber_id, message.envelope, message.content, wire_safe=True)

    def _settle(self, outcome: Attempt) -> None:
        claimed = self._window.end(outcome.key)
        if outcome.fate is Fate.UNSENT:
            self._released.append(outcome.key)
            return
        decision = decide(outcome, claimed, self._settings, at=self._clock(), spread=self._jitter())
        self._outcomes.append(decision.settled)
        if decision.pause:
            self._leave(Ending.PAUSED, decision.pause)
        if decision.verdict is not None:
            if decision.settled.state is DeliveryState.FAILED:
                self._refusals.append(Refusal(self._issue_id, outcome.key, decision.verdict))
            self._heed_provider(decision.verdict, claimed.domain)

    def _heed_provider(self, verdict: Verdict, domain: str) -> None:
        """Slow down or stop for a provider that asks for it."""
        match verdict.reply_class:
            case ReplyClass.RATE:
                # X.2.Z tells of the recipient's mailbox (RFC 3463 section 3.3): only that delivery waits.
                if verdict.enhanced[1:4] != ".2.":
                    self._pool.slow_down(domain, verdict.retry_after_seconds)
            case ReplyClass.REPUTATION:
                self._pool.hold(domain, verdict.retry_after_seconds or _REPUTATION_HOLD_SECONDS)
            case _:
                # The others say nothing about how much more the provider takes.
                return

    def _still_mailable(self, subscriber_ids: list[int]) -> set[int]:
        with self._database.reading() as session:
            return queue.still_mailable(session, subscriber_ids, at=self._clock())

    def _leave(self, ending: Ending, reason: str = "") -> None:
        if self._ending is None:
            self._ending, self._reason = ending, reason
        self._stopped.set()
        self._pool.stop()

    # The books.

    async def _keep_books(self) -> None:
        """Write outcomes soon, however slow the relay, and see what other processes decided."""
        while True:
            await asyncio.sleep(self._settle_seconds)
            try:
                await self._write(0, frozenset())
            except MailerError as error:
                # The run cannot go on without books.
                self._failure = error
                self._leave(Ending.STOPPED)
                return
            self._progress(self.books)

    async def _wait_for_retry(self) -> bool:
        """Wait for the next due retry if so configured; return whether to go on."""
        if self._ending is not None or not self._settings.wait_for_retries:
            return False
        await self._write(0, frozenset())
        if self._members_only:
            return False
        held = self._pool.held()
        due = await asyncio.to_thread(self._next_due, frozenset(held))
        waits = list(held.values())
        if due is not None:
            waits.append((due - self._clock()).total_seconds())
        if not waits:
            return False
        # Not to the end at once: the clock may be set, and another process may queue some again.
        seconds = max(0.05, min(*waits, self._look_again_seconds))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._ending is None

    async def _write(self, count: int, except_domains: frozenset[str]) -> Taken:
        """Settle what came back and claim what is wanted and there is room for."""
        async with self._writing:
            outcomes, self._outcomes = self._outcomes, []
            released, self._released = self._released, []
            refusals, self._refusals = self._refusals, []
            # What is settled here leaves `sending` in the same transaction.
            room = min(count, self._settings.window - len(self._window))
            writing = asyncio.ensure_future(
                asyncio.to_thread(self._transact, outcomes, released, refusals, room, except_domains)
            )
            try:
                # Whoever is cancelled here waits all the same: the transaction goes on in its thread,
                # and only its end tells whether it was written.
                await asyncio.wait([writing])
            finally:
                if not writing.done():
                    await asyncio.wait([writing])
                if writing.exception() is not None:
                    # Nothing was written: keep what we know for the last try.
                    self._outcomes[:0], self._released[:0], self._refusals[:0] = outcomes, released, refusals
                else:
                    self._window.add(writing.result().claimed)
                    self._after = writing.result().after
            return writing.result()

    def _transact(
        self,
        outcomes: list[Settled],
        released: list[int],
        refusals: list[Refusal],
        room: int,
        except_domains: frozenset[str],
    ) -> Taken:
        at = self._clock()
        taken = Taken([], self._after, 0, Counter())
        with self._database.transaction() as session:
            queue.settle(session, self._issue_id, outcomes, run_id=self._run_id, at=at)
            given_back = queue.release(session, self._issue_id, released, run_id=self._run_id, at=at)
            if refusals:
                self._learn(session, refusals, at)
            issue = issues.get(session, self._issue_id)
            state, self._members_only = issue.state, issue.members_only
            if issue.published_at is None and any(one.state is DeliveryState.SENT for one in outcomes):
                issues.publish(session, self._issue_id, at=at)
            if room > 0 and state is IssueState.SENDING:
                taken = queue.claim(
                    session, self._issue_id, run_id=self._run_id, limit=room, after=self._after, at=at,
                    resend_uncertain=self._resend, except_domains=except_domains,
                    members_only=self._members_only, retry_scan=self._retry_scan,
                )  # fmt: skip
        self._counts.subtract(taken.left)
        self._counts[DeliveryState.SENDING.value] += len(taken.claimed) - len(outcomes) - len(released)
        self._counts.update(given_back)
        self._counts[DeliveryState.SKIPPED.value] += taken.skipped
        self._counts.update(outcome.state.value for outcome in outcomes)
        self._heed(state)
        return taken

    def _heed(self, state: IssueState) -> None:
        """End the run when another process paused or cancelled the issue."""
        match state:
            case IssueState.SENDING | IssueState.FINISHED:
                return
            case IssueState.PAUSED:
                self._ending = self._ending or Ending.PAUSED
            case IssueState.CANCELLED:
                self._ending = self._ending or Ending.CANCELLED
            case _:
                assert_never(state)
        self._loop.call_soon_threadsafe(self._pool.stop)

    def _next_due(self, except_domains: frozenset[str]) -> datetime | None:
        with self._database.reading() as session:
            return next_due(
                session, self._issue_id, resend_uncertain=self._resend, except_domains=except_domains
            )

    def _begin(self) -> None:
        at = self._clock()
        with self._database.transaction() as session:
            if self._begun is None:
                queue.recover(session, self._issue_id, at=at)
            self._run_id = queue.begin_run(
                session, self._issue_id, host=socket.gethostname(), pid=os.getpid(), at=at
            )
            self._count(session)
        if self._begun is not None:
            self._begun(self._run_id)

    def _end(self) -> None:
        """Settle the last outcomes, give back what was not sent, and count once more."""
        at = self._clock()
        with self._database.transaction() as session:
            queue.settle(session, self._issue_id, self._outcomes, run_id=self._run_id, at=at)
            never_begun = [*self._released, *self._window.waiting()]
            queue.release(session, self._issue_id, never_begun, run_id=self._run_id, at=at)
            if self._refusals:
                self._learn(session, self._refusals, at)
            if self._ending is Ending.PAUSED and self._reason:
                issues.pause(session, self._issue_id, self._reason)
            queue.end_run(session, self._run_id, at=at)
            finished = issues.finish(session, self._issue_id, at=at)
            self._count(session)
            if self._counts[DeliveryState.SENT.value]:
                issues.publish(session, self._issue_id, at=at)
        if self._ending is None:
            self._ending = Ending.FINISHED if finished else Ending.WAITING

    def _count(self, session: DatabaseSession) -> None:
        books = queue.books(session, self._issue_id)
        self._counts = Counter({state.value: getattr(books, state.value) for state in DeliveryState})
