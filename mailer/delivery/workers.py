"""Several processes that send one issue together.

The parent holds the lock of the database, settles what an earlier run left behind, starts the workers
and adds up what they report. Each worker is a run of its own with its part of every limit; the queue
hands a row to one of them only. A worker that dies leaves at most its window uncertain and is replaced;
when the parent dies, the workers see their standard input close and end in order, and until then they
hold the lock that they inherited.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from mailer.config import Settings
from mailer.database.models import DeliveryState
from mailer.database.session import Database
from mailer.delivery import issues, queue
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.clock import now
from mailer.delivery.dispatch import run_here
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import sending, working
from mailer.delivery.queue import Books
from mailer.delivery.sender import Ended, Ending
from mailer.errors import ConfigError, ExitCode, MailerError, RelayDownError, RelayError
from mailer.tokens import Signer

_IDLE_DEATHS: Final = 3
"""How many workers may die before they have done anything, until the whole run gives up."""
# When workers end differently, the ending that says most is the run's.
_WEIGHTIEST: Final = (
    Ending.PAUSED,
    Ending.CANCELLED,
    Ending.STOPPED,
    Ending.UNREACHABLE,
    Ending.WAITING,
    Ending.FINISHED,
)


@dataclass(frozen=True, slots=True)
class Share:
    """Which worker it is, from 0, and of how many."""

    number: int
    workers: int

    def of(self, whole: int) -> int:
        """Return this worker's part of a limit; the parts add up to the whole."""
        return whole // self.workers + (self.number < whole % self.workers)


def shared(settings: Settings, share: Share) -> Settings:
    """Return the settings with this worker's part of the connections and rates.

    Raises `ConfigError` where a limit is too small to be divided: no limit may be broken by adding
    workers.
    """
    parts: dict[str, dict[str, Any]] = {}
    for kind, limited in (("relays", settings.relays), ("providers", settings.providers)):
        for name, limits in limited.items():
            if limits.connections < share.workers:
                raise ConfigError(
                    f"{kind}.{name}.connections is {limits.connections}:"
                    f" {share.workers} workers cannot share that",
                    remedy=f"use --workers {limits.connections}, or allow more connections",
                )
            part = {
                "connections": share.of(limits.connections),
                "rate_per_second": limits.rate_per_second / share.workers,
            }
            parts.setdefault(kind, {})[name] = msgspec.structs.replace(limits, **part)
    return msgspec.structs.replace(settings, **parts)


def work(
    settings: Settings,
    database: Database,
    issue: QueuedIssue,
    signer: Signer,
    *,
    learn: Learn,
    report: Callable[[dict[str, Any]], None],
    until_closed: int,
) -> None:
    """Be a worker until nothing is due, `until_closed` (a descriptor) closes, or SIGINT or SIGTERM comes.

    `report` gets the run's id, then the books each time they move, then how it ended.
    """
    at_first: Books | None = None

    def progress(books: Books) -> None:
        nonlocal at_first
        at_first = at_first or books
        report(
            {"moved": {state: getattr(books, state) - getattr(at_first, state) for state in DeliveryState}}
        )

    with working(database):
        try:
            ended = run_here(
                settings,
                database,
                issue,
                signer,
                learn=learn,
                progress=progress,
                begun=lambda run_id: report({"run": run_id}),
                until_closed=until_closed,
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
    progress: Callable[[Books], None] = lambda books: None,
) -> Ended:
    """Send an issue, or go on with it, by several processes; SIGINT and SIGTERM end them in order.

    `command` starts a worker; `NUMBER/WORKERS` is added to it. Raises what `dispatch` raises.
    """
    with sending(database) as descriptor:
        with database.transaction() as session:
            queue.recover(session, issue.id, at=now())
            books = queue.books(session, issue.id)
        # Each worker opens the database itself.
        database.engine.dispose()
        crew = _Crew(command, database, issue.id, workers, descriptor, books, progress)
        asyncio.run(crew.run())
        with database.transaction() as session:
            finished = issues.finish(session, issue.id, at=now())
            return crew.ended(finished, queue.books(session, issue.id))


class WorkerFailedError(MailerError):
    """A worker ended with an error of its own; its words are passed on."""

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
        books: Books,
        progress: Callable[[Books], None],
    ) -> None:
        self._command = command
        self._database = database
        self._issue_id = issue_id
        self._workers = workers
        self._descriptor = descriptor
        self._books = books
        self._progress = progress
        self._moved: dict[asyncio.subprocess.Process, Counter[str]] = {}
        self._told: list[Mapping[str, Any]] = []
        self._failed: MailerError | None = None
        self._stopping = False
        self._idle_deaths = 0

    async def run(self) -> None:
        """Keep the workers going until each has ended in order, or they are told to."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._stop)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._keep(number))
        finally:
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(each)

    def ended(self, finished: bool, books: Books) -> Ended:
        """Return how the run as a whole ended; raise what a worker could not go on with."""
        if self._failed is not None:
            raise self._failed
        if finished:
            return Ended(Ending.FINISHED, books)
        told = sorted(self._told, key=lambda one: _WEIGHTIEST.index(Ending(one["ended"])))
        ending = Ending(told[0]["ended"]) if told else Ending.STOPPED
        if ending is Ending.FINISHED:
            # The last rows of another worker were put off after this one had looked.
            ending = Ending.WAITING
        error: RelayError | None = None
        if told and told[0]["error"]:
            kind = RelayDownError if ending is Ending.UNREACHABLE else RelayError
            error = kind(told[0]["error"]["message"], remedy=told[0]["error"]["remedy"])
        return Ended(ending, books, told[0]["reason"] if told else "", error)

    def _stop(self) -> None:
        self._stopping = True
        for process in self._moved:
            if process.stdin is not None:
                process.stdin.close()

    async def _keep(self, number: int) -> None:
        """Run one worker, and another in its place when it dies."""
        while not self._stopping and self._failed is None:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"{number + 1}/{self._workers}",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=() if self._descriptor is None else (self._descriptor,),
            )
            moved = self._moved[process] = Counter()
            run_id, in_order = await self._listen(process, moved)
            await process.wait()
            if in_order:
                return
            idle = not any(moved.values())
            if run_id is not None:
                self._bury(run_id, moved)
            self._idle_deaths = self._idle_deaths + 1 if idle else 0
            if self._idle_deaths >= _IDLE_DEATHS:
                self._give_up(
                    MailerError(
                        f"workers end before they send anything (status {process.returncode})",
                        remedy="see what they said above; without --workers the cause is easier to find",
                    )
                )

    async def _listen(
        self, process: asyncio.subprocess.Process, moved: Counter[str]
    ) -> tuple[int | None, bool]:
        """Take in what a worker reports; return its run's id, and whether it ended in order."""
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

    def _bury(self, run_id: int, moved: Counter[str]) -> None:
        """Put a dead worker's claims among the uncertain."""
        with self._database.transaction() as session:
            found = queue.recover(session, self._issue_id, at=now(), run_id=run_id)
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
