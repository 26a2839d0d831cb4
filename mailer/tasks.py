"""Tasks: work that a process repeats beside its main job, and whether it succeeds.

An error never ends a task: it is logged, and the step is repeated after a pause that doubles up to a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mailer.errors import MailerError

LONG: Final = timedelta(minutes=15)
"""A task that has been failing for this long needs a person."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a task succeeds, and since when it has not."""

    name: str
    failing_since: datetime | None = None

    def failing_for_long(self, at: datetime) -> bool:
        """Return whether it has been failing for too long."""
        return self.failing_since is not None and at - self.failing_since >= LONG


class Watch:
    """Notes whether the attempts at one task succeed, and logs when that changes.

    `forget_seconds` is for work that several machines do in turn: a failure counts for as long, because
    the next attempt may be made by another one.
    """

    def __init__(self, name: str, *, forget_seconds: float | None = None) -> None:
        self.name = name
        self._forget_seconds = forget_seconds
        self._lock = threading.Lock()
        self._since: datetime | None = None
        self._said = ""
        self._failures = 0
        self._failed_at = 0.0

    @property
    def health(self) -> Health:
        """The present state."""
        with self._lock:
            forgotten = (
                self._forget_seconds is not None and time.monotonic() - self._failed_at > self._forget_seconds
            )
            return Health(self.name, None if forgotten else self._since)

    @property
    def failures(self) -> int:
        """How many attempts have failed since the last success."""
        return self._failures

    def succeeded(self) -> None:
        """Note a success."""
        with self._lock:
            failures, self._failures, self._since, self._said = self._failures, 0, None, ""
        if failures:
            _log.warning("%s: works again", self.name)

    def failed(self, error: BaseException) -> None:
        """Note a failure; log it unless it repeats the previous one."""
        said = str(error) if isinstance(error, MailerError) else repr(error)
        with self._lock:
            new, self._said = said != self._said, said
            self._failures += 1
            self._failed_at = time.monotonic()
            self._since = self._since or datetime.now(UTC)
        if new:
            unexpected = None if isinstance(error, MailerError) else error
            _log.error("%s: %s", self.name, said, exc_info=unexpected)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Note whether the block succeeds; its error goes no further."""
        try:
            yield
        except BaseException as error:
            # Even SystemExit or a cancellation that escaped from an event loop must not end a thread.
            self.failed(error)
        else:
            self.succeeded()


class Tasks:
    """The tasks of a process."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []

    def watch(self, name: str, *, forget_seconds: float | None = None) -> Watch:
        """Return a new watch for work that has a loop of its own."""
        watch = Watch(name, forget_seconds=forget_seconds)
        self._watches.append(watch)
        return watch

    def start(
        self,
        name: str,
        step: Callable[[], object],
        *,
        every_seconds: float | Callable[[], float],
        stop: Callable[[], object] = lambda: None,
    ) -> Task:
        """Repeat a step in a thread, starting now; see `Task`."""
        task = Task(self.watch(name), step, every_seconds=every_seconds, stop=stop)
        task.start()
        return task

    @contextmanager
    def running(
        self,
        name: str,
        step: Callable[[], object],
        *,
        every_seconds: float,
        stop: Callable[[], object] = lambda: None,
    ) -> Iterator[None]:
        """Repeat a step in a thread while the block runs; see `Task`."""
        task = self.start(name, step, every_seconds=every_seconds, stop=stop)
        try:
            yield
        finally:
            task.close()

    def health(self) -> list[Health]:
        """Return the state of each task."""
        return [watch.health for watch in self._watches]


class Task:
    """A thread that repeats a step; `stop` asks a step that takes long to end.

    `every_seconds`, or the function that returns it after a step, is the time between two steps.
    """

    def __init__(
        self,
        watch: Watch,
        step: Callable[[], object],
        *,
        every_seconds: float | Callable[[], float],
        stop: Callable[[], object] = lambda: None,
    ) -> None:
        self._watch = watch
        self._step = step
        self._every_seconds = every_seconds
        self._stop = stop
        self._woken = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"mailer-{watch.name.replace(' ', '-')}")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Do the next step now."""
        self._woken.set()

    def close(self) -> None:
        """Wait for the step under way to end, and end the thread."""
        self._closed = True
        self._woken.set()
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._woken.clear()
            with self._watch.attempt():
                self._step()
            every = self._every_seconds
            pause = every() if callable(every) else every
            if failures := self._watch.failures:
                pause = retry_pause(failures, first_seconds=min(FIRST_PAUSE_SECONDS, pause))
            if not self._closed:
                self._woken.wait(pause)


def retry_pause(failures: int, *, first_seconds: float = FIRST_PAUSE_SECONDS) -> float:
    """Return how many seconds to wait after this many failures: twice as long each time, up to a minute."""
    return min(LONGEST_PAUSE_SECONDS, first_seconds * 2.0 ** min(failures - 1, 20))
