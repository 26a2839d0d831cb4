"""Watching how the workers send an issue that a command has handed over to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from mailer.cluster import members
from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import CanaryState, IssueState
from mailer.delivery import control, issues, runs
from mailer.delivery.books import Books, books_of
from mailer.delivery.clock import now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.patience import Patience
from mailer.delivery.work import has_work

_LOOK_SECONDS: Final = 1.0
_COUNTING_SHARE: Final = 0.05
"""The largest share of the time to spend on counting deliveries."""
_ENDED: Final = {
    IssueState.FINISHED: Ending.FINISHED,
    IssueState.PAUSED: Ending.PAUSED,
    IssueState.CANCELLED: Ending.CANCELLED,
}


def watch(
    database: Database,
    issue: QueuedIssue,
    settings: DeliverySettings,
    *,
    say: Callable[[str], None],
    progress: Callable[[Books], None],
    sleep: Callable[[float], None] = time.sleep,
    ticks: Callable[[], float] = time.monotonic,
) -> Ended | None:
    """Report progress until the workers have nothing to send now; return how the issue ended.

    Also says why the last run of a worker ended early, such as a relay that cannot be reached. Returns None
    if no worker is running, or the last one ended or died: then the caller sends. Ctrl-C ends the watching,
    not the workers.
    """
    if issue.canary not in (None, CanaryState.PASSED):
        return None
    counting = _Counting(database, issue.id, ticks)
    patience = Patience(settings.database_patience.total_seconds())
    said: set[str] = set()
    began_at = now()

    def say_once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    try:
        while True:
            seen = patience.call(lambda: _look(database, issue.id, settings, began_at))
            if seen.ending is not Ending.STOPPED:
                ending = seen.ending
                # The last delivery may be settled while its run still has to end.
                if ending is Ending.WAITING and patience.call(lambda: _finish(database, issue.id)):
                    ending = Ending.FINISHED
                return Ended(ending, patience.call(counting.count), seen.reason)
            if not seen.workers:
                return None
            say_once("the workers send it; Ctrl-C ends only this command")
            if seen.reason:
                say_once(f"a worker waits before it tries again: {seen.reason}")
            if counting.is_due():
                progress(patience.call(counting.count))
            sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        say(f"the workers go on; to stop them: mailer pause {issue.slug}")
        return Ended(Ending.STOPPED, counting.count())


class _Counting:
    """Counts the deliveries of an issue, less often the longer that takes."""

    def __init__(self, database: Database, issue_id: int, ticks: Callable[[], float]) -> None:
        self._database = database
        self._issue_id = issue_id
        self._ticks = ticks
        self._not_before = 0.0

    def is_due(self) -> bool:
        """Return whether to count again."""
        return self._ticks() >= self._not_before

    def count(self) -> Books:
        """Return the books."""
        began = self._ticks()
        with self._database.reading() as connection:
            books = books_of(connection, self._issue_id)
        ended = self._ticks()
        self._not_before = ended + (ended - began) / _COUNTING_SHARE
        return books


@dataclass(frozen=True, slots=True)
class _Seen:
    """How an issue stands: `STOPPED` while there is something to send."""

    ending: Ending
    reason: str
    workers: bool
    """Whether any worker is running."""


def _look(database: Database, issue_id: int, settings: DeliverySettings, began_at: datetime) -> _Seen:
    """Read a few rows by their keys, however large the issue is."""
    with database.reading() as connection:
        issue, alive = issues.get(connection, issue_id), bool(members.living(connection))
        if (ending := _ENDED.get(issue.state)) is not None:
            return _Seen(ending, issue.reason if ending is Ending.PAUSED else "", alive)
        if not has_work(connection, issue_id, at=now(), resend_uncertain=settings.uncertain == "resend"):
            # `wait_for_retries` is for a run of this process: the workers send the retries by themselves.
            return _Seen(Ending.WAITING, "", alive)
        return _Seen(Ending.STOPPED, _why_waiting(connection, issue_id, began_at), alive)


def _finish(database: Database, issue_id: int) -> bool:
    """Finish an issue if none of its deliveries is open; return whether none is."""
    with database.transaction() as connection:
        return control.finish(connection, issue_id, at=now())


def _why_waiting(connection: Connection, issue_id: int, began_at: datetime) -> str:
    """Return why the last run ended early, if that was since `began_at` and none is sending now."""
    last = runs.last_ended(connection, issue_id)
    if last is None or last.ended_at < began_at or runs.is_sending(connection, issue_id):
        return ""
    return f"{last.reason} ({last.host})" if last.reason else ""
