"""A worker on PostgreSQL: takes turns and does chores until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import psycopg
import psycopg_pool
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition, Status

from mailer.cluster import engine, members, turns
from mailer.cluster.chores import Chore
from mailer.database.tables import IssueState
from mailer.delivery import issues, runs
from mailer.delivery.clock import DEAD_SECONDS
from mailer.delivery.dispatch import END_TURN
from mailer.delivery.ending import Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.work import StoppedError, Work
from mailer.errors import LockedError, MailerError, StorageError, UnavailableError
from mailer.tasks import Tasks, retry_pause

TURN_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 10
"""How often one of the workers looks for issues that have something to send."""
_CHORES_AT_A_TIME: Final = 6
_SPARE_THREADS: Final = 4
_CONFIRM_SECONDS: Final = 5.0
"""How often a worker reports that it is alive, and looks for dead ones."""
_POLL_SECONDS: Final = 1.0
"""How often to look for jobs. A turn that was offered during the previous one brings no notification."""
_AWAY_SECONDS: Final = 2.0
"""How long to wait for a database that is away before trying again."""
_TROUBLE_PAUSE: Final = timedelta(seconds=30)
"""How long a worker leaves an issue alone after a turn that failed."""
_FORGET_AFTER: Final = 5
"""After this many periods, a failed chore counts as done by another worker."""
_GRACE_SECONDS: Final = 5.0
"""How long a chore may go on once the worker is stopped."""
_CANCEL_SECONDS: Final = 10.0
"""How long the engine may take to end before it is cancelled again."""
_AWAY = (ConnectorException, psycopg.Error, psycopg_pool.PoolTimeout, StorageError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a worker; tests use shorter ones."""

    turn_seconds: float = TURN_SECONDS
    look_seconds: int = LOOK_SECONDS
    confirm_seconds: float = _CONFIRM_SECONDS
    dead_seconds: float = DEAD_SECONDS


