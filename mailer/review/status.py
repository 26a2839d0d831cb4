"""The status of an issue: its books, deliveries that wait for a retry, its canary and its latest alerts."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection

from mailer.delivery import amending, arms, canary, runs
from mailer.delivery.amending import Numbered
from mailer.delivery.arms import Arm, Test
from mailer.delivery.books import Books, books_of, running_books
from mailer.delivery.canary import Findings
from mailer.delivery.difference import NAMES
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.waiting import Waiting, waiting
from mailer.reports.alerts import Happening, issue_alerts
from mailer.review.table import doing


class IssueStatus(Struct, frozen=True):
    """Everything that `mailer status` shows of an issue."""

    issue: QueuedIssue
    books: Books
    running: bool
    """Whether a process is sending it."""
    waiting: list[Waiting]
    canary: Findings | None
    """None without a canary."""
    alerts: tuple[Happening, ...]
    """The latest first."""
    editions: list[Numbered]
    """The oldest first; one, unless the issue was amended."""
    test: Test | None = None
    """Its A/B test."""
    arms: tuple[Arm, ...] = ()
    """The arms of its A/B test."""
    left_because: str = ""
    """Why the last run ended while something was left to send."""

    @property
    def doing(self) -> str:
        """What happens to it now."""
        return doing(self.issue, self.books, running=self.running)

    @property
    def next_at(self) -> datetime | None:
        """When the next retry is due; None if nothing waits."""
        return min((group.next_at for group in self.waiting if group.next_at), default=None)

    def as_dict(self) -> dict[str, object]:
        """Return the status as `mailer status --json` prints it."""
        issue = self.issue
        return {
            "issue": issue.slug,
            "title": issue.title,
            "state": issue.state.value,
            "running": self.running,
            "reason": issue.reason,
            "queued_at": issue.created_at.isoformat(),
            "finished_at": issue.finished_at.isoformat() if issue.finished_at else None,
            "next_try_at": self.next_at.isoformat() if self.next_at else None,
            "books": self.books.as_dict(),
            "editions": [
                {"number": one.number, "digest": one.digest, "since": one.since.isoformat(), "sent": one.sent}
                for one in self.editions
            ],
            "canary": None
            if self.canary is None or issue.canary is None
            else {
                "state": issue.canary.value,
                "until": issue.canary_until.isoformat() if issue.canary_until else None,
                **asdict(self.canary),
            },
            "ab_test": None
            if self.test is None
            else {
                "winner": None if self.test.winner is None else NAMES[self.test.winner],
                "said": self.test.said,
            },
            "alerts": [{"at": alert.at.isoformat(), **alert.facts} for alert in self.alerts],
            "left_because": self.left_because,
            "waiting": [
                {
                    "state": group.state.value,
                    "number": group.number,
                    "reason": group.reason,
                    "class": group.bounce_class,
                    "next_at": group.next_at.isoformat() if group.next_at else None,
                    "last_at": group.last_at.isoformat() if group.last_at else None,
                    "attempts": group.attempts,
                }
                for group in self.waiting
            ],
        }


def status_of(connection: Connection, issue: QueuedIssue, *, count: bool = True) -> IssueStatus:
    """Return the status of an issue; without `count`, its books are the running totals."""
    test, last = arms.find(connection, issue.id), runs.last_ended(connection, issue.id)
    books = books_of(connection, issue.id) if count else running_books(connection, issue.id)
    return IssueStatus(
        issue,
        books,
        any(run.issue_id == issue.id for run in runs.sending(connection)),
        waiting(connection, issue.id),
        canary.findings(connection, issue.id) if issue.canary else None,
        issue_alerts(connection, issue.id, limit=3),
        amending.numbers(connection, issue.id, books),
        test,
        () if test is None else tuple(arms.results(connection, issue.id)),
        "" if last is None else last.reason,
    )
