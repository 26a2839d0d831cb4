"""Undoing suppressions that were our own fault: by run, by issue, by class."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, insert

from mailer.address import parse_address
from mailer.audience.ledger import change_status, move
from mailer.audience.subscribers import add, get
from mailer.audience.transitions import Move, Origin
from mailer.bounces.undo import undo
from mailer.database.engine import Database
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    IssueState,
    Run,
    StoredEdition,
    StoredIssue,
    SubscriberStatus,
)
from mailer.errors import SourceError

S = SubscriberStatus
SECRET = b"s" * 32


@pytest.fixture
def people(database: Database, at: datetime) -> list[int]:
    """Four subscribers: two bounced by run 1 of issue 1, one by issue 2, one complained about issue 1."""
    with database.transaction() as connection:
        ids = []
        for name in ("ana", "bob", "cid", "dee"):
            address = parse_address(f"{name}@example.org")
            added = add(connection, address, secret=SECRET, origin=Origin("api"), at=at)
            assert added.subscriber_id is not None
            ids.append(added.subscriber_id)
        connection.execute(insert(StoredEdition).values(digest="d", content="{}", created_at=at))
        connection.execute(
            insert(StoredIssue),
            [
                {"id": number, "slug": slug, "title": "t", "source_path": "p", "edition_digest": "d",
                 "state": IssueState.FINISHED.value, "dated_at": at, "created_at": at}
                for number, slug in ((1, "001-one"), (2, "002-two"))
            ],
        )  # fmt: skip
        connection.execute(insert(Run).values(id=1, issue_id=1, host="h", pid=1, started_at=at))
        failed = DeliveryState.FAILED.value
        connection.execute(
            insert(Delivery),
            [
                {"issue_id": issue, "subscriber_id": one, "state": failed, "run_id": issue}
                for issue, one in ((1, ids[0]), (1, ids[1]), (2, ids[2]))
            ],
        )
        later = at + timedelta(minutes=1)
        causes = ["invalid_mailbox: 5.1.1 x", "invalid_domain: y", "invalid_mailbox: z"]
        bounces = zip(ids, (1, 1, 2), causes, strict=False)
        move(
            connection,
            [
                Move(one, S.BOUNCED, Origin("bounce", note=note, issue_id=n), later)
                for one, n, note in bounces
            ],
        )
        complaint = Origin("complaint", note="report 1", issue_id=1)
        change_status(connection, ids[3], S.COMPLAINED, origin=complaint, at=later)
    return ids


def statuses_of(connection: Connection, people: list[int]) -> list[SubscriberStatus | None]:
    found = [get(connection, one) for one in people]
    return [None if one is None else one.status for one in found]


@pytest.mark.parametrize(
    ("what", "restored"),
    [("1", [0, 1]), ("001-one", [0, 1]), ("002-two", [2]), ("invalid_mailbox", [0, 2]), ("moved", [])],
)
def test_everybody_it_suppressed_is_restored_and_nobody_else(
    database: Database, at: datetime, people: list[int], what: str, restored: list[int]
) -> None:
    later = at + timedelta(hours=1)
    with database.transaction() as connection:
        looked = undo(connection, what, reason="", at=later, dry_run=True)
    statuses = [S.BOUNCED, S.BOUNCED, S.BOUNCED, S.COMPLAINED]
    with database.reading() as connection:
        assert statuses_of(connection, people) == statuses
    with database.transaction() as connection:
        assert undo(connection, what, reason="relay fault", at=later) == looked
    for place in restored:
        statuses[place] = S.ACTIVE
    with database.reading() as connection:
        assert statuses_of(connection, people) == statuses


@pytest.mark.parametrize("what", ["99", "no-such", ""])
def test_anything_but_a_run_an_issue_or_a_class_is_refused(
    database: Database, at: datetime, what: str
) -> None:
    with pytest.raises(SourceError, match="is not a run, an issue"), database.transaction() as connection:
        undo(connection, what, reason="x", at=at)
