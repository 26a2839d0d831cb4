"""Edits of one subscriber: the fields become what was asked for, and nobody else's change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, text, update

from mailer.address import Address, parse_address
from mailer.audience.fields import MAX_TAGS
from mailer.audience.ledger import add_note, correct, suppress, unsubscribe
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import (
    Added,
    AddResult,
    LedgerLine,
    SubscriberView,
    add,
    change_address,
    change_tags,
    find,
    get,
    history,
    revise,
)
from mailer.audience.transitions import Move, Origin
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus, SubscriberTag, TableRow
from mailer.errors import AddressError, RefusedError
from tests.connections import in_threads, new_database, wait_until_blocked
from tests.postgres import Server

SECRET = b"s" * 32
BY_OPERATOR = Origin("command")
PEOPLE = [parse_address(f"{name}@example.org") for name in ("ana", "ben", "cleo")]
TAGS = st.frozensets(st.sampled_from(["vip", "press", "beta", "Ünï"]), max_size=3)


def subscribed(connection: Connection, at: datetime, tags: tuple[str, ...] = ()) -> list[int]:
    """Subscribe everybody and return their ids."""
    made = [add(connection, one, secret=SECRET, origin=BY_OPERATOR, at=at, tags=tags) for one in PEOPLE]
    return [one.subscriber_id for one in made if one.subscriber_id is not None]


def stored(connection: Connection, subscriber_id: int | None) -> TableRow:
    return connection.execute(select(Subscriber).where(Subscriber.c.id == subscriber_id)).one()


def tags_of(connection: Connection) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for subscriber_id, tag in connection.execute(select(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag)):
        found.setdefault(subscriber_id, set()).add(tag)
    return found


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 2), st.booleans(), TAGS, TAGS), max_size=6))
def test_tags_are_those_of_a_set_for_each_person(
    database: Database, at: datetime, edits: list[tuple[int, bool, frozenset[str], frozenset[str]]]
) -> None:
    with database.transaction() as connection:
        ids = subscribed(connection, at, ("vip",))
        expected = {one: {"vip"} for one in ids}
        for number, (place, whole, new, gone) in enumerate(edits, 1):
            one, before = ids[place], set(expected[ids[place]])
            lines, then = len(history(connection, one)), at + timedelta(hours=number)
            if whole:
                assert revise(connection, one, at=then, tags=sorted(new))
                expected[one] = set(new)
            else:
                changes = change_tags(connection, one, add=new, remove=gone, origin=BY_OPERATOR, at=then)
                # Tags are added first, so one that is both added and removed is gone if it was there.
                expected[one] = (before | new) - (gone & before)
                assert set(changes) == {f"+{tag}" for tag in new - before} | {
                    f"-{tag}" for tag in gone & before
                }
                written = history(connection, one)[lines:]
                assert [line.note for line in written] == ([f"tags: {', '.join(changes)}"] if changes else [])
                if changes:
                    assert stored(connection, one).changed_at == then
            assert tags_of(connection) == {key: tags for key, tags in expected.items() if tags}
        connection.rollback()


def test_edit_of_one_person_changes_no_other(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ana, ben, cleo = subscribed(connection, at)
        before = [get(connection, one) for one in (ben, cleo)]
        later = at + timedelta(days=1)
        assert revise(connection, ana, at=later, name="Ana", attributes={"city": "Graz"})
        assert revise(connection, ana, at=later, attributes={"city": None, "age": 40})
        new = parse_address("ana@example.net")
        assert change_address(connection, ana, new, secret=SECRET, origin=BY_OPERATOR, at=later)
        changed = stored(connection, ana)
        assert (changed.name, changed.attributes, changed.changed_at) == ("Ana", {"age": 40}, later)
        assert (changed.address, changed.domain) == ("ana@example.net", "example.net")
        newest = history(connection, ana)[-1]
        assert (newest.note, newest.at) == ("address changed from ana@example.org", later)
        assert [get(connection, one) for one in (ben, cleo)] == before


def test_address_of_another_is_refused(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ana, *_ = subscribed(connection, at)
        with pytest.raises(RefusedError, match=r"ben@example\.org belongs to another subscriber"):
            change_address(connection, ana, PEOPLE[1], secret=SECRET, origin=BY_OPERATOR, at=at)


def test_erased_person_is_not_edited(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ana, *_ = subscribed(connection, at, ("vip",))
        erase(connection, PEOPLE[0], secret=SECRET, at=at)
        assert not revise(connection, ana, at=at, name="Ana", tags=["press"])
        assert change_tags(connection, ana, add=["press"], origin=BY_OPERATOR, at=at) == ()
        assert not change_address(
            connection, ana, parse_address("x@example.org"), secret=SECRET, origin=BY_OPERATOR, at=at
        )
        assert ana not in tags_of(connection)


@pytest.mark.parametrize(("reason", "also"), [("complaint", False), ("hard bounce", True)])
def test_suppressed_address_is_refused_with_its_reason(
    database: Database, at: datetime, reason: str, also: bool
) -> None:
    new = parse_address("new@example.org")
    with database.transaction() as connection:
        ana, *_ = subscribed(connection, at)
        suppress(connection, new.key, reason, at=at)
        if also:
            suppress(connection, "other@example.org", "complaint", at=at)
        with pytest.raises(RefusedError, match=rf"new@example\.org is suppressed \({reason}\)"):
            change_address(connection, ana, new, secret=SECRET, origin=BY_OPERATOR, at=at)
        assert get(connection, ana) == find(connection, PEOPLE[0])


def test_new_spelling_keeps_the_soft_bounces_and_asks_nobody(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ana, *_ = subscribed(connection, at)
        bounced = update(Subscriber).where(Subscriber.c.id == ana)
        connection.execute(bounced.values(soft_points=2.0, soft_since=at))
        suppress(connection, PEOPLE[0].key, "complaint", at=at)
        written: dict[str, Any] = {"secret": SECRET, "origin": BY_OPERATOR, "at": at}
        assert not change_address(connection, ana, PEOPLE[0], **written)
        assert change_address(connection, ana, parse_address("Ana@example.org"), **written)
        known = stored(connection, ana)
        assert (known.soft_points, known.soft_since, known.address) == (2.0, at, "Ana@example.org")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, AddResult.UNCHANGED),
        ({"name": "Ana", "tags": ["vip"], "attributes": {"city": "Graz"}}, AddResult.UNCHANGED),
        ({"name": "Eva"}, AddResult.UPDATED),
        ({"tags": ["press"]}, AddResult.UPDATED),
        ({"attributes": {"city": "Linz"}}, AddResult.UPDATED),
        ({"attributes": {"age": 40}, "tags": ["vip"]}, AddResult.UPDATED),
    ],
)
@pytest.mark.parametrize("status", [SubscriberStatus.ACTIVE, SubscriberStatus.PENDING])
def test_adding_again_changes_what_is_new_alone(
    database: Database, at: datetime, status: SubscriberStatus, given: dict[str, Any], expected: AddResult
) -> None:
    later = at + timedelta(days=1)
    by: dict[str, Any] = {"secret": SECRET, "origin": BY_OPERATOR}
    with database.transaction() as connection:
        first = add(
            connection,
            PEOPLE[0],
            at=at,
            name="Ana",
            tags=["vip"],
            attributes={"city": "Graz"},
            status=status,
            **by,
        )
        assert add(connection, PEOPLE[0], at=later, **given, **by) == Added(first.subscriber_id, expected)
        known = stored(connection, first.subscriber_id)
        assert known.changed_at == (at if expected is AddResult.UNCHANGED else later)
        assert known.name == given.get("name", "Ana")
        assert known.attributes == {"city": "Graz", **given.get("attributes", {})}
        found = get(connection, known.id)
        assert found is not None
        assert set(found.tags) == {"vip", *given.get("tags", [])}
        assert found.status is status


def test_tags_and_lines_are_those_of_one_person_in_order(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ana, ben, _ = subscribed(connection, at)
        revise(connection, ana, at=at, tags=["b", "a"])
        revise(connection, ben, at=at, tags=["c"])
        add_note(connection, ben, SubscriberStatus.ACTIVE, origin=Origin("page", note="second"), at=at)
        found = get(connection, ana)
        assert found is not None
        assert found.tags == ("a", "b")
        assert [line.note for line in history(connection, ben)] == ["", "second"]
        assert get(connection, 999_999) is None
        assert not revise(connection, 999_999, at=at, name="Nobody")


EDITS: dict[str, Callable[[Connection, int, datetime], object]] = {
    "add": lambda connection, ana, at: add(
        connection, PEOPLE[0], secret=SECRET, origin=BY_OPERATOR, at=at, name="Eva"
    ),
    "revise": lambda connection, ana, at: revise(connection, ana, at=at, name="Eva"),
    "change the address": lambda connection, ana, at: change_address(
        connection, ana, parse_address("eva@example.org"), secret=SECRET, origin=BY_OPERATOR, at=at
    ),
    "change tags": lambda connection, ana, at: change_tags(
        connection, ana, add=["new"], origin=BY_OPERATOR, at=at
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_is_written_when_it_returns(database: Database, at: datetime, name: str) -> None:
    later = at + timedelta(days=1)
    with database.transaction() as connection:
        ana, *_ = subscribed(connection, at)
        EDITS[name](connection, ana, later)
        row = select(Subscriber.c.changed_at).where(Subscriber.c.id == ana)
        assert connection.scalar(row) == later


def test_nobody_gets_more_tags_than_fit_by_adding_some(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        ana, *_ = subscribed(connection, at)
        many = [f"t{number:03}" for number in range(MAX_TAGS)]
        change_tags(connection, ana, add=many[:-1], origin=BY_OPERATOR, at=at)
        with pytest.raises(AddressError, match="more than 100"):
            change_tags(connection, ana, add=["x", "y"], origin=BY_OPERATOR, at=at)
        assert change_tags(connection, ana, add=["x"], origin=BY_OPERATOR, at=at) == ("+x",)


@pytest.fixture
def shared(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def test_two_edits_at_the_same_moment_both_stay(shared: Database, at: datetime) -> None:
    with shared.transaction() as connection:
        ana = subscribed(connection, at)[0]

    def edit() -> None:
        with shared.transaction() as connection:
            revise(connection, ana, at=at, attributes={"city": "Graz"})

    with shared.transaction() as first:
        revise(first, ana, at=at, attributes={"age": 40})
        with in_threads(edit) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as connection:
        found = get(connection, ana)
        assert found is not None
        assert found.attributes == {"age": 40, "city": "Graz"}


def test_change_that_waits_for_another_sees_what_it_left(shared: Database, at: datetime) -> None:
    with shared.transaction() as connection:
        ana = subscribed(connection, at)[0]

    def change(connection: Connection, address: str) -> None:
        changed = parse_address(address)
        assert change_address(connection, ana, changed, secret=SECRET, origin=BY_OPERATOR, at=at)
        change_tags(connection, ana, add=["press"], origin=BY_OPERATOR, at=at)

    def change_later() -> None:
        with shared.transaction() as connection:
            change(connection, "second@example.org")

    with shared.transaction() as first:
        change(first, "first@example.org")
        with in_threads(change_later) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as connection:
        notes = [line.note for line in history(connection, ana)]
        assert notes[-1] == "address changed from first@example.org"
        assert notes[-2] == "tags: +press"


def test_tags_added_at_the_same_moment_are_added_once(shared: Database, at: datetime) -> None:
    with shared.transaction() as connection:
        ana = subscribed(connection, at)[0]

    def change() -> tuple[str, ...]:
        with shared.transaction() as connection:
            return change_tags(connection, ana, add=["press"], origin=BY_OPERATOR, at=at)

    with shared.transaction() as first:
        assert change_tags(first, ana, add=["press"], origin=BY_OPERATOR, at=at) == ("+press",)
        with in_threads(change) as second:
            wait_until_blocked(shared)
            first.commit()
        assert second[0].result() == ()


def test_move_waits_for_its_own_subscriber_alone(shared: Database, at: datetime) -> None:
    with shared.transaction() as connection:
        ana, ben, _ = subscribed(connection, at)

    def take_off(one: int) -> bool:
        with shared.transaction() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '20s'"))
            return unsubscribe(connection, one, origin=Origin("page"), at=at)

    with shared.transaction() as first:
        assert unsubscribe(first, ana, origin=Origin("page"), at=at)
        assert take_off(ben)
        with in_threads(lambda: take_off(ana)) as second:
            wait_until_blocked(shared)
            first.commit()
        assert not second[0].result()
    with shared.reading() as connection:
        assert [line.after for line in history(connection, ana)] == ["active", "unsubscribed"]


def test_correction_waits_for_its_own_subscriber_alone(shared: Database, at: datetime) -> None:
    with shared.transaction() as connection:
        ana, ben, _ = subscribed(connection, at)

    def corrected(one: int) -> None:
        with shared.transaction() as connection:
            correct(connection, [Move(one, SubscriberStatus.PENDING, BY_OPERATOR, at)])

    with shared.transaction() as first:
        assert unsubscribe(first, ana, origin=Origin("page"), at=at)
        corrected(ben)
        with in_threads(lambda: corrected(ana)) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as connection:
        assert [line.before for line in history(connection, ana)] == ["", "active", "unsubscribed"]


@pytest.mark.parametrize("kind", [Added, Address, LedgerLine, SubscriberView])
def test_view_of_a_subscriber_never_changes(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
