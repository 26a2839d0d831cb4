"""The books of one run: the deliveries it holds, and the entries its next transaction writes.

Everything the run learns is collected here and committed in one transaction in a thread, together with
the next claim. If that fails, everything is kept for the next attempt. On PostgreSQL each transaction
also confirms that the run is alive, and is repeated while the server is away.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct, field
from sqlalchemy import Connection

from mailer.config import DeliverySettings
from mailer.database import running_totals
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, IssueState
from mailer.delivery import control, issues, queue, runs
from mailer.delivery.announcements import announce_failures
from mailer.delivery.books import Books, books_of
from mailer.delivery.candidates import mailable_now
from mailer.delivery.clock import Clock
from mailer.delivery.patience import Patience
from mailer.delivery.queue import Settled, Taken
from mailer.delivery.runs import Fence
from mailer.delivery.sharing import LEASE_SECONDS, Granted, Sharing
from mailer.delivery.waiting import RetryScan, next_due
from mailer.delivery.window import Window
from mailer.errors import TakenOverError, UnavailableError
from mailer.printable import counted
from mailer.replies import Refusal
from mailer.smtp.sharing import Wish

OPT_OUT_SECONDS: Final = 1.0
"""On PostgreSQL, nothing begins unless its subscriber was looked up within this time."""
Learn = Callable[[Connection, Sequence[Refusal], datetime], None]
T = TypeVar("T")


class Unwritten(Struct):
    """What the next transaction writes."""

    outcomes: list[Settled] = field(default_factory=list)
    unsent: list[int] = field(default_factory=list)
    """Claimed but not started: to be released."""
    cleared: list[Refusal] = field(default_factory=list)
    """Pending refusals found to be the recipients' own: to be written as failed and passed to `learn`."""
    ours: list[int] = field(default_factory=list)
    """Deferred because of our own fault: due immediately, as if never tried."""

    def put_before(self, later: Unwritten) -> None:
        """Insert these entries before those of `later`."""
        later.outcomes[:0] = self.outcomes
        later.unsent[:0] = self.unsent
        later.cleared[:0] = self.cleared
        later.ours[:0] = self.ours


