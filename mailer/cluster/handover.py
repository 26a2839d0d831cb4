"""Watching how the workers send an issue that a command has handed over to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from mailer.cluster import members, turns
from mailer.config import DeliverySettings
from mailer.database.models import CanaryState, IssueState
from mailer.database.session import Database
from mailer.delivery import issues
from mailer.delivery.books import Books, books_of
from mailer.delivery.clock import now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.patience import Patience
from mailer.delivery.work import with_work

_LOOK_SECONDS: Final = 1.0


def watch(
    database: Database,
    issue: QueuedIssue,
    settings: DeliverySettings,
    *,
    say: Callable[[str], None],
    progress: Callable[[Books], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Ended | None:
    """Report progress until the workers have nothing to send now; return how the issue ended.

    Returns None if no worker is running, or the last one ended or died: then the caller sends. Ctrl-C ends
    the watching, not the workers.
    """
    if issue.canary not in (None, CanaryState.PASSED):
        return None
    told = False
    patience = Patience(settings.database_patience.total_seconds())
    try:
        while True:
            ended, busy = patience.call(lambda: _look(database, issue.id, settings))
            if not busy:
                return None
            progress(ended.books)
            if ended.ending is not Ending.STOPPED:
                return ended
            if not told:
                say("the workers send it; Ctrl-C ends only this command")
                told = True
            sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        say(f"the workers go on; to stop them: mailer pause {issue.slug}")
        with database.reading() as session:
            return Ended(Ending.STOPPED, books_of(session, issue.id))


def _look(database: Database, issue_id: int, settings: DeliverySettings) -> tuple[Ended, bool]:
    """Return how an issue stands, `STOPPED` while there is something to send, and whether a worker lives."""
    with database.transaction() as session:
        issue, books = issues.get(session, issue_id), books_of(session, issue_id)
        if issue.state is IssueState.FINISHED:
            return Ended(Ending.FINISHED, books), True
        if issue.state is IssueState.PAUSED:
            return Ended(Ending.PAUSED, books, issue.reason), True
        if issue.state is IssueState.CANCELLED:
            return Ended(Ending.CANCELLED, books), True
        ready = with_work(session, at=now(), resend_uncertain=settings.uncertain == "resend")
        if issue not in ready:
            # `wait_for_retries` is for a run of this process: the workers send the retries by themselves.
            return Ended(Ending.WAITING, books), bool(members.living(session))
        return Ended(Ending.STOPPED, books), turns.offer_to_all(session, issue, settings)
