"""Amending an issue that is partly sent: the subscribers who don't have it yet get a corrected edition.

The edition that was sent so far is kept. Each run records the number of the edition that it sends, and a
delivery names its last run, so `numbers` and `mailer why` know who got which.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Connection, func, insert, select, update

from mailer.database.tables import (
    Delivery,
    DeliveryState,
    IssueState,
    ReplacedEdition,
    Run,
    StoredIssue,
    TableRow,
)
from mailer.delivery import arms, control, issues, queue
from mailer.delivery.books import Books, books_of
from mailer.errors import RefusedError
from mailer.printable import counted
from mailer.rendering.edition import Edition


class Numbered(Struct, frozen=True):
    """One edition of an issue."""

    number: int
    """1 for the edition that was queued first."""
    digest: str
    since: datetime
    """When it was frozen."""
    sent: int
    """How many of its messages were sent."""


def left(connection: Connection, issue_id: int) -> int:
    """Return how many get the next edition: open deliveries, and those that could not be composed."""
    failed = select(func.count()).where(Delivery.c.issue_id == issue_id, control.uncomposed())
    return books_of(connection, issue_id).open + (connection.scalar(failed) or 0)


def check(connection: Connection, issue_id: int, *, at: datetime) -> Books:
    """Return the books of an issue that can be amended.

    Deliveries of an interrupted run become `uncertain` first. The caller holds
    `mailer.delivery.lock.exclusive`. Raises `RefusedError` if the issue is cancelled, if nothing was sent, or
    if nothing is left to send.
    """
    queue.recover(connection, issue_id, at=at)
    issue, books = issues.get(connection, issue_id), books_of(connection, issue_id)
    if issue.state is IssueState.CANCELLED:
        raise RefusedError(f"{issue.slug} is cancelled: nobody else will get it", remedy="write a new issue")
    if not books.sent + books.uncertain:
        raise RefusedError(
            f"nothing of {issue.slug} was sent yet, so there is no edition to amend",
            remedy=f"take it out of the queue, correct it and send it again: mailer withdraw {issue.slug}",
        )
    test = arms.find(connection, issue_id)
    if test is not None and test.winner is None and issue.members_only:
        raise RefusedError(
            f"the A/B test of {issue.slug} is not decided",
            remedy=f"choose an arm, then amend it: mailer ab choose {issue.slug} A",
        )
    if not left(connection, issue_id):
        failed = f"; {books.failed:,} failed: mailer retry {issue.slug} --only failed" if books.failed else ""
        raise RefusedError(
            f"nothing of {issue.slug} is left to send: {counted(books.sent, 'reader')} got it{failed}",
            remedy="write a new issue with the correction",
        )
    return books


def amend(
    connection: Connection, issue_id: int, corrected: Edition, *, source_path: str, at: datetime
) -> int:
    """Replace the edition of an issue for the rest of its audience; return the new edition's number.

    Deliveries that could not be composed are queued again. The archive shows the new edition from now on.
    The caller holds `mailer.delivery.lock.exclusive`. Raises `RefusedError` as `check` does, or if the
    edition is the same.
    """
    check(connection, issue_id, at=at)
    issue = issues.get(connection, issue_id)
    if issue.slug != corrected.slug:
        raise ValueError(f"an edition of {corrected.slug} cannot replace one of {issue.slug}")
    if corrected.digest == issue.edition_digest:
        raise RefusedError(
            f"{source_path} has not changed since it was frozen", remedy="correct the file, then try again"
        )
    number = issues.edition_number(connection, issue_id)
    control.retry_uncomposed(connection, issue_id, at=at)
    connection.execute(
        insert(ReplacedEdition).values(
            issue_id=issue_id, number=number, digest=issue.edition_digest, replaced_at=at
        )
    )
    connection.execute(
        update(StoredIssue)
        .where(StoredIssue.c.id == issue_id)
        .values(
            edition_digest=issues.freeze(connection, corrected, at=at),
            title=corrected.title,
            source_path=source_path,
        )
    )
    return number + 1


def digests(connection: Connection, issue_id: int) -> list[str]:
    """Return the digests of an issue's editions, the oldest first."""
    replaced = [one.digest for one in _replaced(connection, issue_id)]
    return [*replaced, issues.get(connection, issue_id).edition_digest]


def numbers(connection: Connection, issue_id: int, books: Books) -> list[Numbered]:
    """Return the editions of an issue, the oldest first; `books` are the issue's."""
    replaced = _replaced(connection, issue_id)
    issue = issues.get(connection, issue_id)
    if not replaced:
        return [Numbered(1, issue.edition_digest, issue.created_at, books.sent)]
    by_edition = connection.execute(
        select(Run.c.edition, func.count())
        .join(Delivery, Delivery.c.run_id == Run.c.id)
        .where(Delivery.c.issue_id == issue_id, Delivery.c.state == DeliveryState.SENT.value)
        .group_by(Run.c.edition)
    )
    sent = {row[0]: row[1] for row in by_edition}
    since = [issue.created_at, *(one.replaced_at for one in replaced)]
    editions = zip(digests(connection, issue_id), since, strict=True)
    return [
        Numbered(number, digest, began, sent.get(number, 0))
        for number, (digest, began) in enumerate(editions, start=1)
    ]


def _replaced(connection: Connection, issue_id: int) -> Sequence[TableRow]:
    wanted = select(ReplacedEdition).where(ReplacedEdition.c.issue_id == issue_id)
    return connection.execute(wanted.order_by(ReplacedEdition.c.number)).all()