class RunBooks:
    """One run's view of its issue in the database. Only `commit` and `next_due` may run at the same time."""

    def __init__(
        self,
        database: Database,
        issue_id: int,
        settings: DeliverySettings,
        *,
        learn: Learn,
        clock: Clock,
        sharing: Sharing | None = None,
        with_arms: bool = False,
        with_tags: bool = True,
        undecided: bool = False,
    ) -> None:
        self._database = database
        self._issue_id = issue_id
        self._window_size = settings.window
        self._resend = settings.uncertain == "resend"
        self._learn = learn
        self._clock = clock
        self._now = clock.now
        self._with_arms = with_arms
        self._with_tags = with_tags
        self._undecided = undecided
        """Whether the run knows only the arms of an A/B test, not yet what everyone else gets."""
        self._retry_scan = RetryScan(clock.ticks)
        self._fence = None if database.is_sqlite else Fence(clock.ticks, clock.silent_seconds)
        self._sharing = sharing
        """None if no other run uses the same limits."""
        self._patience = Patience(settings.database_patience.total_seconds())
        self._writing = asyncio.Lock()
        self._counts: Counter[str] = Counter()
        self._run_id = 0
        self.window = Window(database.change_counter() if database.is_sqlite else None, self._still_mailable)
        self._looked_at = clock.ticks()
        """Since when an opt-out of a claimed delivery may be unknown. PostgreSQL only."""
        self._claimed_at = math.inf
        """When the earliest claim since the last look began."""
        self.unwritten = Unwritten()
        self.after = 0
        """The highest queued subscriber id claimed so far; 0 begins again from the first."""
        self.queued_at: datetime | None = None
        """When the issue was queued; None for a step of a sequence, which people reach at any time."""
        self.state = IssueState.SENDING
        """The issue's state as of the last commit."""
        self.refusals_accepted = False
        """Whether the operator has accepted the refusals of this issue."""
        self.members_only = False
        """Whether only the canary is mailed, as of the last commit."""

    @property
    def books(self) -> Books:
        """The books as this run knows them."""
        counts = {state.value: self._counts[state.value] for state in DeliveryState}
        return Books(audience=sum(counts.values()), **counts)

    def may_send(self) -> bool:
        """Return whether a message may leave: the run is known to live, and the database answers."""
        if self._fence is not None and self._clock.ticks() - self._looked_at > OPT_OUT_SECONDS:
            return False
        return (self._fence is None or self._fence.is_open()) and (
            self._sharing is None or self._sharing.leased()
        )

    async def look_for_opt_outs(self) -> None:
        """Find out, in a thread, which claimed deliveries may no longer begin. PostgreSQL only."""
        began, held = self._clock.ticks(), list(self.window.held())
        self._claimed_at = math.inf
        if held:
            self.window.bar(set(held) - await asyncio.to_thread(self._still_mailable, held))
        # What was claimed meanwhile was checked by the claim.
        self._looked_at = min(began, self._claimed_at)

    def hurry(self) -> None:
        """Stop waiting for a database that is away."""
        self._patience.hurry()

    def insist(self, step: Callable[[], T]) -> T:
        """Return what a step returns; repeat it while the database is away, and let nothing leave then."""
        try:
            return self._patience.call(step, failed=self._close_fence)
        except BaseException:
            # After one long wait that failed, the next ones are short.
            self._patience.hurry()
            self._close_fence()
            raise

    def begin(self, leader: int | None = None, *, recover: bool, end_dead: bool = True) -> int:
        """Record the start of the run and return its id; `recover` first settles what dead runs left.

        Without `end_dead`, only runs that have ended, or whose process is known to be gone, are dead.
        A worker gives the id of its `leader`'s run.
        """
        began, at = self._clock.ticks(), self._now()
        with self._database.transaction() as connection:
            if recover:
                dead_seconds = self._clock.dead_seconds if end_dead else runs.NEVER_SECONDS
                runs.recover(connection, self._issue_id, at=at, dead_seconds=dead_seconds)
            elif leader is not None:
                runs.join(connection, leader)
            self._run_id = runs.begin(connection, self._issue_id, at=at)
            self.refusals_accepted = control.refusals_accepted(connection, self._issue_id)
            self.queued_at = issues.queued_at(connection, self._issue_id)
            self._count(connection)
            running_totals.fold(connection, self._issue_id)
        if self._fence is not None:
            self._fence.confirmed(began, 0)
        return self._run_id

    async def commit(self, count: int, except_domains: frozenset[str]) -> Taken:
        """Write what is unwritten and claim up to `count` more, as far as the window has room."""
        async with self._writing:
            entries, self.unwritten = self.unwritten, Unwritten()
            # What is settled here leaves `sending` in the same transaction.
            room = min(count, self._window_size - len(self.window))
            held = frozenset() if self._fence is None else self.window.held()
            wishes = [] if self._sharing is None else self._sharing.wishes()
            began = self._clock.ticks()
            step = partial(self._transact, entries, room, except_domains, held, wishes)
            writing = asyncio.ensure_future(asyncio.to_thread(self.insist, step))
            try:
                # Even a cancelled caller waits: the transaction continues in its thread, and only then
                # is it known whether it was written.
                await asyncio.wait([writing])
            finally:
                if not writing.done():
                    await asyncio.wait([writing])
                if writing.exception() is not None:
                    entries.put_before(self.unwritten)
                else:
                    taken, granted = writing.result()
                    self.window.add(taken.claimed)
                    if taken.claimed:
                        self._looked_at = min(self._looked_at, began)
                        self._claimed_at = min(self._claimed_at, began)
                    self.after = taken.after
                    if self._sharing is not None:
                        self._sharing.accept(wishes, granted)
            return writing.result()[0]

    def end(self, pause_reason: str, reason: str = "") -> bool:
        """Write what is left, release what was not started and recount; return whether the issue is finished.

        A `pause_reason` pauses the issue; an empty one does not change its state. `reason` says why else the
        run ended early. Raises `TakenOverError` if another process has ended the run; what it had sent is
        written even then, unless another run has claimed it again.
        """
        self.unwritten.unsent.extend(self.window.waiting())
        try:
            return self.insist(partial(self._end, pause_reason, reason))
        except TakenOverError:
            self.insist(self._settle_late)
            raise
        except UnavailableError as error:
            number = counted(self._counts[DeliveryState.SENDING.value], "delivery", "deliveries")
            raise UnavailableError(
                f"the run waited for the database and gave up; {number} whose outcome it could"
                f" not write will be uncertain ({error.message})",
                remedy="once the database answers, run the same command again",
            ) from error

    def next_due(self, except_domains: frozenset[str]) -> datetime | None:
        """Return when the next retry is due, ignoring these domains; None if none is waiting."""

        def read() -> datetime | None:
            with self._database.reading() as connection:
                return next_due(
                    connection, self._issue_id, resend_uncertain=self._resend, except_domains=except_domains
                )

        return self.insist(read)

    def others_hold_some(self) -> bool:
        """Return whether other runs have claimed deliveries, or gave some back; recover dead runs.

        A run that was ended for its silence may still write what it sent, until its deliveries are due.

        Only on PostgreSQL. On SQLite the command that started several workers recovers.
        """
        if self._fence is None:
            return False
        dead_seconds = self._fence.dead_seconds(self._clock.dead_seconds)

        def look() -> bool:
            with self._database.transaction() as connection:
                living = runs.end_dead(connection, at=self._now(), dead_seconds=dead_seconds)
                others = [
                    run.id for run in living if run.issue_id == self._issue_id and run.id != self._run_id
                ]
                self._count(connection)
                given_back = self._counts[DeliveryState.QUEUED.value] > 0 and not self.members_only
                return (
                    given_back
                    or (bool(others) and queue.holds_any(connection, self._issue_id, others))
                    or (self._resend and runs.silent_ones_hold_some(connection, self._issue_id))
                )

        return self.insist(look)

    def _close_fence(self) -> None:
        if self._fence is not None:
            self._fence.close()

    @contextmanager
    def _confirmed(self) -> Iterator[tuple[Connection, bool]]:
        """Begin a transaction that confirms the run; yield whether it was not committed before.

        A commit may succeed without its answer arriving. The step is then repeated, and must not write again.
        """
        if self._fence is None:
            with self._database.transaction() as connection:
                yield connection, True
            return
        began, commits = self._clock.ticks(), self._fence.commits
        with self._database.transaction() as connection:
            # A run that was stopped must not keep the locks of shared limits from the others for long.
            silent_seconds = min(self._clock.silent_seconds, 2 * LEASE_SECONDS)
            first = runs.confirm(connection, self._run_id, commits=commits, silent_seconds=silent_seconds)
            yield connection, first
        self._fence.confirmed(began, commits + 1)

    def _end(self, pause_reason: str, reason: str) -> bool:
        at = self._now()
        with self._confirmed() as (connection, first):
            if first:
                self._write(connection, self.unwritten, at)
                if pause_reason:
                    control.pause(connection, self._issue_id, pause_reason)
                runs.end(connection, self._run_id, at=at, reason=reason)
                if self._sharing is not None:
                    self._sharing.leave(connection)
            elif not runs.has_ended(connection, self._run_id):
                raise UnavailableError("the answer to a commit was lost")
            finished = control.finish(connection, self._issue_id, at=at)
            self._count(connection)
            if self._counts[DeliveryState.SENT.value]:
                control.publish(connection, self._issue_id, at=at)
        return finished

    def _settle_late(self) -> None:
        with self._database.transaction() as connection:
            outcomes = self.unwritten.outcomes
            queue.settle_late(connection, self._issue_id, outcomes, run_id=self._run_id, at=self._now())

    def _transact(
        self,
        entries: Unwritten,
        room: int,
        except_domains: frozenset[str],
        held: frozenset[int],
        wishes: list[Wish],
    ) -> tuple[Taken, Granted | None]:
        at, members_only = self._now(), self._undecided
        taken, granted = Taken([], self.after, 0, Counter()), None
        with self._confirmed() as (connection, first):
            if not first:
                self._catch_up(connection, held, at)
                return taken, None
            moved = self._write(connection, entries, at)
            issue = issues.progress(connection, self._issue_id)
            members_only |= issue.members_only
            if not issue.published and moved[DeliveryState.SENT.value]:
                control.publish(connection, self._issue_id, at=at)
            if room > 0 and issue.state is IssueState.SENDING:
                taken = queue.claim(
                    connection, self._issue_id, run_id=self._run_id, limit=room, after=self.after, at=at,
                    resend_uncertain=self._resend, except_domains=except_domains,
                    members_only=members_only, retry_scan=self._retry_scan, with_arms=self._with_arms,
                    with_tags=self._with_tags,
                )  # fmt: skip
            if self._sharing is not None:
                # Last, so that its locks are held only while the transaction is committed.
                granted = self._sharing.exchange(connection, wishes)
        self.state, self.members_only = issue.state, members_only
        self._counts.update(moved)
        self._counts.subtract(taken.left)
        self._counts[DeliveryState.SENDING.value] += len(taken.claimed)
        self._counts[DeliveryState.SKIPPED.value] += taken.skipped
        return taken, granted

    def _catch_up(self, connection: Connection, held: frozenset[int], at: datetime) -> None:
        """Give back what an unanswered commit claimed, and count again; the rest of it stands."""
        claimed = queue.held(connection, self._issue_id, self._run_id) - held
        queue.release(connection, self._issue_id, claimed, run_id=self._run_id, at=at)
        self._count(connection)

    def _write(self, connection: Connection, entries: Unwritten, at: datetime) -> Counter[str]:
        """Write the entries; return by how much each state grew."""
        issue_id, run_id = self._issue_id, self._run_id
        queue.settle(connection, issue_id, entries.outcomes, run_id=run_id, at=at)
        moved = Counter(outcome.state.value for outcome in entries.outcomes)
        moved.update(queue.release(connection, issue_id, entries.unsent, run_id=run_id, at=at))
        moved[DeliveryState.SENDING.value] -= len(entries.outcomes) + len(entries.unsent)
        failed = queue.fail_pending(
            connection, issue_id, [one.subscriber_id for one in entries.cleared], run_id=run_id, at=at
        )
        moved[DeliveryState.DEFERRED.value] -= len(failed)
        moved[DeliveryState.FAILED.value] += len(failed)
        classes: dict[int, str | None] = {
            one.subscriber_id: one.bounce_class
            for one in entries.outcomes
            if one.state is DeliveryState.FAILED
        }
        classes |= {
            one.subscriber_id: one.verdict.bounce_class
            for one in entries.cleared
            if one.subscriber_id in failed
        }
        announce_failures(connection, issue_id, classes, at=at)
        if refusals := [one for one in entries.cleared if one.subscriber_id in failed]:
            self._learn(connection, refusals, at)
        queue.retry_pending(connection, issue_id, entries.ours, run_id=run_id, at=at)
        return moved

    def _still_mailable(self, subscriber_ids: list[int]) -> set[int]:
        try:
            return mailable_now(self._database, subscriber_ids, at=self._now())
        except UnavailableError:
            self._close_fence()
            raise

    def _count(self, connection: Connection) -> None:
        books = books_of(connection, self._issue_id)
        self._counts = Counter({state.value: getattr(books, state.value) for state in DeliveryState})
