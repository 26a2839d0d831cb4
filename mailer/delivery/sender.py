"""One run of an issue: take a window of deliveries, compose, transmit and record, until nothing is due.

The pool takes more deliveries when it runs low; outcomes are written in that same transaction, in a
thread. Messages are composed shortly before their turn; whether their subscriber may still be mailed is
checked at their turn. At no moment are more than `window` rows `sending`: that is what a crash can leave
uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from mailer import logs, replies
from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, IssueState
from mailer.delivery import queue
from mailer.delivery.ahead import Ahead
from mailer.delivery.bookkeeping import Learn, RunBooks
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.latencies import Latencies
from mailer.delivery.letter_queue import LETTERS_AT_ONCE, LetterQueue
from mailer.delivery.outcomes import Outcomes
from mailer.delivery.queue import Settled, Taken
from mailer.delivery.sharing import Sharing
from mailer.errors import (
    MailerError,
    RecipientError,
    RelayDownError,
    RelayError,
    StorageError,
    UnavailableError,
)
from mailer.rendering.message import Composer
from mailer.smtp.pool import Item, Network, NotNowError, Pool, RelayState
from mailer.smtp.session import Attempt, Outgoing
from mailer.smtp.sharing import Grant, Wish

if TYPE_CHECKING:
    from mailer.smtp.signing import SigningProcess

_FIRST_UNCOMPOSED: Final = 10
"""How many messages at the start of an issue may fail to be composed before it pauses."""
_LETTERS_SECONDS: Final = 0.5
"""How often to look for letters."""
_LOOK_SECONDS: Final = 0.2
"""How often to look for opt-outs on PostgreSQL."""
_ASK_AGAIN_SECONDS: Final = 0.05
"""How soon to ask again for shared limits, after another run asked at the same moment."""
STOP_SECONDS: Final = 30.0
"""How long a run that was stopped waits for the replies to messages under way."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions that a run calls."""

    learn: Learn
    """Called with the recipients' own refusals, in the transaction that marks their deliveries failed."""
    progress: Callable[[Books], None] = lambda books: None
    begun: Callable[[int], None] | None = None
    """Called with the run's id, before anything is claimed. The caller has recovered earlier runs."""
    leader: int | None = None
    """The run that this one is a worker of, on PostgreSQL."""
    letters: LetterQueue | None = None
    """Letters to send before the messages of the issue; None leaves them to other processes."""
    say: Callable[[str], None] | None = None
    """Called with a line for the operator when the run waits for a silent server."""
    end_dead: bool = True
    """Whether to end runs that have been silent for long. A worker on PostgreSQL does that itself."""


