"""What a verdict does to deliveries and subscribers changes only the rows that it is about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, insert, select, update

from mailer.audience import ledger
from mailer.audience.transitions import Move, Origin
from mailer.bounces import effects
from mailer.bounces.policy import SoftLimits
from mailer.database.engine import Database
from mailer.database.tables import (
    SOFT_BOUNCE,
    Consent,
    Delivery,
    DeliveryState,
    Event,
    Subscriber,
    SubscriberStatus,
    Suppression,
    WebhookEvent,
)
from mailer.delivery.books import books_of, running_books
from mailer.replies import Verdict, judge
from mailer.webhooks import endpoints
from tests.bounces.reports import ISSUE, subscribe_all
from tests.changes import Changes, changes
from tests.databases import recount

PEOPLE = [f"s{n}@example.org" for n in range(1, 7)]
GONE = judge(550, "5.1.1", "no such user")
FULL = judge(552, "5.2.2", "mailbox full")
OURS = judge(550, "5.7.1", "rejected by the DMARC policy of example.org")
S = SubscriberStatus
OTHER = ISSUE + 1


@pytest.fixture
def people(database: Database, at: datetime) -> None:
    """Six people who got two issues: three had a soft bounce from one, and two from the other."""
    subscribe_all(database, at, PEOPLE, issues=2)
    with database.transaction() as connection:
        full = {"class": "mailbox_full"}
        bounces = [(SOFT_BOUNCE, ISSUE if n < 4 else OTHER, n, full) for n in range(1, 6)]
        clicks = [("click", ISSUE, n, dict[str, str]()) for n in (3, 6)]
        connection.execute(
            insert(Event),
            [
                {"at": at, "kind": kind, "issue_id": issue_id, "subscriber_id": n, "details": details}
                for kind, issue_id, n, details in (*bounces, *clicks)
            ],
        )
        joined = Origin("page")
        for to in (S.UNSUBSCRIBED, S.ACTIVE):
            ledger.move(connection, [Move(n, to, joined, at) for n in range(1, 7)])
        connection.execute(update(Subscriber).values(soft_points=1.0, soft_since=at))
        for n, state, due_at in ((5, DeliveryState.UNCERTAIN, at), (6, DeliveryState.FAILED, None)):
            this = update(Delivery).where(Delivery.c.issue_id == ISSUE, Delivery.c.subscriber_id == n)
            connection.execute(this.values(state=state.value, due_at=due_at))
        recount(connection)


ACTS: dict[str, tuple[Callable[[Connection, datetime], object], Changes]] = {
    "fail a delivery": (
        lambda connection, at: effects.fail_delivery(connection, ISSUE, 3, GONE, at=at),
        {
            "deliveries: bounce_class changed_at code enhanced reply state=failed": [3],
            "webhook_events: added delivery.bounced": [3],
        },
    ),
    "fail an uncertain delivery": (
        lambda connection, at: effects.fail_delivery(connection, ISSUE, 5, GONE, at=at),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=failed": [5],
            "webhook_events: added delivery.bounced": [5],
        },
    ),
    "fail a failed delivery": (
        lambda connection, at: effects.fail_delivery(connection, ISSUE, 6, GONE, at=at),
        {},
    ),
    "fail a delivery of nobody": (
        lambda connection, at: effects.fail_delivery(connection, ISSUE, 99, GONE, at=at),
        {},
    ),
    "refuse because of us": (
        lambda connection, at: effects.apply_verdicts(connection, [(ISSUE, 3, OURS)], at=at),
        {},
    ),
    "suppress for what happened before they joined": (
        lambda connection, at: effects.apply_verdicts(
            connection, [(ISSUE, 3, GONE)], at=at, happened_at=at - timedelta(days=99)
        ),
        {},
    ),
    "count a soft bounce of no issue": (
        lambda connection, at: effects.apply_verdicts(connection, [(0, 3, FULL)], at=at),
        {"events: added": [3], "subscribers: soft_points": [3]},
    ),
    "suppress": (
        lambda connection, at: effects.apply_verdicts(connection, [(ISSUE, 3, GONE)], at=at),
        {
            "consents: added": [3],
            "subscribers: changed_at status=bounced": [3],
            "suppressions: added": [0],
            "webhook_events: added subscriber.bounced": [3],
        },
    ),
    "count a soft bounce": (
        lambda connection, at: effects.apply_verdicts(connection, [(ISSUE, 3, FULL)], at=at),
        {"events: added": [3], "subscribers: soft_points": [3]},
    ),
    "clear one": (
        lambda connection, at: effects.clear_soft_count(connection, 3),
        {"subscribers: soft_points soft_since": [3]},
    ),
    "clear some": (
        lambda connection, at: effects.clear_soft_counts(connection, ["s3@example.org", "s6@example.org"]),
        {"subscribers: soft_points soft_since": [3, 6]},
    ),
    "forget those of an issue": (
        lambda connection, at: effects.forget_soft_bounces(connection, ISSUE, [2, 4, 6]),
        {"subscribers: soft_points soft_since": [2]},
    ),
}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("name", ACTS)
def test_act_changes_only_its_own_rows(database: Database, at: datetime, name: str) -> None:
    act, expected = ACTS[name]
    assert (
        changes(database, lambda connection: act(connection, at + timedelta(days=9)), kept=OTHER) == expected
    )
    with database.reading() as connection:
        assert running_books(connection, ISSUE) == books_of(connection, ISSUE)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("verdict", "note"),
    [
        (GONE, "invalid_mailbox: 5.1.1 no such user"),
        (judge(550, "", "no such user"), "invalid_mailbox: no such user"),
        (judge(None, "5.1.1", ""), "invalid_mailbox: 5.1.1"),
    ],
)
def test_ledger_and_suppression_say_why_and_by_which_report(
    database: Database, at: datetime, verdict: Verdict, note: str
) -> None:
    later = at + timedelta(days=9)
    with database.transaction() as connection:
        rows = [(OTHER, 3, verdict), (0, 4, verdict), (ISSUE, 99, verdict)]
        assert effects.apply_verdicts(connection, rows, at=later, report_id=77) == {3, 4}
        lines = connection.execute(
            select(
                Consent.c.subscriber_id, Consent.c.after, Consent.c.way, Consent.c.note, Consent.c.issue_id
            )
            .where(Consent.c.at == later)
            .order_by(Consent.c.subscriber_id)
        )
        assert [tuple(line) for line in lines] == [
            (3, "bounced", "bounce", note, OTHER),
            (4, "bounced", "bounce", note, None),
        ]
        stored = connection.execute(select(Suppression.c.note, Suppression.c.report_id, Suppression.c.at))
        assert [tuple(row) for row in stored] == [(note, 77, later)] * 2


@pytest.mark.usefixtures("people")
def test_hard_bounce_beside_a_soft_one_says_why(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        rows = [(ISSUE, 3, GONE), (OTHER, 3, FULL), (ISSUE, 4, FULL)]
        limits = SoftLimits(points=1.0, days=0)
        assert effects.apply_verdicts(connection, rows, at=at + timedelta(days=3), limits=limits) == {3, 4}
        notes = connection.scalars(select(Suppression.c.note).order_by(Suppression.c.address_key)).all()
    assert notes == ["invalid_mailbox: 5.1.1 no such user", "2 soft bounce points in 3 days"]


@pytest.mark.usefixtures("people")
def test_endpoints_are_told_which_delivery_bounced_and_why(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        endpoints.add(connection, "https://hooks.example.org", ["delivery.bounced"], at=at)
        assert effects.fail_delivery(connection, OTHER, 3, GONE, at=at)
        assert effects.fail_delivery(connection, OTHER, 4, judge(250, "", "ok"), at=at)
        assert not effects.fail_delivery(connection, OTHER, 3, GONE, at=at)
        told = connection.execute(
            select(WebhookEvent.c.subscriber_id, WebhookEvent.c.data, WebhookEvent.c.at)
        )
        assert sorted([tuple(one) for one in told], key=lambda one: one[0]) == [
            (3, {"issue": "002", "class": "invalid_mailbox"}, at),
            (4, {"issue": "002", "class": None}, at),
        ]
        theirs = select(Delivery).where(Delivery.c.issue_id == OTHER)
        stored = connection.execute(theirs.where(Delivery.c.subscriber_id == 3)).one()
        assert (stored.code, stored.enhanced, stored.reply) == (550, "5.1.1", "no such user")
        assert (stored.bounce_class, stored.changed_at, stored.due_at) == ("invalid_mailbox", at, None)
        assert connection.execute(theirs.where(Delivery.c.subscriber_id == 4)).one().bounce_class is None


def test_soft_bounce_of_no_issue_is_kept_without_one(database: Database, at: datetime) -> None:
    subscribe_all(database, at, PEOPLE[:1], issues=1)
    with database.transaction() as connection:
        effects.apply_verdicts(connection, [(0, 1, FULL)], at=at)
        kept = connection.execute(
            select(Event.c.issue_id, Event.c.subscriber_id, Event.c.details, Event.c.at)
        )
        assert [tuple(row) for row in kept] == [(None, 1, {"class": "mailbox_full"}, at)]


@pytest.mark.usefixtures("people")
def test_clearing_tells_whether_there_were_any(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        assert [effects.clear_soft_count(connection, n) for n in (3, 3, 99)] == [True, False, False]
        assert connection.scalar(select(Subscriber.c.soft_points).where(Subscriber.c.id == 4)) == 1.0


@pytest.mark.parametrize(
    ("days", "since_days", "points", "begun"),
    [
        # Those of the present count are added up; one at the very beginning is one of them.
        ((3, 2, 1), 3, 4.0, 3),
        ((3, 2, 1), 2, 3.0, 2),
        ((3, 2, 1), None, 1.0, 0),
        # No bounce is looked for that happened more than 400 days ago.
        ((400,), 500, 2.0, 400),
        ((401,), 500, 1.0, 0),
    ],
)
def test_soft_bounces_since_the_count_began_are_added_up(
    database: Database, at: datetime, days: tuple[int, ...], since_days: int | None, points: float, begun: int
) -> None:
    subscribe_all(database, at, PEOPLE[:2], issues=1)
    full = {"class": "mailbox_full"}
    with database.transaction() as connection:
        events = [(timedelta(days=n), SOFT_BOUNCE, 1, full) for n in days]
        events.append((timedelta(hours=30), SOFT_BOUNCE, 2, full))
        events.append((timedelta(hours=60), "open", 1, {}))
        connection.execute(
            insert(Event),
            [
                {"at": at - ago, "kind": kind, "subscriber_id": n, "details": details}
                for ago, kind, n, details in events
            ],
        )
        if since_days is not None:
            connection.execute(update(Subscriber).values(soft_since=at - timedelta(days=since_days)))
        limits = SoftLimits(points=99.0, days=99, quiet_days=999)
        assert effects.apply_verdicts(connection, [(ISSUE, 1, FULL)], at=at, limits=limits) == frozenset()
        counted = connection.execute(
            select(Subscriber.c.soft_points, Subscriber.c.soft_since).order_by(Subscriber.c.id)
        )
        first, second = counted.all()
        newest = connection.scalars(select(Event.c.issue_id).where(Event.c.at == at)).all()
    assert newest == [ISSUE]
    assert (first.soft_points, second.soft_points) == (points, 0.0)
    assert first.soft_since == at - timedelta(days=begun)


def test_limits_of_soft_bounces_are_the_usual_ones(database: Database, at: datetime) -> None:
    subscribe_all(database, at, PEOPLE[:1], issues=1)
    with database.transaction() as connection:
        suppressed = [
            effects.apply_verdicts(connection, [(ISSUE, 1, FULL)], at=at + timedelta(days=day))
            for day in (0, 4, 8, 13, 14)
        ]
    assert suppressed == [frozenset()] * 4 + [{1}]
