"""Subscribers who joined an issue's audience after it was queued, and sending it to them as well."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, insert, literal, select, true, update
from sqlalchemy.orm import Session

from mailer.database.models import Delivery, DeliveryState, IssueState, StoredIssue, Subscriber
from mailer.delivery import issues
from mailer.delivery.issues import count_of
from mailer.errors import RefusedError


def newcomers(issue_id: int, condition: ColumnElement[bool] | None) -> ColumnElement[bool]:
    """Return the condition that selects subscribers of a segment who have no delivery of the issue."""
    has_one = exists().where(Delivery.issue_id == issue_id, Delivery.subscriber_id == Subscriber.id)
    return and_(true() if condition is None else condition, ~has_one)


def queue_newcomers(
    session: Session, issue_id: int, condition: ColumnElement[bool] | None, *, at: datetime
) -> int:
    """Queue an issue for the newcomers of a segment; return how many there are.

    A finished issue is open again afterwards. Raises `RefusedError` if it is paused or cancelled.
    """
    issue = issues.get(session, issue_id)
    if issue.state in (IssueState.PAUSED, IssueState.CANCELLED):
        raise RefusedError(
            f"{issue.slug} is {issue.state.value}",
            remedy=f"mailer resume {issue.slug}" if issue.state is IssueState.PAUSED else None,
        )
    wanted = (
        select(literal(issue_id), Subscriber.id, literal(DeliveryState.QUEUED.value))
        .where(issues.audience(newcomers(issue_id, condition), at=at))
        .order_by(Subscriber.id)
    )
    queued = count_of(
        session.execute(insert(Delivery).from_select(["issue_id", "subscriber_id", "state"], wanted))
    )
    if queued:
        session.execute(
            update(StoredIssue)
            .where(StoredIssue.id == issue_id)
            .values(
                audience=StoredIssue.audience + queued,
                state=IssueState.SENDING.value,
                finished_at=None,
            )
        )
    return queued
