"""A second delivery of an issue goes to those without one, and to nobody else."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from mailer.database.engine import Database
from mailer.database.tables import Delivery, IssueState, StoredIssue, Subscriber, SubscriberStatus
from mailer.delivery import control
from mailer.delivery.newcomers import queue_newcomers
from mailer.errors import RefusedError
from tests.delivery.scene import AT, books, queued, subscribe


def test_only_active_subscribers_without_a_delivery_are_queued(database: Database) -> None:
    issue = queued(database, 5)
    audience = select(StoredIssue.c.audience).where(StoredIssue.c.id == issue.id)
    with database.reading() as connection:
        assert connection.scalar(audience) == 5
    subscribe(database, 4, first=6)
    with database.transaction() as connection:
        left = update(Subscriber).where(Subscriber.c.id == 6)
        connection.execute(left.values(status=SubscriberStatus.UNSUBSCRIBED.value))
    for expected in (2, 0):
        with database.transaction() as connection:
            assert queue_newcomers(connection, issue.id, Subscriber.c.id != 7, at=AT) == expected
    assert books(database, issue).audience == 7
    with database.reading() as connection:
        assert connection.scalar(audience) == 7
        twice = select(Delivery.c.subscriber_id).group_by(Delivery.c.subscriber_id).having(func.count() > 1)
        assert connection.scalars(twice).all() == []


@pytest.mark.parametrize("state", [IssueState.PAUSED, IssueState.CANCELLED])
def test_stopped_issue_stays_stopped(database: Database, state: IssueState) -> None:
    issue = queued(database, 1)
    subscribe(database, 1, first=2)
    with database.transaction() as connection:
        stop = control.pause(connection, issue.id, "") if state is IssueState.PAUSED else None
        if stop is None:
            control.cancel(connection, issue.id, at=AT)
        with pytest.raises(RefusedError, match=state.value):
            queue_newcomers(connection, issue.id, None, at=AT)
    assert books(database, issue).audience == 1
