"""Statuses under any order of events: who opted out is never mailed, and the page shows what is true."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from mailer.address import Address, parse_address
from mailer.audience.bounced import mark_bounced
from mailer.audience.erasing import erase
from mailer.audience.importing import import_file
from mailer.audience.presets import PLAIN, PRESETS, Preset
from mailer.audience.subscribers import (
    PERSONAL_WAYS,
    TRANSITIONS,
    Change,
    Origin,
    Outcome,
    add,
    change_status,
    find,
    history,
    revise,
    unsubscribe,
    unsubscribe_all,
)
from mailer.database.models import Subscriber, SubscriberStatus
from mailer.database.session import Database
from mailer.delivery.issues import mailable

SECRET = b"s" * 32
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PEOPLE = [parse_address(f"{name}@example.org") for name in ("ana", "bob", "eve")]
OTHERS = ("command", "import", "api", "bounce", "complaint", "webhook")
S = SubscriberStatus

IMPORTED_AS = (PLAIN, PRESETS["mailer"])

people = st.sampled_from(PEOPLE)
PAGE = Path(__file__).parents[2] / "docs" / "how" / "consent.md"


class Consents(RuleBasedStateMachine):
    """Three people, everything that can be done to them, and what they themselves last said."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database("sqlite:///subscribers.db", folder=Path(self.folder.name))
        self.database.open()
        self.at = AT
        # Who said no, or never said yes again after a stop: none of these may be mailed.
        self.stopped: set[str] = set()

    def teardown(self) -> None:
        self.database.engine.dispose()
        self.folder.cleanup()

    def _now(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at

    def _id(self, person: Address) -> int | None:
        with self.database.reading() as session:
            known = find(session, person)
        return None if known is None else known.id

    @rule(person=people, way=st.sampled_from(("command", "api")))
    def somebody_adds(self, person: Address, way: str) -> None:
        with self.database.transaction() as session:
            added = add(session, person, secret=SECRET, origin=Origin(way), at=self._now(), tags=["t"])
        assert (added.outcome is Outcome.KEPT_OUT) == (person.key in self.stopped)

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
        with self.database.transaction() as session:
            changed = change_status(session, subscriber_id, to, origin=Origin(way), at=self._now())
        if changed:
            assert to not in (S.ACTIVE, S.PENDING)
            self.stopped.add(person.key)

    @rule(person=people, way=st.sampled_from(sorted(PERSONAL_WAYS)), many=st.booleans())
    def person_leaves(self, person: Address, way: str, many: bool) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        with self.database.transaction() as session:
            if many:
                unsubscribe_all(session, [Change(subscriber_id, Origin(way), self._now())] * 2)
            else:
                unsubscribe(session, subscriber_id, origin=Origin(way), at=self._now())
        self.stopped.add(person.key)

    @precondition(lambda self: self.stopped)
    @rule(person=people, way=st.sampled_from(("page", "form")))
    def person_comes_back(self, person: Address, way: str) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        with self.database.transaction() as session:
            if change_status(session, subscriber_id, S.ACTIVE, origin=Origin(way), at=self._now()):
                self.stopped.discard(person.key)

    @rule(person=people)
    def address_bounces(self, person: Address) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        with self.database.transaction() as session:
            if mark_bounced(session, {subscriber_id: "550"}, at=self._now()):
                self.stopped.add(person.key)

    @rule(person=people)
    def somebody_edits(self, person: Address) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is not None:
            with self.database.transaction() as session:
                revise(session, subscriber_id, at=self._now(), name="Renamed", tags=["u"])

    @rule(person=people)
    def person_is_erased(self, person: Address) -> None:
        with self.database.transaction() as session:
            erase(session, person, secret=SECRET, at=self._now())
        self.stopped.add(person.key)

    @invariant()
    def nobody_who_is_stopped_is_mailed(self) -> None:
        if not hasattr(self, "database"):
            return
        with self.database.reading() as session:
            found = session.scalars(select(Subscriber.address_key).where(mailable(self.at))).all()
            for person in PEOPLE:
                known = find(session, person)
                if known is not None:
                    lines = history(session, known.id)
                    assert lines[-1].after == known.status
        assert not set(found) & self.stopped


TestConsents = Consents.TestCase
TestConsents.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_diagram_shows_every_transition_and_no_other() -> None:
    drawn = re.findall(r"^ *([a-z]+) --> ([a-z]+): (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    expected = {(before.value, after.value): alone for (before, after), alone in TRANSITIONS.items()}
    assert {(before, after): "only the person" in words for before, after, words in drawn} == expected


def test_nothing_leads_out_of_erased() -> None:
    assert not [after for before, after in TRANSITIONS if before is S.ERASED]
