"""Statuses under any order of events: who opted out is never mailed, and the page shows what is true."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from mailer.address import Address, parse_address
from mailer.audience.ledger import change_status, unsubscribe, unsubscribe_all
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import AddResult, add, find, history, revise
from mailer.audience.transfer.importing import import_file
from mailer.audience.transfer.presets import PLAIN, PRESETS, OutRule, Preset
from mailer.audience.transfer.reverting import revert
from mailer.audience.transitions import PERSONAL_WAYS, TRANSITIONS, Origin, SubscriberRequest
from mailer.database.tables import Subscriber, SubscriberStatus
from mailer.delivery.issues import mailable
from tests.databases import empty_database

SECRET = b"s" * 32
BY_REPORT = Origin("bounce", note="550")
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PEOPLE = [parse_address(f"{name}@example.org") for name in ("ana", "bob")]
OTHERS = ("command", "import", "api", "bounce", "complaint", "webhook")
S = SubscriberStatus

ELSEWHERE = Preset(
    out=(
        OutRule(
            "status",
            {
                "unsubscribed": S.UNSUBSCRIBED,
                "bounced": S.BOUNCED,
                "complained": S.COMPLAINED,
                "pending": None,
            },
            dated="since",
        ),
    )
)

people = st.sampled_from(PEOPLE)
PAGE = Path(__file__).parents[2] / "docs" / "how" / "consent.md"


class Consents(RuleBasedStateMachine):
    """Two people, everything that can be done to them, and what they themselves last said."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = empty_database(Path(self.folder.name))
        self.at = AT
        # Who said no, or never said yes again after a stop: none of these may be mailed.
        self.stopped: set[str] = set()
        # Who is active by an act of their own, and since when.
        self.own: dict[str, datetime] = {}
        # Who is out by the word of one import alone, and since when they had been active by their own act.
        self.hearsay: dict[str, tuple[int, datetime | None]] = {}
        self.imports: list[int] = []
        self.people = PEOPLE

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def _now(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at

    def _stop(self, person: Address) -> None:
        self.stopped.add(person.key)
        self.own.pop(person.key, None)
        self.hearsay.pop(person.key, None)

    def _id(self, person: Address) -> int | None:
        with self.database.reading() as connection:
            known = find(connection, person)
        return None if known is None else known.id

    @rule(person=people, way=st.sampled_from(("command", "api")))
    def somebody_adds(self, person: Address, way: str) -> None:
        with self.database.transaction() as connection:
            added = add(connection, person, secret=SECRET, origin=Origin(way), at=self._now(), tags=["t"])
        assert (added.result is AddResult.KEPT_OUT) == (person.key in self.stopped)

    @rule(
        chosen=st.lists(people, min_size=1, unique=True), preset=st.sampled_from([PLAIN, PRESETS["mailer"]])
    )
    def somebody_imports(self, chosen: list[Address], preset: Preset) -> None:
        path = Path(self.folder.name) / "people.csv"
        path.write_text("email,status\n" + "".join(f"{one},active\n" for one in chosen), encoding="utf-8")
        report = import_file(self.database, path, secret=SECRET, at=self._now(), preset=preset)
        assert report.kept_out == len({one.key for one in chosen} & self.stopped)

    @rule(person=people, to=st.sampled_from(list(S)), way=st.sampled_from(OTHERS))
    def somebody_else_changes(self, person: Address, to: SubscriberStatus, way: str) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None or to is S.ERASED:
            return
        with self.database.transaction() as connection:
            changed = change_status(connection, subscriber_id, to, origin=Origin(way), at=self._now())
        assert not (changed and to in (S.ACTIVE, S.PENDING))
        # Said again of somebody who is out, it counts as well.
        if to not in (S.ACTIVE, S.PENDING):
            self._stop(person)

    @rule(person=people, way=st.sampled_from(sorted(PERSONAL_WAYS)), many=st.booleans())
    def person_leaves(self, person: Address, way: str, many: bool) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        with self.database.transaction() as connection:
            if many:
                unsubscribe_all(connection, [SubscriberRequest(subscriber_id, Origin(way), self._now())] * 2)
            else:
                unsubscribe(connection, subscriber_id, origin=Origin(way), at=self._now())
        self._stop(person)

    @precondition(lambda self: self.stopped)
    @rule(person=people, way=st.sampled_from(("page", "form")))
    def person_comes_back(self, person: Address, way: str) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        with self.database.transaction() as connection:
            if change_status(connection, subscriber_id, S.ACTIVE, origin=Origin(way), at=self._now()):
                self.stopped.discard(person.key)
                self.hearsay.pop(person.key, None)
                self.own[person.key] = self.at

    @rule(person=people)
    def address_bounces(self, person: Address) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        origin = Origin("bounce", note="550")
        with self.database.transaction() as connection:
            change_status(connection, subscriber_id, S.BOUNCED, origin=origin, at=self._now())
        # It counts for people who are out already, too: reverting an import does not undo it.
        self._stop(person)

    @rule(person=people)
    def somebody_edits(self, person: Address) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is not None:
            with self.database.transaction() as connection:
                revise(connection, subscriber_id, at=self._now(), name="Renamed", tags=["u"])
            # Something happened: an import is not taken back for them any more.
            self.hearsay.pop(person.key, None)

    @rule(person=people)
    def person_is_erased(self, person: Address) -> None:
        with self.database.transaction() as connection:
            erase(connection, person, secret=SECRET, at=self._now())
        self._stop(person)

    @rule(
        chosen=st.lists(people, min_size=1, unique=True),
        status=st.sampled_from(("unsubscribed", "bounced", "complained", "pending")),
        since=st.sampled_from((None, timedelta(days=-9), timedelta(minutes=-3), timedelta(0))),
    )
    def another_service_had_them_out(
        self, chosen: list[Address], status: str, since: timedelta | None
    ) -> None:
        now = self._now()
        said_at = None if since is None else now + since
        path = Path(self.folder.name) / "out.csv"
        rows = "".join(f"{one},{status},{said_at or ''}\n" for one in chosen)
        path.write_text("email,status,since\n" + rows, encoding="utf-8")
        report = import_file(self.database, path, secret=SECRET, at=now, preset=ELSEWHERE)
        assert report.id is not None
        self.imports.append(report.id)
        left_alone = 0
        for one in chosen:
            own_at = self.own.get(one.key)
            if status == "pending":
                continue
            if one.key in self.stopped:
                # A second import that agrees: taking the first one back does not bring them back.
                self.hearsay.pop(one.key, None)
            elif own_at is not None and (said_at is None or own_at >= said_at):
                left_alone += 1
            else:
                self._stop(one)
                self.hearsay[one.key] = (report.id, own_at)
        assert (report.left_alone, report.added) == (left_alone, 0)

    @precondition(lambda self: bool(getattr(self, "imports", None)))
    @rule()
    def operator_takes_the_last_import_back(self) -> None:
        import_id = self.imports.pop()
        revert(self.database, import_id, at=self._now())
        for key, (said_by, own_at) in list(self.hearsay.items()):
            if said_by == import_id:
                del self.hearsay[key]
                self.stopped.discard(key)
                if own_at is not None:
                    self.own[key] = own_at

    def wrongly_mailed(self) -> set[str]:
        """Return who may be mailed although they stopped."""
        with self.database.reading() as connection:
            return (
                set(connection.scalars(select(Subscriber.c.address_key).where(mailable(self.at))))
                & self.stopped
            )

    def wrong_histories(self) -> list[str]:
        """Return whose history ends with another status than they have."""
        with self.database.reading() as connection:
            known = [one for person in self.people if (one := find(connection, person)) is not None]
            return [str(one.id) for one in known if history(connection, one.id)[-1].after != one.status]

    @invariant()
    def nobody_who_is_stopped_is_mailed(self) -> None:
        if hasattr(self, "database"):
            assert self.wrongly_mailed() == set()
            assert self.wrong_histories() == []


Turn = Callable[[Consents, Address], None]
TestConsents = Consents.TestCase
TestConsents.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def _nothing(machine: Consents, person: Address) -> None:
    """Stand for a turn in which nothing happens."""


def _is_added(machine: Consents, person: Address) -> None:
    machine.somebody_adds(person=person, way="api")


def _leaves(machine: Consents, person: Address) -> None:
    machine.person_leaves(person=person, way="one-click", many=True)


def _signs_up(machine: Consents, person: Address) -> None:
    _is_added(machine, person)
    _leaves(machine, person)
    machine.person_comes_back(person=person, way="page")


def _is_edited(machine: Consents, person: Address) -> None:
    machine.somebody_edits(person=person)


def _is_out_elsewhere(machine: Consents, person: Address) -> None:
    machine.another_service_had_them_out(chosen=[person], status="bounced", since=None)


def _was_out_elsewhere_before(machine: Consents, person: Address) -> None:
    machine.another_service_had_them_out(chosen=[person], status="complained", since=timedelta(days=-9))


def _left_elsewhere_later(machine: Consents, person: Address) -> None:
    machine.another_service_had_them_out(chosen=[person], status="unsubscribed", since=timedelta(0))


def _is_taken_back(machine: Consents, person: Address) -> None:
    if machine.imports:
        machine.operator_takes_the_last_import_back()


@pytest.mark.parametrize("start", [_nothing, _is_added, _signs_up])
@pytest.mark.parametrize("said", [_is_out_elsewhere, _was_out_elsewhere_before, _left_elsewhere_later])
def test_opt_outs_of_imports_in_every_order(start: Turn, said: Turn) -> None:
    between = (_leaves, _signs_up, _is_edited, _is_out_elsewhere, _is_taken_back)
    machine = Consents()
    machine.begin()
    try:
        for number, turns in enumerate(product(between, between)):
            person = parse_address(f"person{number}@example.org")
            machine.people = [person]
            for turn in (start, said, *turns, _is_taken_back, _is_added):
                turn(machine, person)
                assert machine.wrongly_mailed() == set()
                assert machine.wrong_histories() == []
    finally:
        machine.teardown()


def test_diagram_shows_every_transition_and_no_other() -> None:
    drawn = re.findall(r"^ *([a-z]+) --> ([a-z]+): (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    expected = {(before.value, after.value): alone for (before, after), alone in TRANSITIONS.items()}
    assert {(before, after): "only the person" in words for before, after, words in drawn} == expected


def test_nothing_leads_out_of_erased() -> None:
    assert not [after for before, after in TRANSITIONS if before is S.ERASED]
