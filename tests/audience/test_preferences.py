"""What subscribers decide beside their status, as the database keeps it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mailer.address import parse_address
from mailer.audience import preferences
from mailer.audience.ledger import change_status, unsubscribe
from mailer.audience.preferences import UnsubscribeReasons
from mailer.audience.subscribers import add, history
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.errors import AddressError

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PAGE = Origin("page")


def joined(database: Database, address: str) -> int:
    with database.transaction() as connection:
        added = add(
            connection, parse_address(address), secret=b"s" * 32, origin=Origin("form"), at=AT, tags=["vip"]
        )
    assert added.subscriber_id is not None
    return added.subscriber_id


def test_choice_changes_only_the_offered_tags(database: Database) -> None:
    ana, bob = joined(database, "ana@example.org"), joined(database, "bob@example.org")
    offered = ["a", "b", "c"]
    with database.transaction() as connection:
        for chosen in (["b", "a", "vip", "x"], ["c", "a"], ["a", "c"]):
            preferences.choose_tags(connection, ana, chosen, offered=offered, origin=PAGE, at=AT)
        notes = [line.note for line in history(connection, ana)[1:]]
        person, other = preferences.standing(connection, ana), preferences.standing(connection, bob)
    assert notes == ["tags: +a, +b", "tags: +c, -b"]
    assert person is not None
    assert other is not None
    assert (person.tags, other.tags) == (frozenset({"a", "c", "vip"}), frozenset({"vip"}))


def test_only_unsubscribed_people_can_give_a_reason(database: Database) -> None:
    ana = joined(database, "ana@example.org")
    with database.transaction() as connection:
        for subscriber in (ana, ana + 1):
            assert not preferences.give_reason(connection, subscriber, "other", origin=PAGE, at=AT)
        assert not preferences.rename(connection, ana + 1, "Ana", origin=PAGE, at=AT)
        assert not preferences.choose_tags(connection, ana + 1, ["a"], offered=["a"], origin=PAGE, at=AT)


def test_unsubscribe_reasons_count_only_personal_acts_most_frequent_first(database: Database) -> None:
    people = [joined(database, f"p{number}@example.org") for number in range(5)]
    with database.transaction() as connection:
        for person, reason in zip(people, ["rare", "often", "often", "", ""], strict=True):
            way = "command" if person == people[-1] else "page"
            origin = Origin(way, note=preferences.reason_note(reason))
            unsubscribe(connection, person, origin=origin, at=AT)
        # Once more, with the reason afterwards.
        change_status(connection, people[0], SubscriberStatus.ACTIVE, origin=PAGE, at=AT)
        unsubscribe(connection, people[0], origin=Origin("one-click"), at=AT)
        assert preferences.give_reason(connection, people[0], "often", origin=PAGE, at=AT)
        assert not preferences.give_reason(connection, people[0], "rare", origin=PAGE, at=AT)
        counted = preferences.unsubscribe_reasons(connection)
    assert counted == UnsubscribeReasons(5, {"often": 3, "rare": 1})
    assert (list(counted.reasons), counted.silent) == (["often", "rare"], 1)


def test_names_that_must_not_reach_a_header_are_refused(database: Database) -> None:
    ana = joined(database, "ana@example.org")
    with database.transaction() as connection, pytest.raises(AddressError):
        preferences.rename(connection, ana, "Ana\r\nBcc: x@example.org", origin=PAGE, at=AT)