class Sender:
    """The run of one issue in this process."""

    def __init__(
        self,
        database: Database,
        issue_id: int,
        composer: Composer,
        network: Network,
        settings: DeliverySettings,
        hooks: Hooks,
        clock: Clock | None = None,
        arms: Sequence[Composer] = (),
        *,
        undecided: bool = False,
        signing: SigningProcess | None = None,
    ) -> None:
        """`arms` are the composers of an A/B test; while it is `undecided`, only its members are mailed.

        `signing` has the keys of the composers, and is closed at the end of the run.
        """
        self._issue_id = issue_id
        self._settings = settings
        self._hooks = hooks
        self._clock = clock or Clock()
        self._ahead = Ahead(composer, arms, signing, _soon)
        self._letters = letters = hooks.letters
        self._latencies = letters.latencies if letters else Latencies(database, self._clock.ticks)
        # On SQLite only the workers of one command send at the same time.
        self._on_sqlite = database.is_sqlite
        self._shared = not database.is_sqlite or hooks.begun is not None
        self._sharing = Sharing(self._clock.ticks, self._wishes, self._accept) if self._shared else None
        self._books = RunBooks(
            database, issue_id, settings, learn=hooks.learn, clock=self._clock, sharing=self._sharing,
            with_arms=bool(arms), with_tags=any(one.uses_tags for one in (composer, *arms)),
            undecided=undecided,
        )  # fmt: skip
        self._pool = self._make_pool(network)
        self._deadline: asyncio.TimerHandle | None = None
        self._uncomposed: int | None = None
        """How many messages could not be composed; None once one could, in this run or an earlier one."""
        self._outcomes = Outcomes(
            issue_id, settings, self._clock, self._books, self._pool, self._latencies,
            providers=network.providers, pause=self._pause,
        )  # fmt: skip
        self._ending: Ending | None = None
        self._reason = ""
        self._stopped = asyncio.Event()
        self._failure: Exception | None = None
        self._wrote_at = 0.0
        """The time of the event loop at the end of the last commit."""

    def _make_pool(self, network: Network) -> Pool:
        return Pool(
            network,
            take=self._take,
            compose=self._compose,
            record=self._record,
            # The pool keeps up to two of its windows waiting; ours bounds what is `sending` in all.
            window=max(1, self._settings.window // 2),
            now=self._clock.ticks,
            may_send=self._books.may_send,
            shared=self._shared,
            say=self._hooks.say,
            connected=self._latencies.connected,
        )

    async def run(self) -> Ended:
        """Send until nothing is due, the issue is paused, or `stop` is called.

        The caller holds `mailer.delivery.lock.sending`. Raises `StorageError` when the books cannot be
        written, and `TakenOverError` if another process has ended the run; the next start marks unsettled
        deliveries `uncertain`.
        """
        # Set here: a thread has a copy of the context.
        logs.RUN.set(await asyncio.to_thread(self._begin))
        self._wrote_at = asyncio.get_running_loop().time()
        self._hooks.progress(self.books)
        error: RelayError | None = None
        beside = [asyncio.create_task(self._keep_books())]
        if not self._on_sqlite:
            beside.append(asyncio.create_task(self._look_for_opt_outs()))
        try:
            if self._shared:
                # Nothing starts before this run has its part of the limits.
                await self._commit(0, frozenset())
            while self._ending is None:
                await self._pool.deliver()
                if not (
                    self._relay_took_over() or await self._wait_for_retry() or await self._wait_for_others()
                ):
                    break
        except RelayDownError as down:
            error = down
            self._end_as(Ending.UNREACHABLE, down.message)
        except RelayError as refused:
            # The relay would refuse again and again: the operator has to change the configuration.
            error = refused
            self._outcomes.blame(None, refused.message)
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._ahead.close()
            try:
                await asyncio.to_thread(self._end)
                await asyncio.to_thread(self._latencies.write)
            finally:
                await self._close_letters(error)
        if self._failure is not None:
            raise self._failure
        self._hooks.progress(self.books)
        assert self._ending is not None
        return Ended(self._ending, self.books, self._reason, error)

    def stop(self) -> None:
        """Start no more messages; those under way get half a minute to be finished and settled.

        If the database is away, give up soon.
        """
        self._hurry()
        self._end_as(Ending.STOPPED)
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(STOP_SECONDS, self.stop_now)

    def stop_now(self) -> None:
        """Close all connections; only messages whose body has left are settled as uncertain."""
        self._hurry()
        self._end_as(Ending.STOPPED)
        self._pool.abort()

    def _hurry(self) -> None:
        """Stop waiting for a database that is away."""
        self._books.hurry()
        if self._letters is not None:
            self._letters.hurry()

    def end_turn(self) -> None:
        """End as `stop` does, but wait for a database that is away."""
        self._end_as(Ending.STOPPED)
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(STOP_SECONDS, self._pool.abort)

    @property
    def books(self) -> Books:
        """The books as this run knows them."""
        return self._books.books

    # Called by the pool, on the event loop.

    async def _take(self, count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        """Take up to `count` deliveries, in the transaction that writes the latest outcomes."""
        while self._ending is None:
            taken = await self._commit(count, except_domains)
            self._hooks.progress(self.books)
            if taken.claimed:
                return [Item(one.recipient.subscriber_id, one.domain) for one in taken.claimed]
            if not taken.skipped:
                if not self._books.after:
                    break
                # Once more from the start: rows may have been queued again behind the cursor.
                self._books.after = 0
        return ()

    def _compose(self, key: int) -> Outgoing | None:
        if self._letters is not None and self._letters.owns(key):
            return self._letters.compose(key)
        return self._compose_delivery(key)

    def _compose_delivery(self, subscriber_id: int) -> Outgoing | None:
        window, outcomes = self._books.window, self._books.unwritten.outcomes
        try:
            claimed = window.begin(subscriber_id)
        except UnavailableError as error:
            raise NotNowError from error
        if claimed is None:
            outcomes.append(Settled(subscriber_id, DeliveryState.SKIPPED, reply=queue.OPTED_OUT))
            return None
        try:
            message = self._ahead.message(claimed, window.following())
        except RecipientError as error:
            window.end(subscriber_id)
            outcomes.append(Settled(subscriber_id, DeliveryState.FAILED, reply=str(error)[:512]))
            self._not_composed(error)
            return None
        self._uncomposed = None
        return Outgoing(subscriber_id, message.envelope, message.parts, wire_safe=True)

    def _not_composed(self, error: RecipientError) -> None:
        """Pause when the very first messages of an issue cannot be composed: it is wrong for everybody."""
        if self._uncomposed is None:
            return
        self._uncomposed += 1
        if self._uncomposed == _FIRST_UNCOMPOSED:
            self._pause(
                f"the first {_FIRST_UNCOMPOSED} messages cannot be composed: {error.message};"
                " withdraw the issue and correct it, or resume it for the other readers"
            )

    def _record(self, attempt: Attempt, relay: RelayState | None) -> None:
        if self._letters is None or not self._letters.owns(attempt.key):
            self._outcomes.record(attempt, relay)
        elif (heard := self._letters.settle(attempt, relay)) is not None:
            self._outcomes.heed_provider(*heard)

    def _pause(self, reason: str) -> None:
        self._end_as(Ending.PAUSED, reason)

    def _end_as(self, ending: Ending, reason: str = "") -> None:
        if self._ending is None:
            self._ending, self._reason = ending, reason
        self._stopped.set()
        self._pool.stop()

    def _wishes(self) -> list[Wish]:
        return self._pool.wishes()

    def _accept(self, wishes: Sequence[Wish], grants: Sequence[Grant]) -> None:
        self._pool.accept(wishes, grants)

    # The books.

    async def _commit(self, count: int, except_domains: frozenset[str]) -> Taken:
        """Write the latest outcomes and claim more; end the run if another process stopped the issue."""
        self._outcomes.collect()
        taken = await self._books.commit(count, except_domains)
        self._wrote_at = asyncio.get_running_loop().time()
        match self._books.state:
            case IssueState.SENDING | IssueState.FINISHED:
                pass
            case IssueState.PAUSED:
                self._end_as(Ending.PAUSED)
            case IssueState.CANCELLED:
                self._end_as(Ending.CANCELLED)
            case _:
                assert_never(self._books.state)
        return taken

    async def _keep_books(self) -> None:
        """Write outcomes soon, even for a slow relay, and notice what other processes decided."""
        loop, period = asyncio.get_running_loop(), self._clock.settle_seconds
        looked_at = loop.time()
        while True:
            again_soon = self._sharing is not None and self._sharing.refused
            wrote_at = self._wrote_at
            due_in = max(period / 3, wrote_at + period - loop.time())
            await asyncio.sleep(_ASK_AGAIN_SECONDS if again_soon else due_in)
            try:
                # If a claim has written them meanwhile, another commit would only delay the next claim.
                if again_soon or (self._wrote_at == wrote_at and self._must_write(loop.time() - wrote_at)):
                    await self._commit(0, frozenset())
            except Exception as error:
                # Nothing may be sent that cannot be recorded.
                self._failure = error
                self._end_as(Ending.STOPPED)
                return
            self._hooks.progress(self.books)
            if loop.time() - looked_at >= _LETTERS_SECONDS:
                looked_at = loop.time()
                await self._latencies.write_when_due()
                await self._take_letters()

    def _must_write(self, age_seconds: float) -> bool:
        """Return whether outcomes wait, or it is time to confirm the run and look at its issue."""
        return bool(self._books.unwritten.outcomes) or age_seconds >= 3 * self._clock.settle_seconds

    async def _look_for_opt_outs(self) -> None:
        """Look beside the loop for subscribers who opted out since their delivery was claimed."""
        while True:
            try:
                await self._books.look_for_opt_outs()
            except StorageError as error:
                # Nothing leaves until a look succeeds.
                _log.debug("opt-outs are unknown: %s", error)
            except Exception as error:
                # Without looks nothing would ever leave, and the run would wait for ever.
                self._failure = error
                self._end_as(Ending.STOPPED)
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _take_letters(self) -> None:
        """Put letters that are due ahead of everything else."""
        if self._letters is None or self._pool.stopping:
            return
        try:
            taken = await self._letters.exchange(LETTERS_AT_ONCE, frozenset(self._pool.held()))
        except MailerError as error:
            # The issue does not depend on them.
            _log.error("letters wait: %s", error)
            return
        except Exception:
            _log.exception("letters wait")
            return
        self._pool.put_first(taken)

    async def _close_letters(self, error: RelayError | None) -> None:
        if self._letters is None:
            return
        try:
            await self._letters.close(error)
        except MailerError as failure:
            # Their claims expire, and another process sends them.
            _log.error("letters wait: %s", failure)

    def _relay_took_over(self) -> bool:
        """Let the breaker decide; return whether another relay takes over.

        While a provider is on hold nothing is decided, since more of its replies will come.
        """
        if self._ending is not None or self._pool.held():
            return False
        return self._outcomes.tripped() and self._ending is None

    async def _wait_for_retry(self) -> bool:
        """Wait for the next retry, if so configured; return whether to continue."""
        if self._ending is not None or not self._settings.wait_for_retries:
            return False
        await self._commit(0, frozenset())
        if self._books.members_only:
            # A canary does not wait for its retries.
            return False
        held = self._pool.held()
        if not held and self._outcomes.pending:
            return True
        due = await asyncio.to_thread(self._books.next_due, frozenset(held))
        waits = list(held.values())
        if due is not None:
            waits.append((due - self._clock.now()).total_seconds())
        if not waits:
            return False
        # Sleep in parts: the clock may be set, and another process may queue deliveries again.
        seconds = max(0.05, min(*waits, self._clock.look_again_seconds))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._ending is None

    async def _wait_for_others(self) -> bool:
        """Wait until the other runs of the issue have settled what they claimed, or died; look again then.

        Returns False if they hold nothing, and nothing that a dead run left can be sent now.
        """
        if self._ending is not None or not self._shared or self._pool.held():
            return False
        before = self.books.uncertain
        hold_some = await asyncio.to_thread(self._books.others_hold_some)
        if hold_some:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), self._clock.look_at_others_seconds)
        return self._ending is None and (hold_some or self.books.uncertain > before)

    def _begin(self) -> int:
        run_id = self._books.begin(
            self._hooks.leader, recover=self._hooks.begun is None, end_dead=self._hooks.end_dead
        )
        self._outcomes.begin()
        # Here in a thread: on the event loop they would hold up all connections.
        replies.prepare()
        self._ahead.prepare(self.books.open)
        self._uncomposed = None if self.books.sent or self.books.failed else 0
        if self._hooks.begun is not None:
            self._hooks.begun(run_id)
        return run_id

    def _end(self) -> None:
        """Write the last of the books, and find out how the run ended."""
        if reason := self._outcomes.close(judging=self._ending is None):
            self._ending, self._reason = Ending.PAUSED, reason
        finished = self._books.end(
            self._reason if self._ending is Ending.PAUSED else "",
            self._reason if self._ending is Ending.UNREACHABLE else "",
        )
        if self._ending is None:
            self._ending = Ending.FINISHED if finished else Ending.WAITING
            self._reason = "; ".join(
                f"relay {name} was set aside: {why}" for name, why in self._outcomes.faults.items()
            )


def _soon(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)
