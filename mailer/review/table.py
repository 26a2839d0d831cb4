"""The table of all issues that `mailer status` prints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection

from mailer.config import Settings
from mailer.database.tables import IssueState
from mailer.delivery import issues, runs
from mailer.delivery.books import Books, books_of
from mailer.delivery.issues import QueuedIssue
from mailer.review.directory import DRAFT
from mailer.review.overview import issue_lines


class Row(Struct, frozen=True):
    """One issue. A draft has no books."""

    slug: str
    doing: str
    """What happens to it now, in a word or two."""
    books: Books | None = None
    at: datetime | None = None
    """When it was queued, or is due."""


def doing(issue: QueuedIssue, books: Books, *, running: bool) -> str:
    """Return what happens to an issue now; it is only `sending` while a process sends it."""
    if issue.state is not IssueState.SENDING:
        return issue.state.value
    if running:
        return "sending"
    if books.queued == books.audience:
        return "queued"
    return "interrupted" if books.queued or books.sending else "waiting"


def rows(connection: Connection, settings: Settings) -> list[Row]:
    """Return every issue: the drafts first, then the newest first."""
    queued = {issue.slug: issue for issue in issues.issues(connection)}
    running = {run.issue_id for run in runs.sending(connection)}
    found = []
    for line in issue_lines(connection, settings):
        issue = queued.get(line.slug)
        if issue is None:
            found.append(Row(line.slug, line.state, at=None if line.state == DRAFT else line.at))
            continue
        books = books_of(connection, issue.id)
        state = doing(issue, books, running=issue.id in running)
        found.append(Row(issue.slug, state, books, issue.finished_at or issue.created_at))
    return found


def lines(found: Sequence[Row]) -> list[str]:
    """Return the table as aligned lines, with a heading."""
    shown: list[tuple[str, ...]] = [("ISSUE", "STATE", "AUDIENCE", "SENT", "FAILED", "OPEN", "SINCE")]
    for row in found:
        at = f"{row.at.astimezone():%Y-%m-%d %H:%M}" if row.at else ""
        if row.books is None:
            shown.append((row.slug, row.doing, "", "", "", "", at))
            continue
        numbers = (row.books.audience, row.books.sent, row.books.failed, row.books.open)
        shown.append((row.slug, row.doing, *(f"{number:,}" for number in numbers), at))
    widths = [max(len(line[column]) for line in shown) for column in range(7)]
    return [
        "  ".join(
            cell.rjust(width) if 2 <= column <= 5 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in shown
    ]
