"""One run of an issue: claim a window, compose, transmit, settle, until nothing is due.

Connections ask for the next message when they can take it; composing happens then, so no message is
made before its turn. A bookkeeper, the only part that writes, settles outcomes together with the
next claim in one transaction, in a thread. At no moment are more than `window` rows `sending`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol, assert_never

from sqlalchemy.orm import Session as DatabaseSession

from mailer.config import Delivery as DeliverySettings
from mailer.database.models import DeliveryState, IssueState
from mailer.database.session import Database
from mailer.delivery import issues, queue
from mailer.delivery.judging import decide
from mailer.delivery.queue import Books, Settled, Taken
from mailer.delivery.smtp import Fate, Outcome, Outgoing
from mailer.delivery.window import Window
from mailer.errors import RecipientError, RelayError
from mailer.rendering.message import Composer
from mailer.replies import Verdict

# Outcomes are written at the latest after this long, however slow the relay.
_SETTLE_SECONDS = 0.5
# A message whose connection was lost before its body left goes out again at once, so often in a run:
# providers close connections without a word, but three times on the same message is no coincidence.
_TRIES_AT_ONCE = 3


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
    """A lasting refusal in the dialogue, for the policy that learns from bounces."""

    issue_id: int
    subscriber_id: int
    verdict: Verdict


Learn = Callable[[DatabaseSession, Sequence[Refusal], datetime], None]


class Transport(Protocol):
    """What brings messages to relays."""

    async def run(self, source: Callable[[], Outgoing | None], settle: Callable[[Outcome], None]) -> None:
        """Send what `source` gives until `stop`; raise `RelayError` when no relay can be used."""

    def work(self) -> None:
        """Hear that the source has something again."""

    def stop(self) -> None:
        """Finish what was taken, take nothing more, and let `run` return."""


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
        transport: Transport,
        settings: DeliverySettings,
        *,
        learn: Learn,
        progress: Callable[[Books], None] = lambda books: None,
        clock: Callable[[], datetime] = now,
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),  # noqa: S311 - keeps no secret
    ) -> None:
        self._database = database
        self._issue_id = issue_id
        self._composer = composer
        self._transport = transport
        self._settings = settings
        self._learn = learn
        self._progress = progress
        self._clock = clock
        self._jitter = jitter
        self._resend = settings.uncertain == "resend"
        self._window = Window(database.change_counter(), self._still_mailable)
        self._outcomes: list[Settled] = []
        self._refusals: list[Refusal] = []
        self._losses: Counter[int] = Counter()
        self._after = 0
        self._turn = asyncio.Event()
        self._ending: Ending | None = None
        self._reason = ""
        self._run_id = 0
        self._counts: Counter[str] = Counter()

    async def run(self) -> Ended:
        """Send until nothing is due, the issue is paused, or `stop` is called.

        The caller holds `mailer.delivery.lock.sending`. Raises `StorageError` when the books cannot be
        written; what could not be settled is then `uncertain` at the next start.
        """
        await asyncio.to_thread(self._begin)
        self._progress(self.books)
        carrying = asyncio.create_task(self._transport.run(self._next, self._settled))
        carrying.add_done_callback(lambda task: self._turn.set())
        error: RelayError | None = None
        try:
            await self._keep_books(carrying)
        finally:
            self._transport.stop()
            try:
                await carrying
            except RelayError as refused:
                error = refused
                self._leave(Ending.UNREACHABLE, refused.message)
            await asyncio.to_thread(self._end)
        self._progress(self.books)
        assert self._ending is not None
        return Ended(self._ending, self.books, self._reason, error)

    def stop(self) -> None:
        """Take nothing more; what is in flight is finished and settled."""
        self._leave(Ending.STOPPED)
        self._transport.stop()

    @property
    def books(self) -> Books:
        """The books as this run knows them."""
        counts = {state.value: self._counts[state] for state in DeliveryState}
        return Books(audience=sum(counts.values()), **counts)

    # What the connections call, on the event loop.

    def _next(self) -> Outgoing | None:
        """Return the next message, composed now; None when nothing is ready or the run is ending."""
        while self._ending is None:
            claimed = self._window.take(self._opted_out)
            if claimed is None:
                break
            if self._window.ready == self._settings.window // 2:
                self._turn.set()
            subscriber_id = claimed.recipient.subscriber_id
            try:
                message = self._composer.compose(claimed.recipient, claimed.first_at)
            except RecipientError as error:
                self._window.landed(subscriber_id)
                self._record(Settled(subscriber_id, DeliveryState.FAILED, reply=str(error)[:512]))
                continue
            return Outgoing(subscriber_id, message.envelope, message.content, wire_safe=True)
        self._turn.set()
        return None

    def _settled(self, outcome: Outcome) -> None:
        claimed = self._window.landed(outcome.key)
        if outcome.fate is Fate.UNSENT or (outcome.fate is Fate.LOST and self._worth_another(outcome.key)):
            self._window.again(claimed)
            self._transport.work()
            return
        decision = decide(outcome, claimed, self._settings, at=self._clock(), spread=self._jitter())
        if decision.pause:
            self._leave(Ending.PAUSED, decision.pause)
            self._transport.stop()
        if decision.verdict is not None:
            self._refusals.append(Refusal(self._issue_id, outcome.key, decision.verdict))
        self._record(decision.settled)

    def _worth_another(self, subscriber_id: int) -> bool:
        self._losses[subscriber_id] += 1
        return self._losses[subscriber_id] < _TRIES_AT_ONCE

    def _opted_out(self, subscriber_id: int) -> None:
        self._record(Settled(subscriber_id, DeliveryState.SKIPPED, reply=queue.OPTED_OUT))

    def _still_mailable(self, subscriber_ids: list[int]) -> set[int]:
        with self._database.reading() as session:
            return queue.still_mailable(session, subscriber_ids, at=self._clock())

    def _record(self, settled: Settled) -> None:
        self._losses.pop(settled.subscriber_id, None)
        self._outcomes.append(settled)
        if len(self._outcomes) * 4 >= self._settings.window:
            self._turn.set()

    def _leave(self, ending: Ending, reason: str = "") -> None:
        if self._ending is None:
            self._ending, self._reason = ending, reason
        self._turn.set()

    # The bookkeeper.

    async def _keep_books(self, carrying: asyncio.Task[None]) -> None:
        while not carrying.done():
            self._turn.clear()
            moved = await self._write(claim=self._ending is None)
            self._progress(self.books)
            if self._window.ready:
                self._transport.work()
            if moved:
                continue
            if self._idle and not await self._wait_for_retry():
                break
            if self._ending is not None and not self._window.flying and not self._outcomes:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._turn.wait(), _SETTLE_SECONDS)

    @property
    def _idle(self) -> bool:
        return not (self._window.ready or self._window.flying or self._outcomes)

    async def _wait_for_retry(self) -> bool:
        """With nothing left to do now, wait for the next due retry if so configured; else say False."""
        due = await asyncio.to_thread(self._next_due)
        if due is None or not self._settings.wait_for_retries:
            if not self._after:
                return False
            # Once more from the start: rows may have been queued again behind the cursor.
            self._after = 0
            return True
        seconds = max(0.0, (due - self._clock()).total_seconds())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turn.wait(), seconds)
        return self._ending is None

    async def _write(self, *, claim: bool) -> bool:
        """Settle what came back and claim what there is room for; return whether any row was taken."""
        outcomes, self._outcomes = self._outcomes, []
        refusals, self._refusals = self._refusals, []
        room = self._settings.window - self._window.ready - self._window.flying - len(self._outcomes)
        if not outcomes and not (claim and room * 4 >= self._settings.window):
            return False
        try:
            taken = await asyncio.to_thread(self._transact, outcomes, refusals, room if claim else 0)
        except BaseException:
            # Nothing was written: keep what we know, so that the last try to settle has it.
            self._outcomes[:0], self._refusals[:0] = outcomes, refusals
            raise
        self._window.add(taken.claimed)
        self._after = taken.after
        return bool(taken.claimed or taken.skipped)

    def _transact(self, outcomes: list[Settled], refusals: list[Refusal], room: int) -> Taken:
        at = self._clock()
        taken = Taken([], self._after, 0, Counter())
        with self._database.transaction() as session:
            queue.settle(session, self._issue_id, outcomes, run_id=self._run_id, at=at)
            if refusals:
                self._learn(session, refusals, at)
            state = issues.get(session, self._issue_id).state
            if room and state is IssueState.SENDING:
                taken = queue.claim(
                    session,
                    self._issue_id,
                    run_id=self._run_id,
                    limit=room,
                    after=self._after,
                    at=at,
                    resend_uncertain=self._resend,
                )
        self._counts.subtract(taken.left)
        self._counts[DeliveryState.SENDING.value] += len(taken.claimed) - len(outcomes)
        self._counts[DeliveryState.SKIPPED.value] += taken.skipped
        self._counts.update(outcome.state.value for outcome in outcomes)
        if self._ending is None and state is not IssueState.SENDING:
            match state:
                case IssueState.PAUSED:
                    self._ending = Ending.PAUSED
                case IssueState.CANCELLED:
                    self._ending = Ending.CANCELLED
                case IssueState.FINISHED:
                    self._ending = Ending.FINISHED
                case _:
                    assert_never(state)
        return taken

    def _next_due(self) -> datetime | None:
        with self._database.reading() as session:
            return queue.next_due(session, self._issue_id, resend_uncertain=self._resend)

    def _begin(self) -> None:
        at = self._clock()
        with self._database.transaction() as session:
            queue.recover(session, self._issue_id, at=at)
            self._run_id = queue.begin_run(
                session, self._issue_id, host=socket.gethostname(), pid=os.getpid(), at=at
            )
            self._count(session)

    def _end(self) -> None:
        """Settle the last outcomes, give back what was not sent, and count once more."""
        at = self._clock()
        with self._database.transaction() as session:
            queue.settle(session, self._issue_id, self._outcomes, run_id=self._run_id, at=at)
            if self._refusals:
                self._learn(session, self._refusals, at)
            queue.release(session, self._issue_id, self._window.clear(), run_id=self._run_id, at=at)
            if self._ending is Ending.PAUSED and self._reason:
                issues.pause(session, self._issue_id, self._reason)
            queue.end_run(session, self._run_id, at=at)
            finished = issues.finish(session, self._issue_id, at=at)
            self._count(session)
        self._outcomes, self._refusals = [], []
        if self._ending is None:
            self._ending = Ending.FINISHED if finished else Ending.WAITING

    def _count(self, session: DatabaseSession) -> None:
        books = queue.books(session, self._issue_id)
        self._counts = Counter({state.value: getattr(books, state) for state in DeliveryState})
