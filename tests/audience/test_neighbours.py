"""Whatever is done to a subscriber changes only their own rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, update

from mailer.address import parse_address
from mailer.audience import corrections, ledger, preferences, subscribers
from mailer.audience.privacy import erasing
from mailer.audience.transitions import Move, Origin
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus
from tests.changes import Changes, changes

SECRET = b"s" * 32
BY = Origin("api", wording="I agree")
S = SubscriberStatus
ACTIVE, SECOND, BOUNCED, LEFT, ALSO_LEFT = range(1, 6)
"""Two active subscribers, one whose mail bounced, and two who left."""


@pytest.fixture
def people(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        for n in (ACTIVE, SECOND, BOUNCED, LEFT, ALSO_LEFT):
            address = parse_address(f"s{n}@example.org")
            subscribers.add(
                connection, address, secret=SECRET, origin=Origin("api"), at=at, name="Ana",
                attributes={"town": "Bonn"}, tags=["a", "b"],
            )  # fmt: skip
        connection.execute(update(Subscriber).values(soft_points=2.0, soft_since=at))
        ledger.move(
            connection,
            [
                Move(BOUNCED, S.BOUNCED, Origin("bounce", note="gone"), at),
                *(Move(n, S.UNSUBSCRIBED, Origin("page"), at) for n in (LEFT, ALSO_LEFT)),
            ],
        )
        ledger.suppress(connection, "stranger@example.org", "bounce", at=at)


def _add(connection: Connection, address: str, at: datetime) -> None:
    subscribers.add(
        connection, parse_address(address), secret=SECRET, origin=BY, at=at, name="Eva",
        attributes={"age": 3}, tags=["c"],
    )  # fmt: skip


ACTS: dict[str, tuple[Callable[[Connection, datetime], object], Changes]] = {
    "add": (
        lambda s, at: _add(s, "new@example.org", at),
        {
            "consents: added": [6],
            "subscriber_tags: added": [6],
            "subscribers: added": [6],
            "wordings: added": [0],
            "webhook_events: added subscriber.active": [6],
        },
    ),
    "add one who is known": (
        lambda s, at: _add(s, "S1@example.org", at),
        {"subscriber_tags: added": [1], "subscribers: attributes changed_at name": [1]},
    ),
    "add one who left": (lambda s, at: _add(s, "s4@example.org", at), {}),
    "revise": (
        lambda s, at: subscribers.revise(
            s, ACTIVE, at=at, name="Eva", attributes={"town": None}, tags=["a", "c"]
        ),
        {
            "subscriber_tags: added": [1],
            "subscriber_tags: removed": [1],
            "subscribers: attributes changed_at name": [1],
        },
    ),
    "change an address": (
        lambda s, at: subscribers.change_address(
            s, ACTIVE, parse_address("new@example.com"), secret=SECRET, origin=BY, at=at
        ),
        {
            "consents: added": [1],
            "subscribers: address address_key changed_at domain soft_points soft_since": [1],
            "wordings: added": [0],
        },
    ),
    "change tags": (
        lambda s, at: subscribers.change_tags(s, ACTIVE, add=["c"], remove=["a"], origin=BY, at=at),
        {
            "consents: added": [1],
            "subscriber_tags: added": [1],
            "subscriber_tags: removed": [1],
            "subscribers: changed_at": [1],
            "wordings: added": [0],
        },
    ),
    "unsubscribe": (
        lambda s, at: ledger.unsubscribe(s, ACTIVE, origin=BY, at=at),
        {
            "consents: added": [1],
            "subscribers: changed_at status=unsubscribed": [1],
            "wordings: added": [0],
            "webhook_events: added subscriber.unsubscribed": [1],
        },
    ),
    "complain": (
        lambda s, at: ledger.change_status(s, ACTIVE, S.COMPLAINED, origin=BY, at=at),
        {
            "consents: added": [1],
            "subscribers: changed_at status=complained": [1],
            "suppressions: added": [0],
            "wordings: added": [0],
            "webhook_events: added subscriber.complained": [1],
        },
    ),
    "sign up again": (
        lambda s, at: ledger.change_status(s, BOUNCED, S.ACTIVE, origin=Origin("form"), at=at),
        {
            "consents: added": [3],
            "subscribers: changed_at soft_points soft_since status=active": [3],
            "suppressions: removed": [0],
            "webhook_events: added subscriber.active": [3],
        },
    ),
    "correct": (
        lambda s, at: ledger.correct(s, [Move(BOUNCED, S.ACTIVE, BY, at)]),
        {
            "consents: added": [3],
            "subscribers: changed_at status=active": [3],
            "webhook_events: added subscriber.active": [3],
        },
    ),
    "restore": (
        lambda s, at: corrections.restore(s, [BOUNCED], reason="our fault", at=at),
        {
            "consents: added": [3],
            "subscribers: changed_at soft_points soft_since status=active": [3],
            "suppressions: removed": [0],
            "webhook_events: added subscriber.active": [3],
        },
    ),
    "suppress": (
        lambda s, at: ledger.suppress(s, "s1@example.org", "bounce", at=at),
        {"suppressions: added": [0]},
    ),
    "lift": (lambda s, at: ledger.lift(s, ["s3@example.org"]), {"suppressions: removed": [0]}),
    "erase": (
        lambda s, at: erasing.erase(s, parse_address("s3@example.org"), secret=SECRET, at=at),
        {
            "consents: added": [3],
            "consents: removed": [3, 3],
            "subscriber_tags: removed": [3, 3],
            "subscribers: address address_key attributes changed_at created_at domain name"
            " soft_points soft_since status=erased": [3],
            "suppressions: added": [0],
            "suppressions: removed": [0],
            "webhook_events: added subscriber.erased": [3],
        },
    ),
    "subscribe again": (
        lambda s, at: preferences.resubscribe(s, LEFT, origin=Origin("page"), at=at),
        {
            "consents: added": [4],
            "subscribers: changed_at soft_points soft_since status=active": [4],
            "webhook_events: added subscriber.active": [4],
        },
    ),
    "rename": (
        lambda s, at: preferences.rename(s, ACTIVE, "Eva", origin=BY, at=at),
        {"consents: added": [1], "subscribers: changed_at name": [1], "wordings: added": [0]},
    ),
    "choose tags": (
        lambda s, at: preferences.choose_tags(s, ACTIVE, ["c"], offered=["a", "c"], origin=BY, at=at),
        {
            "consents: added": [1],
            "subscriber_tags: added": [1],
            "subscriber_tags: removed": [1],
            "subscribers: changed_at": [1],
            "wordings: added": [0],
        },
    ),
    "allow tracking": (
        lambda s, at: preferences.allow_tracking(s, ACTIVE, True, origin=BY, at=at),
        {
            "consents: added": [1],
            "subscribers: changed_at tracking_consent tracking_since": [1],
            "wordings: added": [0],
        },
    ),
    "pause": (
        lambda s, at: preferences.pause(s, ACTIVE, at, origin=BY, at=at),
        {"consents: added": [1], "subscribers: changed_at paused_until": [1], "wordings: added": [0]},
    ),
    "give a reason": (
        lambda s, at: preferences.give_reason(s, LEFT, "often", origin=BY, at=at),
        {"consents: added": [4], "wordings: added": [0]},
    ),
}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("name", ACTS)
def test_act_changes_only_its_own_rows(database: Database, at: datetime, name: str) -> None:
    act, expected = ACTS[name]
    assert changes(database, lambda connection: act(connection, at + timedelta(hours=1))) == expected


@pytest.mark.usefixtures("people")
def test_stranger_has_no_lines_to_forget(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        address = parse_address("stranger@example.org")
        assert ledger.forget(connection, None, address.key, "hmac:x", way="command", at=at) == 0
