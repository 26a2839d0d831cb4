"""Send an issue to subscribers who joined its audience after it was queued."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, literal, select, true, update

from mailer.database import running_totals
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    IssueState,
    ScheduledIssue,
    StoredIssue,
    Subscriber,
)
from mailer.delivery import issues
from mailer.errors import RefusedError


def newcomers(issue_id: int, condition: ColumnElement[bool] | None) -> ColumnElement[bool]:
    """Return the condition that selects subscribers of a segment who have no delivery of the issue."""
    has_one = exists().where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == Subscriber.c.id)
    return and_(true() if condition is None else condition, ~has_one)


def queue_newcomers(
    connection: Connection, issue_id: int, condition: ColumnElement[bool] | None, *, at: datetime
) -> int:
    """Queue an issue for the newcomers of a segment; return how many there are.

    A finished issue is open again afterwards. Raises `RefusedError` if it is paused or cancelled.
    """
    issue = issues.get(connection, issue_id)
    if issue.resend_of is not None:
        raise RefusedError(f"{issue.slug} is a resend: only readers of the original get it")
    if issue.state in (IssueState.PAUSED, IssueState.CANCELLED):
        raise RefusedError(
            f"{issue.slug} is {issue.state.value}",
            remedy=f"resume it with: mailer resume {issue.slug}"
            if issue.state is IssueState.PAUSED
            else None,
        )
    # Nobody is left for another time.
    connection.execute(delete(ScheduledIssue).where(ScheduledIssue.c.slug == issue.slug))
    added = add(connection, issue_id, condition, at=at)
    if added:
        connection.execute(
            update(StoredIssue)
            .where(StoredIssue.c.id == issue_id)
            .values(state=IssueState.SENDING.value, finished_at=None)
        )
    return added


def add(connection: Connection, issue_id: int, condition: ColumnElement[bool] | None, *, at: datetime) -> int:
    """Add deliveries for the newcomers of a segment to an issue, whatever its state; return how many."""
    wanted = (
        select(literal(issue_id), Subscriber.c.id, literal(DeliveryState.QUEUED.value))
        .where(issues.audience(newcomers(issue_id, condition), at=at))
        .order_by(Subscriber.c.id)
    )
    queued = connection.execute(
        insert(Delivery).from_select(["issue_id", "subscriber_id", "state"], wanted),
        # Otherwise SQLAlchemy does not keep the number of inserted rows on PostgreSQL.
        execution_options={"preserve_rowcount": True},
    )
    if added := queued.rowcount:
        running_totals.add(connection, issue_id, {DeliveryState.QUEUED.value: added})
        connection.execute(
            update(StoredIssue)
            .where(StoredIssue.c.id == issue_id)
            .values(audience=StoredIssue.c.audience + added)
        )
    return added
