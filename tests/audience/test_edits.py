"""Edits of one subscriber: the fields become what was asked for, and nobody else's change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

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
from mailer.database.models import Subscriber, SubscriberStatus, SubscriberTag
from mailer.database.session import Database
from mailer.errors import AddressError, RefusedError
from tests.connections import in_threads, new_database, wait_until_blocked
from tests.postgres import Server

SECRET = b"s" * 32
BY_OPERATOR = Origin("command")
PEOPLE = [parse_address(f"{name}@example.org") for name in ("ana", "ben", "cleo")]
TAGS = st.frozensets(st.sampled_from(["vip", "press", "beta", "Ünï"]), max_size=3)


def subscribed(session: Session, at: datetime, tags: tuple[str, ...] = ()) -> list[int]:
    """Subscribe everybody and return their ids."""
    made = [add(session, one, secret=SECRET, origin=BY_OPERATOR, at=at, tags=tags) for one in PEOPLE]
    return [one.subscriber_id for one in made if one.subscriber_id is not None]


def tags_of(session: Session) -> dict[int, set[str]]:
    session.expire_all()
    found: dict[int, set[str]] = {}
    for subscriber_id, tag in session.execute(select(SubscriberTag.subscriber_id, SubscriberTag.tag)):
        found.setdefault(subscriber_id, set()).add(tag)
    return found


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 2), st.booleans(), TAGS, TAGS), max_size=6))
def test_tags_are_those_of_a_set_for_each_person(
    database: Database, at: datetime, edits: list[tuple[int, bool, frozenset[str], frozenset[str]]]
) -> None:
    with database.transaction() as session:
        ids = subscribed(session, at, ("vip",))
        expected = {one: {"vip"} for one in ids}
        for number, (place, whole, new, gone) in enumerate(edits, 1):
            one, before = ids[place], set(expected[ids[place]])
            lines, then = len(history(session, one)), at + timedelta(hours=number)
            if whole:
                assert revise(session, one, at=then, tags=sorted(new))
                expected[one] = set(new)
            else:
                changes = change_tags(session, one, add=new, remove=gone, origin=BY_OPERATOR, at=then)
                # Tags are added first, so one that is both added and removed is gone if it was there.
                expected[one] = (before | new) - (gone & before)
                assert set(changes) == {f"+{tag}" for tag in new - before} | {
                    f"-{tag}" for tag in gone & before
                }
                written = history(session, one)[lines:]
                assert [line.note for line in written] == ([f"tags: {', '.join(changes)}"] if changes else [])
                if changes:
                    assert session.get_one(Subscriber, one).changed_at == then
            assert tags_of(session) == {key: tags for key, tags in expected.items() if tags}
        session.rollback()


def test_edit_of_one_person_changes_no_other(database: Database, at: datetime) -> None:
    with database.transaction() as session:
        ana, ben, cleo = subscribed(session, at)
        before = [get(session, one) for one in (ben, cleo)]
        later = at + timedelta(days=1)
        assert revise(session, ana, at=later, name="Ana", attributes={"city": "Graz"})
        assert revise(session, ana, at=later, attributes={"city": None, "age": 40})
        new = parse_address("ana@example.net")
        assert change_address(session, ana, new, secret=SECRET, origin=BY_OPERATOR, at=later)
        changed = session.get_one(Subscriber, ana)
        assert (changed.name, changed.attributes, changed.changed_at) == ("Ana", {"age": 40}, later)
        assert (changed.address, changed.domain) == ("ana@example.net", "example.net")
        newest = history(session, ana)[-1]
        assert (newest.note, newest.at) == ("address changed from ana@example.org", later)
        assert [get(session, one) for one in (ben, cleo)] == before


def test_address_of_another_is_refused(database: Database, at: datetime) -> None:
    with database.transaction() as session:
        ana, *_ = subscribed(session, at)
        with pytest.raises(RefusedError, match=r"ben@example\.org belongs to another subscriber"):
            change_address(session, ana, PEOPLE[1], secret=SECRET, origin=BY_OPERATOR, at=at)


def test_erased_person_is_not_edited(database: Database, at: datetime) -> None:
    with database.transaction() as session:
        ana, *_ = subscribed(session, at, ("vip",))
        erase(session, PEOPLE[0], secret=SECRET, at=at)
        assert not revise(session, ana, at=at, name="Ana", tags=["press"])
        assert change_tags(session, ana, add=["press"], origin=BY_OPERATOR, at=at) == ()
        assert not change_address(
            session, ana, parse_address("x@example.org"), secret=SECRET, origin=BY_OPERATOR, at=at
        )
        assert ana not in tags_of(session)


@pytest.mark.parametrize(("reason", "also"), [("complaint", False), ("hard bounce", True)])
def test_suppressed_address_is_refused_with_its_reason(
    database: Database, at: datetime, reason: str, also: bool
) -> None:
    new = parse_address("new@example.org")
    with database.transaction() as session:
        ana, *_ = subscribed(session, at)
        suppress(session, new.key, reason, at=at)
        if also:
            suppress(session, "other@example.org", "complaint", at=at)
        with pytest.raises(RefusedError, match=rf"new@example\.org is suppressed \({reason}\)"):
            change_address(session, ana, new, secret=SECRET, origin=BY_OPERATOR, at=at)
        assert get(session, ana) == find(session, PEOPLE[0])


def test_new_spelling_keeps_the_soft_bounces_and_asks_nobody(database: Database, at: datetime) -> None:
    with database.transaction() as session:
        ana, *_ = subscribed(session, at)
        known = session.get_one(Subscriber, ana)
        known.soft_points, known.soft_since = 2.0, at
        suppress(session, PEOPLE[0].key, "complaint", at=at)
        written: dict[str, Any] = {"secret": SECRET, "origin": BY_OPERATOR, "at": at}
        assert not change_address(session, ana, PEOPLE[0], **written)
        assert change_address(session, ana, parse_address("Ana@example.org"), **written)
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
    with database.transaction() as session:
        first = add(
            session,
            PEOPLE[0],
            at=at,
            name="Ana",
            tags=["vip"],
            attributes={"city": "Graz"},
            status=status,
            **by,
        )
        assert add(session, PEOPLE[0], at=later, **given, **by) == Added(first.subscriber_id, expected)
        known = session.get_one(Subscriber, first.subscriber_id)
        assert known.changed_at == (at if expected is AddResult.UNCHANGED else later)
        assert known.name == given.get("name", "Ana")
        assert known.attributes == {"city": "Graz", **given.get("attributes", {})}
        found = get(session, known.id)
        assert found is not None
        assert set(found.tags) == {"vip", *given.get("tags", [])}
        assert found.status is status


def test_tags_and_lines_are_those_of_one_person_in_order(database: Database, at: datetime) -> None:
    with database.transaction() as session:
        ana, ben, _ = subscribed(session, at)
        revise(session, ana, at=at, tags=["b", "a"])
        revise(session, ben, at=at, tags=["c"])
        add_note(session, ben, SubscriberStatus.ACTIVE, origin=Origin("page", note="second"), at=at)
        found = get(session, ana)
        assert found is not None
        assert found.tags == ("a", "b")
        assert [line.note for line in history(session, ben)] == ["", "second"]
        assert get(session, 999_999) is None
        assert not revise(session, 999_999, at=at, name="Nobody")


EDITS: dict[str, Callable[[Session, int, datetime], object]] = {
    "add": lambda s, ana, at: add(s, PEOPLE[0], secret=SECRET, origin=BY_OPERATOR, at=at, name="Eva"),
    "revise": lambda s, ana, at: revise(s, ana, at=at, name="Eva"),
    "change the address": lambda s, ana, at: change_address(
        s, ana, parse_address("eva@example.org"), secret=SECRET, origin=BY_OPERATOR, at=at
    ),
    "change tags": lambda s, ana, at: change_tags(s, ana, add=["new"], origin=BY_OPERATOR, at=at),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_is_written_when_it_returns(database: Database, at: datetime, name: str) -> None:
    later = at + timedelta(days=1)
    with database.transaction() as session:
        ana, *_ = subscribed(session, at)
        EDITS[name](session, ana, later)
        # Not every statement goes through the session, which would write it first.
        row = select(Subscriber.changed_at).where(Subscriber.id == ana)
        assert session.connection().scalar(row) == later


def test_nobody_gets_more_tags_than_fit_by_adding_some(database: Database, at: datetime) -> None:
    with database.transaction() as session:
        ana, *_ = subscribed(session, at)
        many = [f"t{number:03}" for number in range(MAX_TAGS)]
        change_tags(session, ana, add=many[:-1], origin=BY_OPERATOR, at=at)
        with pytest.raises(AddressError, match="more than 100"):
            change_tags(session, ana, add=["x", "y"], origin=BY_OPERATOR, at=at)
        assert change_tags(session, ana, add=["x"], origin=BY_OPERATOR, at=at) == ("+x",)


@pytest.fixture
def shared(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def test_two_edits_at_the_same_moment_both_stay(shared: Database, at: datetime) -> None:
    with shared.transaction() as session:
        ana = subscribed(session, at)[0]

    def edit() -> None:
        with shared.transaction() as session:
            revise(session, ana, at=at, attributes={"city": "Graz"})

    with shared.transaction() as first:
        revise(first, ana, at=at, attributes={"age": 40})
        first.flush()
        with in_threads(edit) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as session:
        found = get(session, ana)
        assert found is not None
        assert found.attributes == {"age": 40, "city": "Graz"}


def test_change_that_waits_for_another_sees_what_it_left(shared: Database, at: datetime) -> None:
    with shared.transaction() as session:
        ana = subscribed(session, at)[0]

    def change(session: Session, address: str) -> None:
        changed = parse_address(address)
        assert change_address(session, ana, changed, secret=SECRET, origin=BY_OPERATOR, at=at)
        change_tags(session, ana, add=["press"], origin=BY_OPERATOR, at=at)

    def change_later() -> None:
        with shared.transaction() as session:
            change(session, "second@example.org")

    with shared.transaction() as first:
        change(first, "first@example.org")
        with in_threads(change_later) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as session:
        notes = [line.note for line in history(session, ana)]
        assert notes[-1] == "address changed from first@example.org"
        assert notes[-2] == "tags: +press"


def test_tags_added_at_the_same_moment_are_added_once(shared: Database, at: datetime) -> None:
    with shared.transaction() as session:
        ana = subscribed(session, at)[0]

    def change() -> tuple[str, ...]:
        with shared.transaction() as session:
            return change_tags(session, ana, add=["press"], origin=BY_OPERATOR, at=at)

    with shared.transaction() as first:
        assert change_tags(first, ana, add=["press"], origin=BY_OPERATOR, at=at) == ("+press",)
        with in_threads(change) as second:
            wait_until_blocked(shared)
            first.commit()
        assert second[0].result() == ()


def test_move_waits_for_its_own_subscriber_alone(shared: Database, at: datetime) -> None:
    with shared.transaction() as session:
        ana, ben, _ = subscribed(session, at)

    def take_off(one: int) -> bool:
        with shared.transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '20s'"))
            return unsubscribe(session, one, origin=Origin("page"), at=at)

    with shared.transaction() as first:
        assert unsubscribe(first, ana, origin=Origin("page"), at=at)
        assert take_off(ben)
        with in_threads(lambda: take_off(ana)) as second:
            wait_until_blocked(shared)
            first.commit()
        assert not second[0].result()
    with shared.reading() as session:
        assert [line.after for line in history(session, ana)] == ["active", "unsubscribed"]


def test_correction_waits_for_its_own_subscriber_alone(shared: Database, at: datetime) -> None:
    with shared.transaction() as session:
        ana, ben, _ = subscribed(session, at)

    def corrected(one: int) -> None:
        with shared.transaction() as session:
            correct(session, [Move(one, SubscriberStatus.PENDING, BY_OPERATOR, at)])

    with shared.transaction() as first:
        assert unsubscribe(first, ana, origin=Origin("page"), at=at)
        corrected(ben)
        with in_threads(lambda: corrected(ana)) as second:
            wait_until_blocked(shared)
            first.commit()
        second[0].result()
    with shared.reading() as session:
        assert [line.before for line in history(session, ana)] == ["", "active", "unsubscribed"]


@pytest.mark.parametrize("kind", [Added, Address, LedgerLine, SubscriberView])
def test_view_of_a_subscriber_never_changes(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
