"""Group commit: small changes share a transaction.

A commit costs a write to the disk, whatever is in it. While one is in progress the next changes queue up,
and all of them go into the next one; each caller gets its result once that has committed. Consecutive
changes of one kind are passed on together, so a burst of a thousand takes a few statements. For the same
reason each event loop is woken only once for all of its callers: waking it is a system call, after which the
thread has to wait for the GIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from mailer.database.engine import Database
from mailer.errors import StorageError
from mailer.tasks import Tasks, Watch

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Connection, Sequence[Item]], Sequence[Result]]
"""Writes the items of one kind, in order; returns a result for each."""


def each(act: Callable[[Connection, Item], Result]) -> Work[Item, Result]:
    """Return work that calls `act` for each item. Keep the result: only the same work shares a batch."""

    def work(connection: Connection, items: Sequence[Item]) -> Sequence[Result]:
        return [act(connection, item) for item in items]

    return work


_TASK: Final = "changes"
_PROBE_SECONDS: Final = 5.0
"""After a failure, how often to try whether the database can be written again."""
_CAPACITY: Final = 10_000
_MOST_AT_ONCE: Final = 500
# A transaction of one costs as much as one of fifty, and takes CPU time from the requests.
_GATHERING_SECONDS: Final = 0.001


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Change:
    work: Work[Any, Any]
    item: Any
    outcome: asyncio.Future[Any] | None


class Writer:
    """A thread that makes changes in order, in as few transactions as it can."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[_Change | None] = queue.Queue(_CAPACITY)
        self._thread: threading.Thread | None = None
        self._watch = Watch(_TASK)

    def start(self, tasks: Tasks | None = None) -> None:
        """Start writing, as one of `tasks`."""
        if tasks is not None:
            self._watch = tasks.watch(_TASK)
        self._thread = threading.Thread(target=self._run, name="mailer-writer")
        self._thread.start()

    def close(self) -> None:
        """Write the changes that are waiting, then stop."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def submit(self, work: Work[Item, Result], item: Item) -> asyncio.Future[Result]:
        """Return the future result of `work` for `item`; it is set once that has been committed.

        Call it in an event loop. The future raises what `work` or the database raised; then nothing of this
        item is stored. Raises `StorageError` if too many changes are waiting already.
        """
        outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._put(_Change(work, item, outcome))
        return outcome

    def submit_unattended(self, work: Work[Item, Any], item: Item) -> None:
        """Do `work` for `item` without waiting for it; a failure is logged.

        Raises `StorageError` if too many changes are waiting already.
        """
        self._put(_Change(work, item, None))

    def _put(self, change: _Change) -> None:
        try:
            self._waiting.put_nowait(change)
        except queue.Full as error:
            raise StorageError(f"{_CAPACITY:,} changes are waiting for the database") from error

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                change = self._waiting.get(timeout=_PROBE_SECONDS if self._watch.failures else None)
            except queue.Empty:
                with self._watch.attempt():
                    self._database.check_writable()
                continue
            batch, stopping = self._gather(change)
            if batch:
                with self._watch.attempt():
                    self._write(batch)

    def _gather(self, change: _Change | None) -> tuple[list[_Change], bool]:
        """Return a change and those that wait behind it, and whether the writer was closed."""
        batch: list[_Change] = []
        time.sleep(_GATHERING_SECONDS)
        while change is not None:
            batch.append(change)
            if len(batch) == _MOST_AT_ONCE:
                break
            try:
                change = self._waiting.get_nowait()
            except queue.Empty:
                break
        return batch, change is None

    def _write(self, batch: list[_Change]) -> None:
        """Write changes and pass on their results; raise `StorageError` if none could be written."""
        try:
            with self._database.transaction() as connection:
                results = [
                    result
                    for work, run in groupby(batch, attrgetter("work"))
                    for result in work(connection, [change.item for change in run])
                ]
        except StorageError as error:
            _tell(batch, [error] * len(batch))
            raise
        except Exception as error:
            # One change is at fault; the others must not fail with it, so each is tried alone.
            if len(batch) == 1:
                _tell(batch, [error])
                return
            for change in batch:
                self._write([change])
        else:
            _tell(batch, results)


def _tell(batch: Sequence[_Change], results: Sequence[Any]) -> None:
    """Set the results of the changes, waking each event loop once."""
    waiting: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    unheard: BaseException | None = None
    for change, result in zip(batch, results, strict=True):
        if change.outcome is not None:
            waiting.setdefault(change.outcome.get_loop(), []).append((change.outcome, result))
        elif isinstance(result, BaseException):
            unheard = result
    if unheard is not None:
        _log.error("a change was not written: %s", unheard)
    for loop, outcomes in waiting.items():
        # The loop may have been closed meanwhile: nobody waits for the result, and the change stays.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for outcome, result in outcomes:
        if outcome.done():
            # The caller no longer waits.
            continue
        if isinstance(result, BaseException):
            outcome.set_exception(result)
        else:
            outcome.set_result(result)
