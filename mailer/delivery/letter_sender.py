"""The task of `mailer serve` and `mailer worker` that sends letters, also while no run does.

On PostgreSQL its connections and messages count in the limits that all runs share.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import uvloop

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.delivery import dispatch
from mailer.delivery.clock import jitter, now, ticks
from mailer.delivery.letter_queue import LETTERS_AT_ONCE, LetterQueue
from mailer.delivery.sender import STOP_SECONDS
from mailer.delivery.sharing import Granted, Sharing
from mailer.errors import RelayError, StorageError
from mailer.smtp.pool import Item, Network, Pool, RelayState
from mailer.smtp.session import Attempt, Timeouts
from mailer.smtp.sharing import Wish
from mailer.tasks import Task, Tasks
from mailer.tokens import Signer

_LOOK_SECONDS: Final = 60.0
"""How often to look for retries, and for letters that other processes have queued."""
_TIMEOUTS: Final = Timeouts(connect=10.0, greeting=60.0)
"""If a relay accepts no more connections, its letters go back to the queue for a run that has one."""
_CLOSING_SECONDS: Final = 0.25
"""How often to look whether `close` was called."""
_ASK_SECONDS: Final = 0.25
"""How often to ask for the shared limits."""
_CONNECTIONS: Final = 4
"""The most connections to ask for: the others are for runs."""
_log = logging.getLogger(__name__)


class LetterSender:
    """Sends letters: `deliver` those that are due, or `start` a task that does so until `close`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        signer: Signer,
        *,
        clock: Callable[[], datetime] = now,
        jitter: Callable[[], float] = jitter,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._settings = settings
        self._database = database
        self._queue = LetterQueue(settings, database, signer, clock=clock, jitter=jitter)
        self._look_seconds = look_seconds
        self._ended = False
        self._task: Task | None = None

    def start(self, tasks: Tasks | None = None) -> None:
        """Start the task, one of `tasks`; it begins with the letters that are already due."""
        self._task = (tasks or Tasks()).start("letters", self.deliver, every_seconds=self._look_seconds)

    def call(self) -> None:
        """Send a letter that was just queued."""
        if self._task is not None:
            self._task.wake()

    def close(self) -> None:
        """Stop once the letters under way are settled, or after half a minute; the others wait."""
        self._ended = True
        self._queue.hurry()
        if self._task is not None:
            self._task.close()

    def deliver(self) -> None:
        """Send every letter that is due; refused ones wait, and fail after some days."""
        if not self._queue.idle():
            uvloop.run(self._deliver())

    async def _deliver(self) -> None:
        async with dispatch.open_relays(self._settings) as relays:
            # On SQLite only the workers of one command share limits.
            shared = not self._database.is_sqlite
            sharing = Sharing(
                ticks, lambda: _modest(pool.wishes()), lambda wishes, grants: pool.accept(wishes, grants)
            )
            pool = Pool(
                Network(relays, self._settings.providers, timeouts=_TIMEOUTS),
                take=self._take,
                compose=self._queue.compose,
                record=self._record,
                window=LETTERS_AT_ONCE,
                now=ticks,
                connected=self._queue.latencies.connected,
                shared=shared,
                may_send=sharing.leased if shared else lambda: True,
            )
            beside = [asyncio.create_task(self._stop_at_the_end(pool))]
            failure: RelayError | None = None
            try:
                if shared:
                    await self._ask(sharing)
                    beside.append(asyncio.create_task(self._keep_limits(sharing)))
                await pool.deliver()
            except RelayError as error:
                failure = error
                _log.error("letters wait: %s", error)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await self._queue.close(failure)
                await asyncio.to_thread(self._queue.latencies.write)
                if shared:
                    await asyncio.to_thread(self._give_up_limits, sharing)

    async def _keep_limits(self, sharing: Sharing) -> None:
        """Ask for a part of the shared limits again and again, since each lease ends soon."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            try:
                await self._ask(sharing)
            except StorageError as error:
                # Nothing leaves after the lease until the database answers again.
                _log.debug("letters wait for the shared limits: %s", error)

    async def _ask(self, sharing: Sharing) -> None:
        wishes = sharing.wishes()
        asking = asyncio.ensure_future(asyncio.to_thread(self._exchange, sharing, wishes))
        try:
            granted = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # The transaction goes on in its thread. Nothing may be given up before it has ended.
            await asyncio.gather(asking, return_exceptions=True)
            raise
        sharing.accept(wishes, granted)

    def _exchange(self, sharing: Sharing, wishes: Sequence[Wish]) -> Granted | None:
        with self._database.transaction() as connection:
            return sharing.exchange(connection, wishes)

    def _give_up_limits(self, sharing: Sharing) -> None:
        with self._database.transaction() as connection:
            sharing.leave(connection)

    async def _stop_at_the_end(self, pool: Pool) -> None:
        while not self._ended:  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(_CLOSING_SECONDS)
        pool.stop()
        await asyncio.sleep(STOP_SECONDS)
        pool.abort()

    async def _take(self, count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        return () if self._ended else await self._queue.exchange(count, except_domains)

    def _record(self, attempt: Attempt, relay: RelayState | None) -> None:
        self._queue.settle(attempt, relay)


def _modest(wishes: Sequence[Wish]) -> list[Wish]:
    """Return the wishes for a few connections only."""
    return [replace(wish, connections=min(wish.connections, _CONNECTIONS)) for wish in wishes]
