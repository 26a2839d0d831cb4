"""The people behind an issue's numbers, as CSV: complete, without those who do not agree, and harmless."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from sqlalchemy import Connection, not_, select, text, update

from mailer.address import parse_address
from mailer.audience.mailbox_providers import at_providers
from mailer.audience.privacy.erasing import erase
from mailer.audience.transfer.rejects import plain_cell
from mailer.database.engine import Database
from mailer.database.tables import Consent, Delivery, DeliveryState, Subscriber
from mailer.delivery.listing import listing, page
from mailer.reports.people import leavers
from mailer.reports.progress import by_provider
from mailer.review.people_csv import GROUPS, write_people
from tests.reports.scene import Scene

_STATES = (
    "SELECT address FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id WHERE issue_id = :i "
    "AND state = "
)
_EVENTS = (
    "SELECT DISTINCT address FROM events e JOIN subscribers s ON s.id = e.subscriber_id WHERE issue_id = :i "
    "AND tracking_consent AND CAST(details AS TEXT) NOT LIKE '%machine%' AND kind = "
)
_LEDGER = (
    "SELECT address FROM consents c JOIN subscribers s ON s.id = c.subscriber_id WHERE issue_id = :i "
    "AND before = 'active' AND after = "
)
BY_HAND = {
    "opened": f"{_EVENTS} 'open'",
    "clicked": f"{_EVENTS} 'click'",
    **{word: f"{_LEDGER} '{word}'" for word in ("unsubscribed", "bounced", "complained")},
}
CONFIGURED = {"example.net": "ours", "googlemail.com": "ours"}
FORMULAS = ("=1+1", "+1", "-1", "@a", "\tx", "\rx", "'=1", "'", 'a,"b"\r\nc', "")


def written(connection: Connection, issue_id: int, group: str) -> list[dict[str, str]]:
    target = io.StringIO(newline="")
    number = write_people(connection, target, issue_id, group)
    rows = list(csv.DictReader(io.StringIO(target.getvalue(), newline="")))
    assert len(rows) == number
    return rows


@pytest.fixture
def scene(database: Database) -> Scene:
    """Twelve steps of a list with four issues or so; someone is erased, someone withdraws their consent."""
    made = Scene(7)
    for _ in range(12):
        with database.transaction() as connection:
            made.step(connection)
    with database.transaction() as connection:
        gone = connection.scalars(
            select(Consent.c.subscriber_id).where(Consent.c.after == "unsubscribed")
        ).first()
        address = connection.scalar(select(Subscriber.c.address).where(Subscriber.c.id == gone))
        assert address
        erase(connection, parse_address(address), secret=b"0" * 32, at=made.now + timedelta(days=1))
        tracked = select(Subscriber.c.id).where(Subscriber.c.tracking_consent).limit(3)
        connection.execute(
            update(Subscriber).where(Subscriber.c.id.in_(tracked)).values(tracking_consent=False)
        )
    return made


def test_groups_are_as_counted_by_hand(database: Database, scene: Scene) -> None:
    seen = dict.fromkeys(GROUPS, 0)
    with database.reading() as connection:
        for issue_id in scene.issues:
            for group in GROUPS:
                by_hand = connection.scalars(
                    text(BY_HAND.get(group, f"{_STATES} '{group}'")), {"i": issue_id}
                )
                expected = sorted(address for address in by_hand if address is not None)
                assert sorted(row["email"] for row in written(connection, issue_id, group)) == expected, group
                seen[group] += len(expected)
    assert all(seen[group] for group in ("sent", "failed", *BY_HAND))


def test_parts_of_a_group_make_the_whole(database: Database, scene: Scene) -> None:
    """The console links each class of failures, each way of leaving and each provider to its people."""
    classes, ways, providers = set(), set(), set()
    with database.reading() as connection:
        for issue_id in scene.issues:
            failed = list(listing(connection, issue_id, DeliveryState.FAILED))
            classes |= {one.bounce_class for one in failed if one.bounce_class}
            for name in classes:
                only = page(connection, issue_id, DeliveryState.FAILED, after=0, limit=500, bounce_class=name)
                assert only == [one for one in failed if one.bounce_class == name]
            counted = by_provider(connection, issue_id, CONFIGURED)
            providers |= {one.name for one in counted}
            for one in counted:
                among = at_providers([one.name], CONFIGURED)
                for state in (None, *DeliveryState):
                    theirs = page(connection, issue_id, state, after=0, limit=500, among=among)
                    assert len(theirs) == (one.states.get(state, 0) if state else one.recipients)
            among = not_(at_providers([one.name for one in counted[1:]], CONFIGURED))
            first = page(connection, issue_id, after=0, limit=500, among=among)
            assert len([each for each in first if each.address]) == counted[0].recipients
            left = list(leavers(connection, issue_id))
            ways |= {one.way for one in left}
            for way in ways:
                assert list(leavers(connection, issue_id, way=way)) == [one for one in left if one.way == way]
    assert min(len(classes), len(ways), len(providers)) > 1


def test_foreign_text_runs_in_no_spreadsheet(database: Database, scene: Scene) -> None:
    for foreign in FORMULAS:
        with database.transaction() as connection:
            connection.execute(update(Consent).values(note=foreign))
            connection.execute(update(Delivery).values(reply=foreign, enhanced=None, code=None))
            cells = {row["reason"] for row in written(connection, scene.issues[0], "unsubscribed")}
            cells |= {row["answer"] for row in written(connection, scene.issues[0], "failed")}
        for cell in cells:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert plain_cell(cell) == foreign
