"""Starting runs from the settings and an edition: shared by `send`, `test`, the workers and the demo."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import uvloop

from mailer.config import Settings, password
from mailer.database.engine import Database
from mailer.delivery import arms, editions, issues
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.books import Books
from mailer.delivery.clock import now
from mailer.delivery.ending import Ended
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.letter_queue import LetterQueue
from mailer.delivery.lock import sending
from mailer.delivery.relays import usable
from mailer.delivery.sender import STOP_SECONDS, Hooks, Sender
from mailer.smtp.pool import Access, Item, Network, Pool
from mailer.smtp.session import Attempt, Outgoing
from mailer.tokens import Signer

if TYPE_CHECKING:
    from mailer.smtp.outbox import Answer

_COLLECT_AFTER = 50_000
_SWITCH_SECONDS = 0.0002
STOP: Final = b"s"
STOP_NOW: Final = b"n"
END_TURN: Final = b"t"
"""Written to the pipe of a run to end its turn."""
_STOPPING: Final = (
    f"stopping: waiting up to {STOP_SECONDS:.0f} seconds for the replies to messages under way;"
    " interrupt again to end now, which leaves them uncertain"
)
Say = Callable[[str], None]


def dispatch(
    settings: Settings,
    database: Database,
    issue: QueuedIssue,
    signer: Signer,
    *,
    learn: Learn,
    progress: Callable[[Books], None] = lambda books: None,
    answer: Answer | None = None,
    until_closed: int | None = None,
    say: Say | None = None,
    end_dead: bool = True,
) -> Ended:
    """Send an issue, or resume sending, until nothing is due.

    SIGINT and SIGTERM stop it cleanly; a second signal ends it without waiting for replies. It also stops
    cleanly when the descriptor `until_closed` closes. `say` gets lines for the operator: what the run waits
    for, and how it stops. `answer` scripts the built-in outbox's replies to recipients, for the demo.
    Without `end_dead`, runs of other machines that have been silent for long are not ended. Raises
    `LockedError` if another run is sending from the database.
    """
    with sending(database):
        return run_here(
            settings,
            database,
            issue,
            signer,
            learn=learn,
            progress=progress,
            answer=answer,
            until_closed=until_closed,
            say=say,
            end_dead=end_dead,
        )


def run_here(
    settings: Settings,
    database: Database,
    issue: QueuedIssue,
    signer: Signer,
    *,
    learn: Learn,
    progress: Callable[[Books], None] = lambda books: None,
    answer: Answer | None = None,
    begun: Callable[[int], None] | None = None,
    leader: int | None = None,
    until_closed: int | None = None,
    say: Say | None = None,
    end_dead: bool = True,
) -> Ended:
    """Run an issue in this process; the caller holds the lock.

    `begun` is for one of several workers: it receives the run's id before anything is claimed, and the
    caller has already recovered what earlier runs left behind; `leader` is the caller's own run. The run
    also stops cleanly when the descriptor `until_closed` closes or gets `STOP`, and ends without waiting
    for replies when it gets `STOP_NOW`. `say` and `end_dead` are as for `dispatch`.
    """
    with database.reading() as connection:
        # Read it again: the issue may have been amended before we held the lock.
        issue = issues.get(connection, issue.id)
        edition = issues.edition(connection, issue.edition_digest)
        # A correction goes to everyone.
        amended = issues.edition_number(connection, issue.id) > 1
        tested = [] if amended else arms.editions(connection, issue.id)
    # Members of a canary get the issue before the archive shows it, so their links must not lead there.
    public = issue.public and not issue.members_only
    made = editions.composer(settings, edition, issue.id, signer, public=public)
    of_arms = [editions.composer(settings, arm, issue.id, signer, public=public) for arm in tested]
    letters = LetterQueue(settings, database, signer) if answer is None else None

    async def run() -> Ended:
        async with open_relays(settings, answer) as relays:
            sender = Sender(
                database,
                issue.id,
                made,
                Network(relays, settings.providers),
                settings.delivery,
                Hooks(learn, progress, begun, leader, letters, say, end_dead),
                arms=of_arms,
                undecided=bool(tested) and issue.members_only,
                signing=editions.signing(settings),
            )
            # The parent of several workers has announced the stop.
            with _stopping(sender, until_closed, say if begun is None else None):
                return await sender.run()

    with _tuned:
        return uvloop.run(run())


@contextmanager
def _stopping(sender: Sender, until_closed: int | None, say: Say | None) -> Iterator[None]:
    """Stop the sender on SIGINT, on SIGTERM, and when a descriptor closes or says so."""
    loop = asyncio.get_running_loop()
    on_signal = stop_in_two_steps(sender.stop, sender.stop_now, say)

    def readable() -> None:
        assert until_closed is not None
        told = os.read(until_closed, 4096)
        if not told:
            loop.remove_reader(until_closed)
        if STOP_NOW in told:
            sender.stop_now()
        elif told == END_TURN:
            sender.end_turn()
        else:
            sender.stop()

    # Only the main thread gets signals.
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    if until_closed is not None:
        loop.add_reader(until_closed, readable)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        if until_closed is not None:
            loop.remove_reader(until_closed)


def stop_in_two_steps(
    stop: Callable[[], None], stop_now: Callable[[], None], say: Say | None
) -> Callable[[], None]:
    """Return a function that stops cleanly when called first, and without waiting when called again."""
    calls = itertools.count(1)

    def on_signal() -> None:
        if next(calls) == 1:
            if say is not None:
                say(_STOPPING)
            stop()
        else:
            stop_now()

    return on_signal


class _Tuning:
    """Tunes the interpreter while a run of this process sends; several may send in threads.

    Collects garbage less often, since messages leave no cycles, and switches threads sooner: by default, the
    event loop would wait five milliseconds for each turn while a thread reads what it has claimed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._usual = (sys.getswitchinterval(), gc.get_threshold())

    def __enter__(self) -> None:
        with self._lock:
            self._runs += 1
            if self._runs > 1:
                return
            self._usual = (sys.getswitchinterval(), gc.get_threshold())
            gc.set_threshold(_COLLECT_AFTER, *self._usual[1][1:])
            sys.setswitchinterval(_SWITCH_SECONDS)

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                sys.setswitchinterval(self._usual[0])
                gc.set_threshold(*self._usual[1])


