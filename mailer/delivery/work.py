"""The work of `mailer worker`: queue the issues that are due, find those with something to send, send one.

Each step is safe to repeat, and to do on several machines: a scheduled issue is queued once, and runs share
what there is to send.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState
from mailer.delivery import (
    control,
    dispatch,
    enqueueing,
    issues,
    local_time,
    lock,
    requirements,
    runs,
    schedule,
)
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.canary import Steps, lead
from mailer.delivery.clock import now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.sequences import looking as sequences
from mailer.delivery.waiting import next_due
from mailer.errors import MailerError, StorageError
from mailer.tokens import Signer

_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Raised by `sleep` to leave the wait of a canary."""


@dataclass(frozen=True, slots=True)
class Work:
    """The tools with which a worker sends issues.

    `steps_of` returns the steps of a canary around a function that sends its members.
    """

    settings: Settings
    database: Database
    signer: Signer
    learn: Learn
    steps_of: Callable[[Callable[[], Ended]], Steps]
    say: Callable[[str], None]
    clock: Callable[[], datetime] = now

    def queue_due(self) -> datetime | None:
        """Queue the issues and steps of sequences whose time has come; return when the next issue is due."""
        at = self.clock()
        self._look_at_sequences(at)
        with self.database.reading() as connection:
            due = schedule.due(connection, at=at)
            ahead = [one.due_at for one in schedule.scheduled(connection) if one.due_at > at]
        if due:
            # Until both checks pass they wait; then they are late, and the operator decides.
            requirements.check_ready(self.settings)
            lock.check(self.database)
        for one in due:
            self._queue(one)
        return ahead[0] if ahead else None

    def _look_at_sequences(self, at: datetime) -> None:
        with self.database.reading() as connection:
            if not sequences.any_active(connection):
                return
        try:
            # Until both checks pass, people wait; then they get their steps at the next time of day.
            requirements.check_ready(self.settings)
            lock.check(self.database)
            queued = sequences.look(self.database, self.settings, at=at)
        except StorageError:
            raise
        except MailerError as error:
            _log.error("sequences wait: %s", error)
            return
        if queued:
            self.say(f"sequences: {queued:,} {'message' if queued == 1 else 'messages'} queued")

    def _queue(self, due: schedule.Scheduled) -> None:
        try:
            condition = enqueueing.audience_condition(self.settings, due.segment)
            with self.database.transaction() as connection:
                queue = schedule.queue_due if due.wall is None else local_time.queue_due
                issue = queue(connection, due.slug, at=self.clock(), condition=condition)
        except StorageError:
            raise
        except MailerError as error:
            # The other issues must not wait for it.
            _log.error("%s cannot be queued: %s", due.slug, error)
            return
        if issue is not None:
            self.say(f"{issue.slug}: queued")

    def finish_settled(self) -> None:
        """Finish the issues whose last run was killed after it had settled everything."""
        with self.database.reading() as connection:
            settled = [
                issue.id
                for issue in issues.issues(connection)
                if issue.state is IssueState.SENDING
                and not runs.is_sending(connection, issue.id)
                and control.is_settled(connection, issue.id)
            ]
        for issue_id in settled:
            with self.database.transaction() as connection:
                control.finish(connection, issue_id, at=self.clock())

    def ready(self, connection: Connection) -> list[QueuedIssue]:
        """Return the issues that are not paused and have a delivery to send now, oldest first."""
        return with_work(
            connection, at=self.clock(), resend_uncertain=self.settings.delivery.uncertain == "resend"
        )

    def send(
        self, issue: QueuedIssue, *, until_closed: int, sleep: Callable[[float], None], quietly: bool = False
    ) -> Ended:
        """Send what an issue has to send now, or take the next steps of its canary.

        The run stops cleanly when the descriptor `until_closed` closes. Prints how it ended, unless
        `quietly` and it was stopped. Raises `StoppedError` if `sleep` does.
        """

        def run() -> Ended:
            return dispatch.dispatch(
                self.settings,
                self.database,
                issue,
                self.signer,
                learn=self.learn,
                until_closed=until_closed,
                end_dead=self.database.is_sqlite,
            )

        steps = replace(self.steps_of(run), sleep=sleep)
        ended = lead(self.database, issue, self.settings.canary, steps) or run()
        if not (quietly and ended.ending is Ending.STOPPED):
            self.say(f"{issue.slug}: {_told(ended)}")
        return ended


def with_work(connection: Connection, *, at: datetime, resend_uncertain: bool) -> list[QueuedIssue]:
    """Return the issues that are not paused and have a delivery to send now, oldest first."""
    return [
        issue
        for issue in reversed(issues.issues(connection))
        if issue.state is IssueState.SENDING
        and has_work(connection, issue.id, at=at, resend_uncertain=resend_uncertain)
    ]


def has_work(connection: Connection, issue_id: int, *, at: datetime, resend_uncertain: bool) -> bool:
    """Return whether an issue has a delivery to send now, or one that is being sent."""
    due_at = next_due(connection, issue_id, resend_uncertain=resend_uncertain)
    if due_at is not None and due_at <= at:
        return True
    states = [DeliveryState.QUEUED.value, DeliveryState.SENDING.value]
    found = select(Delivery.c.issue_id).where(Delivery.c.issue_id == issue_id, Delivery.c.state.in_(states))
    return connection.execute(found.limit(1)).first() is not None


def _told(ended: Ended) -> str:
    books = ended.books
    why = f" ({ended.reason})" if ended.reason else ""
    return f"{ended.ending.value}, {books.sent:,} of {books.audience:,} sent{why}"
