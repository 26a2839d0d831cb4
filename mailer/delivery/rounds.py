"""The rounds of a worker on SQLite: queue the issues that are due, and send whatever is open.

A round does nothing while another process sends. A canary, which waits for reports, has a thread of its own.
Workers on PostgreSQL take turns instead; see `mailer.cluster`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from mailer.database.tables import CanaryState
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.work import StoppedError, Work
from mailer.errors import LockedError, MailerError
from mailer.tasks import Task, Tasks

_LOOK_SECONDS: Final = 30.0
"""How often to look for work."""
_log = logging.getLogger(__name__)


class Rounds:
    """A task that queues and sends what is due until `close`."""

    def __init__(self, work: Work, *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._work = work
        self._look_seconds = look_seconds
        self._pause_seconds = look_seconds
        """Until the next round: shorter if a scheduled issue is due before."""
        self._closed = threading.Event()
        # A run stops when its end of this pipe closes.
        self._until_closed, self._open = os.pipe()
        self._task: Task | None = None
        self._canaries: dict[int, threading.Thread] = {}
        """The threads that take canaries through their waits, by issue."""

    def start(self, tasks: Tasks | None = None) -> None:
        """Start the task, one of `tasks`."""
        self._task = (tasks or Tasks()).start(
            "issues", self.once, every_seconds=lambda: self._pause_seconds, stop=self._stop
        )

    def close(self) -> None:
        """Start no more messages, settle those under way, and end the task."""
        if self._task is not None:
            self._task.close()
        else:
            self._stop()
        for thread in self._canaries.values():
            thread.join()
        os.close(self._until_closed)

    def _stop(self) -> None:
        self._closed.set()
        os.close(self._open)

    def once(self) -> None:
        """Queue what is due, and send every issue that has something to send."""
        self._pause_seconds = self._look_seconds
        if (next_at := self._work.queue_due()) is not None:
            left = (next_at - self._work.clock()).total_seconds()
            self._pause_seconds = max(0.0, min(self._look_seconds, left))
        self._work.finish_settled()
        with self._work.database.reading() as connection:
            ready = self._work.ready(connection)
        for issue in ready:
            if self._closed.is_set():
                return
            if issue.canary in (None, CanaryState.PASSED):
                self._try(partial(self._send, issue))
            elif not (issue.id in self._canaries and self._canaries[issue.id].is_alive()):
                # The other issues do not wait for it.
                lead_it = partial(self._try, partial(self._send, issue))
                self._canaries[issue.id] = threading.Thread(target=lead_it, name=f"canary-{issue.slug}")
                self._canaries[issue.id].start()

    def _try(self, step: Callable[[], object]) -> None:
        """Send an issue; log its error, since the others must not wait, and the next round tries again."""
        try:
            step()
        except LockedError as error:
            _log.info("%s", error.message)
        except MailerError as error:
            _log.error("%s", error)
        except StoppedError:
            return
        except Exception:
            _log.exception("this round failed; the next one tries again")

    def _send(self, issue: QueuedIssue) -> None:
        self._work.send(issue, until_closed=self._until_closed, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise StoppedError