_tuned = _Tuning()


async def deliver_once(
    settings: Settings, outgoing: Outgoing, domain: str, *, say: Say | None = None
) -> Attempt:
    """Send one message outside the queue; return the attempt. `say` gets what it waits for."""
    attempts: list[Attempt] = []
    waiting = [Item(outgoing.key, domain)]

    async def take(count: int, except_domains: frozenset[str]) -> list[Item]:
        return [waiting.pop()] if waiting else []

    async with open_relays(settings) as relays:
        pool = Pool(
            Network(relays, settings.providers),
            take=take,
            compose=lambda key: outgoing,
            record=lambda attempt, relay: attempts.append(attempt),
            window=1,
            say=say,
        )
        await pool.deliver()
    return attempts[0]


@asynccontextmanager
async def open_relays(settings: Settings, answer: Answer | None = None) -> AsyncIterator[dict[str, Access]]:
    """Yield the relays for this machine, or the built-in outbox if none is configured or `answer` is given.

    Raises `ConfigError` if all relays are for other machines.
    """
    if settings.relays and answer is None:
        yield {
            name: Access(relay, password(relay, settings.folder) or "")
            for name, relay in usable(settings, now().date()).items()
        }
        return
    from mailer.smtp.outbox import Outbox

    async with Outbox(settings.path(settings.paths.outbox), answer=answer) as outbox:
        yield {"outbox": Access(outbox.relay())}
