"""Which deliveries a claim finds, in which order, and who may be mailed now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update

from mailer.database.engine import Database
from mailer.database.tables import CanaryMember, Delivery, DeliveryState, Subscriber
from mailer.delivery.candidates import find_candidates, mailable_now, still_mailable
from tests.connections import new_database
from tests.delivery.scene import AT, queued
from tests.postgres import Server

DUE: dict[int, tuple[DeliveryState, timedelta]] = {
    2: (DeliveryState.UNCERTAIN, timedelta(hours=-9)),
    3: (DeliveryState.DEFERRED, timedelta(hours=-1)),
    4: (DeliveryState.DEFERRED, timedelta()),
    5: (DeliveryState.DEFERRED, timedelta(seconds=1)),
    6: (DeliveryState.DEFERRED, timedelta(hours=-2)),
}
"""When each is due; 1, 7 and 8 are queued."""


def set_up(database: Database) -> None:
    queued(database, 8)
    with database.transaction() as connection:
        for n, (state, ago) in DUE.items():
            this = update(Delivery).where(Delivery.c.subscriber_id == n)
            connection.execute(this.values(state=state.value, due_at=AT + ago))


def found(database: Database, **asked: Any) -> tuple[list[int], int]:
    usual: dict[str, Any] = {
        "limit": 99, "after": 0, "at": AT, "resend_uncertain": True, "except_domains": (),
        "members_only": False, "retry_scan": None,
    }  # fmt: skip
    with database.transaction() as connection:
        rows, after = find_candidates(connection, 1, **(usual | asked))
    return [row.subscriber_id for row in rows], after


@pytest.mark.parametrize(
    ("asked", "expected", "after"),
    [
        ({}, [6, 3, 4, 2, 1, 7, 8], 8),
        ({"resend_uncertain": False}, [6, 3, 4, 1, 7, 8], 8),
        ({"limit": 2}, [6, 3], 0),
        ({"limit": 4}, [6, 3, 4, 2], 0),
        ({"limit": 4, "after": 1}, [6, 3, 4, 2], 1),
        ({"limit": 5}, [6, 3, 4, 2, 1], 1),
        ({"limit": 6}, [6, 3, 4, 2, 1, 7], 7),
        ({"after": 1}, [6, 3, 4, 2, 7, 8], 8),
        ({"after": 7}, [6, 3, 4, 2, 8], 8),
        ({"after": 8}, [6, 3, 4, 2], 8),
        ({"at": AT - timedelta(hours=9)}, [2, 1, 7, 8], 8),
        ({"at": AT - timedelta(hours=10)}, [1, 7, 8], 8),
        ({"members_only": True}, [6, 3, 4, 2, 7], 7),
        ({"except_domains": ["example.org"]}, [], 0),
        ({"except_domains": ["example.com"]}, [6, 3, 4, 2, 1, 7, 8], 8),
    ],
)
def test_retries_that_are_due_come_before_the_queue(
    database: Database, asked: dict[str, Any], expected: list[int], after: int
) -> None:
    set_up(database)
    with database.transaction() as connection:
        connection.execute(insert(CanaryMember).values(issue_id=1, subscriber_id=7))
    assert found(database, **asked) == (expected, after)


def test_of_whoever_was_erased_only_the_delivery_is_known(database: Database) -> None:
    queued(database, 3)
    with database.transaction() as connection:
        connection.execute(delete(Subscriber).where(Subscriber.c.id == 2))
    with database.transaction() as connection:
        rows, _ = find_candidates(
            connection, 1, limit=9, after=0, at=AT, resend_uncertain=True, except_domains=["example.org"],
            members_only=False, retry_scan=None,
        )  # fmt: skip
    assert [(row.subscriber_id, bool(row.allowed), row.state) for row in rows] == [(2, False, "queued")]


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_those_who_may_be_mailed_now_are_found(
    database: Database, backend: str, request: pytest.FixtureRequest
) -> None:
    def check(database: Database) -> None:
        set_up(database)
        with database.transaction() as connection:
            for n, seconds in ((2, -1), (3, 0), (4, 1)):
                this = update(Subscriber).where(Subscriber.c.id == n)
                connection.execute(this.values(paused_until=AT + timedelta(seconds=seconds)))
            connection.execute(update(Subscriber).where(Subscriber.c.id == 5).values(status="bounced"))
        asked = [1, 2, 3, 4, 5, 99]
        assert mailable_now(database, asked, at=AT) == {1, 2, 3}
        assert mailable_now(database, [], at=AT) == set()
        with database.reading() as connection:
            assert still_mailable(connection, asked, at=AT) == {1, 2, 3}

    if backend == "sqlite":
        check(database)
    else:
        with new_database(request.getfixturevalue("postgresql")) as shared:
            check(shared)


def test_claims_of_two_runs_pass_each_other(postgresql: Server) -> None:
    with new_database(postgresql) as database:
        set_up(database)
        with database.transaction() as first, database.transaction() as second:
            second.execute(text("SET LOCAL lock_timeout = '2s'"))
            usual: dict[str, Any] = {
                "limit": 2, "after": 0, "at": AT, "resend_uncertain": True, "except_domains": (),
                "members_only": False, "retry_scan": None,
            }  # fmt: skip
            taken = [
                [row.subscriber_id for row in find_candidates(connection, 1, **usual)[0]]
                for connection in (first, second, first)
            ]
            # A claim locks deliveries, not their subscribers.
            second.execute(text("UPDATE subscribers SET name = 'x'"))
        assert taken == [[6, 3], [4, 2], [6, 3]]
