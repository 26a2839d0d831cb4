"""Who may be mailed at an instant: status, pause and suppression, each looked at a second time too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, select

from mailer.address import parse_address
from mailer.audience import ledger, suppression
from mailer.audience.ledger import change_status
from mailer.audience.preferences import pause
from mailer.audience.subscribers import add
from mailer.audience.transitions import SUPPRESSES, Origin
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus
from mailer.delivery.candidates import still_mailable
from mailer.delivery.issues import mailable

SECRET = b"s" * 32
ANA = parse_address("ana@example.org")
PERSON = Origin("page")
S = SubscriberStatus
REASONS = (*SUPPRESSES.values(), suppression.ERASED, "other", "")
"""A suppression stops mail whatever its reason, also one that this version does not know."""
Act = Callable[[Connection, int, datetime], object]


def suppressed_for(reason: str) -> Act:
    def suppress(connection: Connection, ana: int, at: datetime) -> object:
        return ledger.suppress(connection, ANA.key, reason, at=at)

    return suppress


def paused_until_tomorrow(connection: Connection, ana: int, at: datetime) -> object:
    return pause(connection, ana, at + timedelta(days=1), origin=PERSON, at=at)


def paused_until_now(connection: Connection, ana: int, at: datetime) -> object:
    return pause(connection, ana, at, origin=PERSON, at=at - timedelta(days=1))


def moved_to(status: SubscriberStatus) -> Act:
    def move(connection: Connection, ana: int, at: datetime) -> object:
        return change_status(connection, ana, status, origin=PERSON, at=at)

    return move


def nothing(connection: Connection, ana: int, at: datetime) -> object:
    return True


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (nothing, True),
        *((suppressed_for(reason), False) for reason in REASONS),
        (paused_until_tomorrow, False),
        (paused_until_now, True),
        (moved_to(S.UNSUBSCRIBED), False),
        (moved_to(S.BOUNCED), False),
        (moved_to(S.COMPLAINED), False),
    ],
)
def test_first_and_second_check_see_status_pause_and_suppression(
    database: Database, at: datetime, act: Act, expected: bool
) -> None:
    with database.transaction() as connection:
        ana = add(connection, ANA, secret=SECRET, origin=Origin("command"), at=at).subscriber_id
        bob = add(
            connection, parse_address("bob@example.org"), secret=SECRET, origin=Origin("command"), at=at
        ).subscriber_id
        assert ana is not None
        assert bob is not None
        assert act(connection, ana, at)
    wanted = {ana, bob} if expected else {bob}
    with database.reading() as connection:
        assert still_mailable(connection, [ana, bob, 999_999], at=at) == wanted
        assert set(connection.scalars(select(Subscriber.c.id).where(mailable(at)))) == wanted
