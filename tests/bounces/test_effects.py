"""What a verdict does to deliveries and subscribers changes only the rows that it is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from mailer.bounces import effects
from mailer.database.models import SOFT_BOUNCE, Event, Subscriber
from mailer.database.session import Database
from mailer.delivery.books import books_of, running_books
from mailer.replies import judge
from tests.bounces.reports import ISSUE, subscribe_all
from tests.changes import Changes, changes
from tests.databases import recount

PEOPLE = [f"s{n}@example.org" for n in range(1, 7)]
GONE = judge(550, "5.1.1", "no such user")
FULL = judge(552, "5.2.2", "mailbox full")
OTHER = ISSUE + 1


@pytest.fixture
def people(database: Database, at: datetime) -> None:
    """Six people who got two issues: three had a soft bounce from one, and two from the other."""
    subscribe_all(database, at, PEOPLE, issues=2)
    with database.transaction() as session:
        session.add_all(
            Event(
                at=at, kind=SOFT_BOUNCE, issue_id=ISSUE if n < 4 else OTHER, subscriber_id=n,
                details={"class": "mailbox_full"},
            )
            for n in range(1, 6)
        )  # fmt: skip
        session.add_all(
            Event(at=at, kind="click", issue_id=ISSUE, subscriber_id=n, details={}) for n in (3, 6)
        )
        session.execute(update(Subscriber).values(soft_points=1.0, soft_since=at))
        recount(session)


ACTS: dict[str, tuple[Callable[[Session, datetime], object], Changes]] = {
    "fail a delivery": (
        lambda s, at: effects.fail_delivery(s, ISSUE, 3, GONE, at=at),
        {
            "deliveries: bounce_class changed_at code enhanced reply state=failed": [3],
            "webhook_events: added delivery.bounced": [3],
        },
    ),
    "suppress": (
        lambda s, at: effects.apply_verdicts(s, [(ISSUE, 3, GONE)], at=at),
        {
            "consents: added": [3],
            "subscribers: changed_at status=bounced": [3],
            "suppressions: added": [0],
            "webhook_events: added subscriber.bounced": [3],
        },
    ),
    "count a soft bounce": (
        lambda s, at: effects.apply_verdicts(s, [(ISSUE, 3, FULL)], at=at),
        {"events: added": [3], "subscribers: soft_points": [3]},
    ),
    "clear one": (lambda s, at: effects.clear_soft_count(s, 3), {"subscribers: soft_points soft_since": [3]}),
    "clear some": (
        lambda s, at: effects.clear_soft_counts(s, ["s3@example.org", "s6@example.org"]),
        {"subscribers: soft_points soft_since": [3, 6]},
    ),
    "forget those of an issue": (
        lambda s, at: effects.forget_soft_bounces(s, ISSUE, [2, 4, 6]),
        {"subscribers: soft_points soft_since": [2]},
    ),
}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("name", ACTS)
def test_act_changes_only_its_own_rows(database: Database, at: datetime, name: str) -> None:
    act, expected = ACTS[name]
    assert changes(database, lambda session: act(session, at + timedelta(days=9)), kept=OTHER) == expected
    with database.reading() as session:
        assert running_books(session, ISSUE) == books_of(session, ISSUE)
