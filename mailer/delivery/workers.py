"""Several processes that send one issue together.

The parent holds the database's lock, recovers what an earlier run left behind, starts the workers and
adds up their reports. Each worker is a run of its own, and they share every limit
(`mailer.delivery.sharing`); the queue gives each row to only one of them. A worker that dies leaves at
most its window uncertain and is replaced. If the parent dies, the workers see their standard input close
and stop cleanly; until then they hold the lock that they inherited. On PostgreSQL there is no such lock: the
parent is a run too, which sends nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from mailer.config import DeliverySettings, Settings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery import queue, runs, sharing
from mailer.delivery.bookkeeping import Learn, RunBooks
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock, now
from mailer.delivery.dispatch import STOP, STOP_NOW, Say, run_here, stop_in_two_steps
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import sending
from mailer.errors import ExitCode, MailerError, RelayDownError, RelayError
from mailer.replies import Refusal
from mailer.tokens import Signer

_CONFIRM_SECONDS: Final = 2.0
"""How often a parent confirms that its run is alive."""
_IDLE_DEATHS: Final = 3
"""How many workers may die without doing anything before the whole run gives up."""
# If workers end differently, the run gets the first of these endings.
_WEIGHTIEST: Final = (
    Ending.PAUSED,
    Ending.CANCELLED,
    Ending.STOPPED,
    Ending.UNREACHABLE,
    Ending.WAITING,
    Ending.FINISHED,
)


def work(
    settings: Settings,
    database: Database,
    issue: QueuedIssue,
    signer: Signer,
    *,
    learn: Learn,
    report: Callable[[dict[str, object]], None],
    leader: int | None,
    until_closed: int,
    say: Say | None = None,
) -> None:
    """Work until nothing is due, the descriptor `until_closed` closes, or SIGINT or SIGTERM arrives.

    `report` receives the run's id, then the books whenever they change, then how the run ended. `say` gets
    a line when the run waits for a silent server.
    """
    at_first: Books | None = None

    def progress(books: Books) -> None:
        nonlocal at_first
        at_first = at_first or books
        report(
            {"moved": {state: getattr(books, state) - getattr(at_first, state) for state in DeliveryState}}
        )

    try:
        ended = run_here(
            settings,
            database,
            issue,
            signer,
            learn=learn,
            progress=progress,
            begun=lambda run_id: report({"run": run_id}),
            leader=leader,
            until_closed=until_closed,
            say=say,
        )
    except MailerError as broken:
        failed = {"message": broken.message, "remedy": broken.remedy, "exit_code": int(broken.exit_code)}
        report({"failed": failed})
        return
    error = ended.error
    report(
        {
            "ended": ended.ending.value,
            "reason": ended.reason,
            "error": error and {"message": error.message, "remedy": error.remedy},
        }
    )


def dispatch_to_workers(
    command: Sequence[str],
    database: Database,
    issue: QueuedIssue,
    *,
    workers: int,
    settings: DeliverySettings | None = None,
    progress: Callable[[Books], None] = lambda books: None,
    say: Say | None = None,
) -> Ended:
    """Send an issue, or resume sending, with several processes.

    SIGINT and SIGTERM stop them cleanly; a second signal ends them without waiting for replies.

    `command` starts a worker; `NUMBER/WORKERS` is appended to it. Raises the same errors as `dispatch`.
    """
    settings = settings or DeliverySettings()
    with sending(database) as descriptor:
        # The run of this process sends nothing: it stands for its workers, from the first to the last.
        own = RunBooks(database, issue.id, settings, learn=_learn_nothing, clock=Clock())
        leader = own.begin(recover=True)
        if database.is_sqlite:
            with database.transaction() as connection:
                sharing.forget(connection)
        # Each worker opens the database for itself.
        database.engine.dispose()
        if database.is_sqlite:
            crew = _Crew(command, database, issue.id, workers, descriptor, own, progress)
        else:
            crew = _Crew(command, database, issue.id, workers, None, own, progress, leader)
        asyncio.run(crew.run(say))
        return crew.ended(own.end(""), own.books)


def _learn_nothing(connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
    return


class WorkerFailedError(MailerError):
    """Raised when a worker ends with an error; carries its message and remedy."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(str(told["message"]), remedy=told["remedy"])
        self.exit_code = ExitCode(told["exit_code"])


