"""Who may be mailed at an instant: status, pause and suppression, each looked at a second time too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.address import parse_address
from mailer.audience import ledger, suppression
from mailer.audience.ledger import change_status
from mailer.audience.preferences import pause
from mailer.audience.subscribers import add
from mailer.audience.transitions import SUPPRESSES, Origin
from mailer.database.models import Subscriber, SubscriberStatus
from mailer.database.session import Database
from mailer.delivery.candidates import still_mailable
from mailer.delivery.issues import mailable

SECRET = b"s" * 32
ANA = parse_address("ana@example.org")
PERSON = Origin("page")
S = SubscriberStatus
REASONS = (*SUPPRESSES.values(), suppression.ERASED, "other", "")
"""A suppression stops mail whatever its reason, also one that this version does not know."""
Act = Callable[[Session, int, datetime], object]


def suppressed_for(reason: str) -> Act:
    def suppress(session: Session, ana: int, at: datetime) -> object:
        return ledger.suppress(session, ANA.key, reason, at=at)

    return suppress


def paused_until_tomorrow(session: Session, ana: int, at: datetime) -> object:
    return pause(session, ana, at + timedelta(days=1), origin=PERSON, at=at)


def paused_until_now(session: Session, ana: int, at: datetime) -> object:
    return pause(session, ana, at, origin=PERSON, at=at - timedelta(days=1))


def moved_to(status: SubscriberStatus) -> Act:
    def move(session: Session, ana: int, at: datetime) -> object:
        return change_status(session, ana, status, origin=PERSON, at=at)

    return move


def nothing(session: Session, ana: int, at: datetime) -> object:
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
    with database.transaction() as session:
        ana = add(session, ANA, secret=SECRET, origin=Origin("command"), at=at).subscriber_id
        bob = add(
            session, parse_address("bob@example.org"), secret=SECRET, origin=Origin("command"), at=at
        ).subscriber_id
        assert ana is not None
        assert bob is not None
        assert act(session, ana, at)
    wanted = {ana, bob} if expected else {bob}
    with database.reading() as session:
        assert still_mailable(session, [ana, bob, 999_999], at=at) == wanted
        assert set(session.scalars(select(Subscriber.id).where(mailable(at)))) == wanted
