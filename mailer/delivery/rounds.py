"""The rounds of `mailer worker`: queue the issues that are due, and send whatever is open.

Each step is safe to repeat and to do on several machines: a scheduled issue is queued once, and runs share
what there is to send. On SQLite, a run of another process makes this one pass. A canary, which waits for
reports, has a thread of its own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.config import Settings
from mailer.database.models import CanaryState, Delivery, DeliveryState, IssueState
from mailer.database.session import Database
from mailer.delivery import dispatch, issues, schedule
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.canary import Steps, lead
from mailer.delivery.clock import now
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.sender import Ended
from mailer.delivery.waiting import next_due
from mailer.errors import LockedError, MailerError
from mailer.tokens import Signer

_LOOK_SECONDS: Final = 30.0
"""How often to look for work."""
_log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """Raised to leave the wait of a canary."""


class Rounds:
    """A thread that queues and sends what is due until `close`.

    `steps_of` returns the steps of a canary around a function that sends its members.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        signer: Signer,
        *,
        learn: Learn,
        steps_of: Callable[[Callable[[], Ended]], Steps],
        say: Callable[[str], None],
        clock: Callable[[], datetime] = now,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._settings = settings
        self._database = database
        self._signer = signer
        self._learn = learn
        self._steps_of = steps_of
        self._say = say
        self._clock = clock
        self._look_seconds = look_seconds
        self._pause_seconds = look_seconds
        """Until the next round: shorter if a scheduled issue is due before."""
        self._closed = threading.Event()
        # A run stops when its end of this pipe closes.
        self._until_closed, self._open = os.pipe()
        self._thread = threading.Thread(target=self._run, name="mailer-rounds")
        self._canaries: dict[int, threading.Thread] = {}
        """The threads that take canaries through their waits, by issue."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Start no more messages, settle those under way, and end the thread."""
        self._closed.set()
        os.close(self._open)
        for thread in (self._thread, *self._canaries.values()):
            thread.join()
        os.close(self._until_closed)

    def once(self) -> None:
        """Queue what is due, and send every issue that has something to send."""
        for one in self._due():
            condition = dispatch.audience_condition(self._settings, one.segment)
            with self._database.transaction() as session:
                issue = schedule.queue_due(session, one.slug, at=self._clock(), condition=condition)
            if issue is not None:
                self._say(f"{issue.slug}: queued")
        with self._database.reading() as session:
            resend = self._settings.delivery.uncertain == "resend"
            ready = with_work(session, at=self._clock(), resend_uncertain=resend)
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

    def _due(self) -> list[schedule.Scheduled]:
        with self._database.reading() as session:
            at = self._clock()
            due = schedule.due(session, at=at)
            ahead = [one.due_at for one in schedule.scheduled(session) if one.due_at > at]
        if ahead:
            self._pause_seconds = min(self._look_seconds, (ahead[0] - at).total_seconds())
        if due:
            # While the configuration is not ready, they wait; then they are late, and the operator decides.
            dispatch.check_ready(self._settings)
        return due

    def _run(self) -> None:
        while not self._closed.is_set():
            self._pause_seconds = self._look_seconds
            self._try(self.once)
            self._closed.wait(self._pause_seconds)

    def _try(self, step: Callable[[], None]) -> None:
        """Do a step; log its error, since the next round tries again."""
        try:
            step()
        except LockedError as error:
            _log.info("%s", error.message)
        except MailerError as error:
            _log.error("%s", error)
        except _StoppedError:
            return
        except Exception:
            _log.exception("this round failed; the next one tries again")

    def _send(self, issue: QueuedIssue) -> None:
        def run() -> Ended:
            return dispatch.dispatch(
                self._settings,
                self._database,
                issue,
                self._signer,
                learn=self._learn,
                until_closed=self._until_closed,
            )

        steps = replace(self._steps_of(run), sleep=self._sleep)
        ended = lead(self._database, issue, self._settings.canary, steps) or run()
        books = ended.books
        why = f" ({ended.reason})" if ended.reason else ""
        self._say(f"{issue.slug}: {ended.ending.value}, {books.sent:,} of {books.audience:,} sent{why}")

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise _StoppedError


def with_work(session: Session, *, at: datetime, resend_uncertain: bool) -> list[QueuedIssue]:
    """Return the issues that are not paused and have a delivery to send now, oldest first."""
    return [
        issue
        for issue in reversed(issues.issues(session))
        if issue.state is IssueState.SENDING and _has_work(session, issue.id, at, resend_uncertain)
    ]


def _has_work(session: Session, issue_id: int, at: datetime, resend_uncertain: bool) -> bool:
    due_at = next_due(session, issue_id, resend_uncertain=resend_uncertain)
    if due_at is not None and due_at <= at:
        return True
    states = [DeliveryState.QUEUED.value, DeliveryState.SENDING.value]
    found = select(Delivery.issue_id).where(Delivery.issue_id == issue_id, Delivery.state.in_(states))
    return session.execute(found.limit(1)).first() is not None