class _Crew:
    """The workers of a run, as the parent sees them."""

    def __init__(
        self,
        command: Sequence[str],
        database: Database,
        issue_id: int,
        workers: int,
        descriptor: int | None,
        own: RunBooks,
        progress: Callable[[Books], None],
        leader: int | None = None,
    ) -> None:
        self._command = [*command]
        self._leader = leader
        self._own = own
        self._database = database
        self._issue_id = issue_id
        self._workers = workers
        self._descriptor = descriptor
        self._books = own.books
        self._progress = progress
        self._moved: dict[asyncio.subprocess.Process, Counter[str]] = {}
        self._told: list[Mapping[str, Any]] = []
        self._failed: MailerError | None = None
        self._stopping = False
        self._idle_deaths = 0

    async def run(self, say: Say | None) -> None:
        """Keep the workers running until each has finished, or they are stopped."""
        loop = asyncio.get_running_loop()
        on_signal = stop_in_two_steps(self._stop, self._stop_now, say)
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, on_signal)
        living = asyncio.create_task(self._live())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._keep(number))
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(each)

    def ended(self, finished: bool, books: Books) -> Ended:
        """Return how the run as a whole ended; raise the error that stopped a worker."""
        if self._failed is not None:
            raise self._failed
        if finished:
            return Ended(Ending.FINISHED, books)
        told = sorted(self._told, key=lambda one: _WEIGHTIEST.index(Ending(one["ended"])))
        ending = Ending(told[0]["ended"]) if told else Ending.STOPPED
        if ending is Ending.FINISHED:
            # Another worker deferred its last rows after this one had looked.
            ending = Ending.WAITING
        error: RelayError | None = None
        if told and told[0]["error"]:
            kind = RelayDownError if ending is Ending.UNREACHABLE else RelayError
            error = kind(told[0]["error"]["message"], remedy=told[0]["error"]["remedy"])
        return Ended(ending, books, told[0]["reason"] if told else "", error)

    async def _live(self) -> None:
        """Confirm this process's run from time to time; stop the workers if that is impossible."""
        while self._leader is not None:
            await asyncio.sleep(_CONFIRM_SECONDS)
            try:
                await self._own.commit(0, frozenset())
            except MailerError as error:
                self._give_up(error)
                return

    def _stop(self) -> None:
        self._tell(STOP)

    def _stop_now(self) -> None:
        self._tell(STOP_NOW)

    def _tell(self, what: bytes) -> None:
        self._stopping = True
        self._own.hurry()
        for process in self._moved:
            if process.stdin is not None and process.returncode is None:
                process.stdin.write(what)

    async def _keep(self, number: int) -> None:
        """Run one worker, and replace it if it dies."""
        while not self._stopping and self._failed is None:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"{number + 1}/{self._workers}",
                *(() if self._leader is None else ("--leader", str(self._leader))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=() if self._descriptor is None else (self._descriptor,),
            )
            moved = self._moved[process] = Counter()
            run_id, cleanly = await self._listen(process, moved)
            await process.wait()
            if cleanly:
                return
            idle = not any(moved.values())
            if run_id is not None:
                await self._recover(run_id, moved)
            self._idle_deaths = self._idle_deaths + 1 if idle else 0
            if self._idle_deaths >= _IDLE_DEATHS:
                self._give_up(
                    MailerError(
                        f"workers end before they send anything (status {process.returncode})",
                        remedy="read their output above, or run without --workers to find the cause",
                    )
                )

    async def _listen(
        self, process: asyncio.subprocess.Process, moved: Counter[str]
    ) -> tuple[int | None, bool]:
        """Process a worker's reports; return its run's id, and whether it ended cleanly."""
        assert process.stdout is not None
        run_id: int | None = None
        async for line in process.stdout:
            told = json.loads(line)
            if "run" in told:
                run_id = told["run"]
                if self._stopping:
                    self._stop()
            elif "moved" in told:
                moved.clear()
                moved.update(told["moved"])
                self._progress(self._sum())
            elif "failed" in told:
                self._give_up(WorkerFailedError(told["failed"]))
                return run_id, True
            else:
                self._told.append(told)
                return run_id, True
        return run_id, False

    async def _recover(self, run_id: int, moved: Counter[str]) -> None:
        """End a dead worker's run and mark its claims as uncertain."""

        def step() -> int:
            with self._database.transaction() as connection:
                runs.end(connection, run_id, at=now())
                return queue.recover(connection, self._issue_id, at=now(), run_id=run_id)

        try:
            found = await asyncio.to_thread(self._own.insist, step)
        except MailerError as error:
            self._give_up(error)
            return
        self._database.engine.dispose()
        moved.update({"sending": -found, "uncertain": found})

    def _give_up(self, error: MailerError) -> None:
        self._failed = self._failed or error
        self._stop()

    def _sum(self) -> Books:
        moved: Counter[str] = Counter()
        for one in self._moved.values():
            moved.update(one)
        fields = asdict(self._books)
        return Books(**{name: number + moved[name] for name, number in fields.items()})