class Daemon:
    """A worker. `run` returns after SIGINT, SIGTERM or `stop`. Its turns and chores are among `tasks`."""

    def __init__(
        self,
        work: Work,
        chores: Sequence[Chore],
        *,
        name: str,
        concurrency: int,
        times: Times | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        self._times = times or Times()
        self._work = work
        self._database = work.database
        self._name = name
        self._concurrency = concurrency
        look = Chore("look", self._times.look_seconds, self._look, priority=50)
        self._chores = [look, *chores]
        tasks = tasks or Tasks()
        self._watch = tasks.watch("turns")
        self._watches = {
            chore.name: tasks.watch(chore.name, forget_seconds=_FORGET_AFTER * chore.every_seconds)
            for chore in self._chores
        }
        self._member_id = 0
        self._in_touch_since = 0.0
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._open: set[int] = set()
        """The writing ends of the pipes of the turns under way."""
        self._pipes = threading.Lock()
        self._said: dict[int, str] = {}
        """The last note about each canary."""

    async def run(self) -> None:
        """Work until the process is stopped; wait for a database that is away."""
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping.is_set():
            self._stop()
        self._loop.set_exception_handler(_log_exception)
        # The default has too few threads for turns that each take one for a minute.
        threads = self._concurrency + _CHORES_AT_A_TIME + _SPARE_THREADS
        self._loop.set_default_executor(ThreadPoolExecutor(threads, "mailer-worker"))
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._stop)
        # It reports a lost connection with tracebacks; our own messages say what happens next.
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        try:
            while not self._stopped.is_set():
                pause = _AWAY_SECONDS
                try:
                    await self._serve()
                except _AWAY as error:
                    away = f"no turns begin until the database answers: {_first_line(error)}"
                    self._watch.failed(UnavailableError(away))
                except Exception as error:
                    self._watch.failed(error)
                    pause = retry_pause(self._watch.failures, first_seconds=_AWAY_SECONDS)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), pause)
        finally:
            if self._member_id:
                with contextlib.suppress(StorageError):
                    await asyncio.to_thread(self._leave)

    def stop(self) -> None:
        """Settle the messages under way and end; may be called from any thread."""
        self._stopping.set()
        if self._loop is not None:
            # The loop may have ended by itself meanwhile.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._stopped.is_set():
            return
        self._work.say("stopping: messages in flight are settled first")
        self._stopping.set()
        self._stopped.set()
        with self._pipes:
            for descriptor in self._open:
                os.close(descriptor)
            self._open.clear()
        for chore in self._chores:
            chore.stop()

    # The engine.

    async def _serve(self) -> None:
        """Take jobs until the worker is stopped or the engine loses the database."""
        if not self._member_id:
            await asyncio.to_thread(self._enter)
        await asyncio.to_thread(engine.prepare, self._database)
        self._in_touch_since = time.monotonic()
        app = App(
            connector=await asyncio.to_thread(engine.connector, self._database),
            periodic_defaults={"max_delay": 86_400},
        )
        self._register(app)
        async with app.open_async():
            shared: dict[str, Any] = {
                "wait": True,
                "install_signal_handlers": False,
                "delete_jobs": DeleteJobCondition.ALWAYS.value,
                "fetch_job_polling_interval": _POLL_SECONDS,
                "update_heartbeat_interval": self._times.dead_seconds / 6,
                "stalled_worker_timeout": self._times.dead_seconds,
            }
            await _until_one_ends(
                [
                    app.run_worker_async(
                        queues=[turns.queue_of(self._member_id)], concurrency=self._concurrency, **shared
                    ),
                    app.run_worker_async(
                        queues=["chores"],
                        concurrency=_CHORES_AT_A_TIME,
                        shutdown_graceful_timeout=_GRACE_SECONDS,
                        **shared,
                    ),
                    self._confirm_and_recover(app),
                    self._stopped.wait(),
                ]
            )

    def _register(self, app: App) -> None:
        async def turn(issue_id: int) -> None:
            await asyncio.to_thread(self._take_turn, issue_id)

        app.task(name=turns.TASK)(turn)
        for chore in self._chores:
            self._register_chore(app, chore)

    def _register_chore(self, app: App, chore: Chore) -> None:
        async def do(timestamp: int) -> None:
            await asyncio.to_thread(self._do, chore)

        task = app.task(
            name=chore.name,
            queue="chores",
            lock=chore.name,
            queueing_lock=chore.name,
            priority=chore.priority,
        )(do)
        app.periodic(cron=chore.cron)(task)

    async def _confirm_and_recover(self, app: App) -> None:
        """Report that this worker is alive; end the runs of dead workers and delete their jobs.

        A chore could not do this: it may be what a dead worker was doing.
        """
        jobs = app.job_manager
        while True:
            dead = await asyncio.to_thread(self._confirm)
            self._watch.succeeded()
            for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=self._times.dead_seconds):
                await jobs.finish_job(job, Status.FAILED, delete_job=True)
            await jobs.prune_stalled_workers(self._times.dead_seconds)
            for member_id in dead:
                for job in await jobs.list_jobs_async(queue=turns.queue_of(member_id), status="todo"):
                    assert job.id is not None
                    await jobs.cancel_job_by_id_async(job.id, delete_job=True)
            await asyncio.sleep(self._times.confirm_seconds)

    # In threads.

    def _do(self, chore: Chore) -> None:
        """Do a chore; its error is logged, since it is due again."""
        with self._watches[chore.name].attempt():
            chore.do()

    def _enter(self) -> None:
        with self._database.transaction() as connection:
            self._member_id = members.enter(connection, self._name, at=self._work.clock())

    def _leave(self) -> None:
        with self._database.transaction() as connection:
            members.leave(connection, self._member_id)

    def _confirm(self) -> list[int]:
        """Return the workers that have died since."""
        with self._database.transaction() as connection:
            members.confirm(connection, self._member_id, self._name, at=self._work.clock())
            dead = members.remove_dead(connection, dead_seconds=self._times.dead_seconds)
            # After an outage, the others may be about to report that they are alive, too.
            in_touch = time.monotonic() - self._in_touch_since >= self._times.dead_seconds
            dead_seconds = self._times.dead_seconds if in_touch else runs.NEVER_SECONDS
            runs.end_dead(connection, at=self._work.clock(), dead_seconds=dead_seconds)
        return dead

    def _look(self) -> None:
        """Queue the issues that are due, and offer turns of those that have something to send."""
        self._work.queue_due()
        self._work.finish_settled()
        with self._database.transaction() as connection:
            for issue in self._work.ready(connection):
                turns.offer_to_all(connection, issue, self._work.settings.delivery)

    def _take_turn(self, issue_id: int) -> None:
        """Send an issue until the turn ends or nothing is left to send now, then ask for the next turn."""
        with self._database.reading() as connection:
            issue = issues.get(connection, issue_id)
            if issue.state is not IssueState.SENDING or issue not in self._work.ready(connection):
                return
        after: timedelta | None = timedelta()
        try:
            with self._turn_pipe() as until_closed:
                work = replace(self._work, say=lambda said: self._say_once(issue, said))
                ended = work.send(issue, until_closed=until_closed, sleep=_leave_wait, quietly=True)
            if ended.ending is not Ending.STOPPED:
                after = _TROUBLE_PAUSE if ended.ending is Ending.UNREACHABLE else None
        except StoppedError:
            # A canary waits for reports; the next look goes on with it.
            return
        except LockedError as error:
            _log.info("%s", error.message)
            return
        except MailerError as error:
            _log.error("%s: %s", issue.slug, error)
            after = _TROUBLE_PAUSE
        except Exception:
            _log.exception("%s: this turn failed; another one follows", issue.slug)
            after = _TROUBLE_PAUSE
        if after is not None and not self._stopping.is_set():
            with self._database.transaction() as connection:
                turns.offer(connection, issue_id, self._member_id, after=after or None)

    @contextlib.contextmanager
    def _turn_pipe(self) -> Iterator[int]:
        """Yield a descriptor that tells a run when its turn, or the worker, ends."""
        reading, writing = os.pipe()
        with self._pipes:
            if self._stopping.is_set():
                os.close(writing)
            else:
                self._open.add(writing)

        def end_turn() -> None:
            with self._pipes:
                if writing in self._open:
                    os.write(writing, END_TURN)

        timer = threading.Timer(self._times.turn_seconds, end_turn)
        timer.daemon = True
        timer.start()
        try:
            yield reading
        finally:
            timer.cancel()
            with self._pipes:
                if writing in self._open:
                    self._open.remove(writing)
                    os.close(writing)
            os.close(reading)

    def _say_once(self, issue: QueuedIssue, said: str) -> None:
        """Print a note, unless it was the last one about this issue."""
        if self._said.get(issue.id) != said:
            self._said[issue.id] = said
            self._work.say(said)


async def _until_one_ends(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> None:
    """Run all until the first one ends, then cancel the others and wait for their ends."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        pending = set(tasks)
        while pending:
            for task in pending:
                task.cancel()
            # Cancelled while it starts or waits for a connection, the engine may miss it the first time.
            _, pending = await asyncio.wait(pending, timeout=_CANCEL_SECONDS)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


def _leave_wait(seconds: float) -> None:
    raise StoppedError


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, ConnectorException) and error.__cause__ else error
    return str(cause).partition("\n")[0]


def _log_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what no task handles, such as the end of a job that another worker has deleted."""
    error = context.get("exception")
    _log.warning("%s", _first_line(error) if isinstance(error, BaseException) else context["message"])
