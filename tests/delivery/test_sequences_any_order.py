"""Sequences among everything else that happens: sign-ups, imports, departures, tags, pauses, edits, clocks.

The model knows who left and what each person got. After every step, nobody has got a step twice, and nobody
has got one after they left.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import insert, select

from mailer.address import parse_address
from mailer.audience.ledger import move
from mailer.audience.preferences import pause
from mailer.audience.subscribers import add
from mailer.audience.transitions import Move, Origin
from mailer.config import Sequence, Settings
from mailer.database.tables import (
    SequenceMember,
    SequenceStep,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
)
from mailer.delivery.books import books_of
from mailer.delivery.sequences import looking, storing
from tests.databases import empty_database
from tests.delivery.steps import NAME, settle_all, step

S = SubscriberStatus
PEOPLE = ("ana", "bob", "cho")
PEOPLE = PEOPLE
people = st.sampled_from(PEOPLE)
FILES = ("1", "2", "3", "4")
orders = st.lists(st.sampled_from(FILES), min_size=1, max_size=4, unique=True)


class Sequences(RuleBasedStateMachine):
    """Three people, one sequence, and a clock that jumps."""

    messages: ClassVar[int] = 0
    """How many messages all examples sent together."""

    @initialize(trigger=st.sampled_from(["confirmed", "tag:vip"]), order=orders)
    def begin(self, trigger: str, order: list[str]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = empty_database(Path(self.folder.name))
        self.database.open()
        self.at = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
        self.sequence = Sequence(trigger=trigger, goal="tag:customer")
        self.sent: Counter[tuple[str, str]] = Counter()
        self.left: set[int] = set()
        """Those in the sequence who left, or reached the goal before a look."""
        self.wrong: list[tuple[int, str]] = []
        self._apply(order, 0, None)
        for name in PEOPLE:
            self._join(name, "form", vip=True)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def _id(self, name: str) -> int | None:
        with self.database.reading() as connection:
            return connection.scalar(
                select(Subscriber.c.id).where(Subscriber.c.address_key == f"{name}@example.org")
            )

    def _note_departure(self, subscriber_id: int) -> None:
        with self.database.reading() as connection:
            member = connection.scalar(
                select(SequenceMember.c.subscriber_id).where(SequenceMember.c.subscriber_id == subscriber_id)
            )
            if member is not None:
                self.left.add(subscriber_id)

    def _apply(self, order: list[str], days: int, minute: int | None) -> None:
        clock = None if minute is None else time(minute // 60, minute % 60)
        steps = [step(name, days, at=clock, text=f"{name} {days}", source=name) for name in order]
        with self.database.transaction() as connection:
            storing.apply(connection, NAME, self.sequence, steps, at=self.at)

    @rule(name=people, way=st.sampled_from(["form", "import", "api"]), vip=st.booleans())
    def joins(self, name: str, way: str, vip: bool) -> None:
        self._join(name, way, vip=vip)

    def _join(self, name: str, way: str, *, vip: bool) -> None:
        address = parse_address(f"{name}@example.org")
        with self.database.transaction() as connection:
            added = add(
                connection, address, secret=b"s" * 32, origin=Origin(way), at=self.at, tags=["vip"] * vip,
                status=S.PENDING if way == "form" else S.ACTIVE,
            )  # fmt: skip
            if way == "form" and added.subscriber_id is not None:
                move(connection, [Move(added.subscriber_id, S.ACTIVE, Origin("form"), self.at)])

    @rule(name=people, to=st.sampled_from([S.UNSUBSCRIBED, S.BOUNCED, S.COMPLAINED]))
    def leaves(self, name: str, to: SubscriberStatus) -> None:
        if (who := self._id(name)) is None:
            return
        with self.database.transaction() as connection:
            status = connection.scalar(select(Subscriber.c.status).where(Subscriber.c.id == who))
            move(connection, [Move(who, to, Origin("page"), self.at)])
        if status == S.ACTIVE.value:
            self._note_departure(who)

    @rule(name=people)
    def returns(self, name: str) -> None:
        if (who := self._id(name)) is not None:
            with self.database.transaction() as connection:
                move(connection, [Move(who, S.PENDING, Origin("form"), self.at)])
                move(connection, [Move(who, S.ACTIVE, Origin("form"), self.at)])

    @rule(name=people, tag=st.sampled_from(["vip", "customer"]))
    def gets_a_tag(self, name: str, tag: str) -> None:
        if (who := self._id(name)) is None:
            return
        with self.database.transaction() as connection:
            theirs = SubscriberTag.c.subscriber_id == who
            if tag not in connection.scalars(select(SubscriberTag.c.tag).where(theirs)):
                connection.execute(insert(SubscriberTag).values(subscriber_id=who, tag=tag))
        if tag == "customer":
            self._note_departure(who)

    @rule(name=people, days=st.sampled_from([None, 1, 20]))
    def pauses(self, name: str, days: int | None) -> None:
        if (who := self._id(name)) is not None:
            until = None if days is None else self.at + timedelta(days=days)
            with self.database.transaction() as connection:
                pause(connection, who, until, origin=Origin("page"), at=self.at)

    @rule(order=orders, days=st.integers(0, 3), minute=st.sampled_from([None, 540, 1410]))
    def changes_the_files(self, order: list[str], days: int, minute: int | None) -> None:
        self._apply(order, days, minute)

    @rule(stop=st.booleans())
    def pauses_the_sequence(self, stop: bool) -> None:
        with self.database.transaction() as connection:
            if stop:
                storing.pause(connection, NAME, at=self.at)
            else:
                storing.resume(connection, NAME)

    @rule(hours=st.sampled_from([1, 5, 24, 100, -2, -50]))
    def time_passes(self, hours: int) -> None:
        self.at += timedelta(hours=hours)

    @rule(hours=st.sampled_from([0, 3, 30, 90]))
    def worker_looks_and_sends(self, hours: int) -> None:
        self.at += timedelta(hours=hours)
        for _ in range(2):
            looking.look(self.database, Settings(), at=self.at)
            with self.database.transaction() as connection:
                for issue_id, subscriber_id in settle_all(connection, at=self.at):
                    name = connection.scalars(
                        select(SequenceStep.c.id).where(SequenceStep.c.issue_id == issue_id)
                    ).one()
                    self.sent[str(name), str(subscriber_id)] += 1
                    Sequences.messages += 1
                    if subscriber_id in self.left:
                        self.wrong.append((subscriber_id, str(name)))

    @invariant()
    def nobody_gets_a_step_twice_or_after_leaving(self) -> None:
        if not hasattr(self, "sent"):
            return
        assert not self.wrong
        assert all(number == 1 for number in self.sent.values())
        with self.database.reading() as connection:
            for issue_id in connection.scalars(select(SequenceStep.c.issue_id)):
                assert books_of(connection, issue_id).balanced


def test_each_step_at_most_once_and_none_after_leaving() -> None:
    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=7,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Sequences.messages > 0, "no example got as far as a message"
