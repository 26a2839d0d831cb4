"""Imports, reverts, reports, consents, corrections and erasures in any order.

The model knows what each person and each machine said. Two promises are held against the database after
every step: nobody who opted out gets email, and nobody is suppressed without a valid cause.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from mailer.address import Address, parse_address
from mailer.audience.corrections import restore
from mailer.audience.ledger import move
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import add, find, history
from mailer.audience.transfer.importing import import_file
from mailer.audience.transfer.presets import PRESETS
from mailer.audience.transfer.reverting import revert
from mailer.audience.transitions import Move, MoveResult, Origin
from mailer.database.engine import Database
from mailer.database.tables import Import, Subscriber, SubscriberStatus, Suppression
from mailer.delivery.issues import mailable
from tests.databases import URL, empty_database

S = SubscriberStatus
SECRET = b"s" * 32
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PEOPLE = [parse_address(f"{name}@example.org") for name in ("ana", "bob", "cid")]
people = st.sampled_from(PEOPLE)
CAUSES = {S.UNSUBSCRIBED: "opt-out", S.BOUNCED: "bounce", S.COMPLAINED: "complaint"}


@dataclass
class Said:
    """What keeps one person out, as the model sees it."""

    opted_out: bool = False
    """Said or complained themselves; undone only by their own return."""
    bounced: bool = False
    """A machine said so; the operator can correct it."""
    hearsay: bool = False
    """An import, or the operator's removal, said so."""
    erased: bool = False
    consented_at: datetime | None = None
    confirmed: bool = False
    """Someone vouched for their consent: the person, or the operator who added them as active."""


class AnyOrder(RuleBasedStateMachine):
    """Three people and everything that can happen to them."""

    url = URL
    checked: ClassVar[int] = 0
    """How many times the invariants held."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        self.database = empty_database(folder) if self.url == URL else Database(self.url, folder=folder)
        self.database.open()
        with self.database.transaction() as connection:
            for table in (Subscriber, Suppression):
                connection.execute(delete(table))
        self.at = AT
        self.said = {person.key: Said() for person in PEOPLE}
        self.imports: list[int] = []
        self.corrected: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def _now(self, **later: int) -> datetime:
        self.at += timedelta(**(later or {"minutes": 1}))
        return self.at

    def _id(self, person: Address) -> int | None:
        with self.database.reading() as connection:
            known = find(connection, person)
        return None if known is None else known.id

    def _move(
        self, person: Address, to: SubscriberStatus, origin: Origin, happened_at: datetime | None = None
    ) -> MoveResult | None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return None
        with self.database.transaction() as connection:
            (result,) = move(connection, [Move(subscriber_id, to, origin, self._now(), happened_at)])
        return result

    @rule(person=people, pending=st.booleans())
    def somebody_is_added(self, person: Address, pending: bool) -> None:
        with self.database.transaction() as connection:
            status = S.PENDING if pending else S.ACTIVE
            done = add(connection, person, secret=SECRET, origin=Origin("api"), at=self._now(), status=status)
        if done.result == "added":
            self.said[person.key].confirmed = not pending

    @rule(rows=st.dictionaries(people, st.sampled_from(["active", *CAUSES]), min_size=1))
    def operator_imports(self, rows: dict[Address, str]) -> None:
        path = Path(self.folder.name) / "people.csv"
        path.write_text(
            "email,status\n" + "".join(f"{person},{status}\n" for person, status in rows.items()),
            encoding="utf-8",
        )
        before = {person.key: self._id(person) for person in PEOPLE}
        done = import_file(self.database, path, secret=SECRET, at=self._now(), preset=PRESETS["mailer"])
        assert done.id is not None
        self.imports.append(done.id)
        for person, status in rows.items():
            said = self.said[person.key]
            if status == "active" and before[person.key] is None and self._id(person) is not None:
                said.confirmed = True
            elif status != "active" and said.consented_at is None:
                said.hearsay = True

    @precondition(lambda self: bool(getattr(self, "imports", None)))
    @rule(data=st.data())
    def operator_reverts(self, data: st.DataObject) -> None:
        import_id = data.draw(st.sampled_from(self.imports))
        revert(self.database, import_id, at=self._now())

    @rule(
        person=people, to=st.sampled_from([S.BOUNCED, S.COMPLAINED]), minutes_ago=st.sampled_from([0, 3, 90])
    )
    def report_arrives(self, person: Address, to: SubscriberStatus, minutes_ago: int) -> None:
        happened_at = self.at - timedelta(minutes=minutes_ago)
        said = self.said[person.key]
        way = "bounce" if to is S.BOUNCED else "complaint"
        result = self._move(person, to, Origin(way, note="invalid_mailbox: x", report_id=1), happened_at)
        if result is None or said.erased:
            return
        late = said.consented_at is not None and happened_at < said.consented_at
        assert (result is MoveResult.OUTDATED) is late
        if late:
            return
        if to is S.COMPLAINED:
            said.opted_out = True
        else:
            said.bounced = True

    @rule(person=people, way=st.sampled_from(["page", "one-click", "mailto"]))
    def person_unsubscribes(self, person: Address, way: str) -> None:
        if self._move(person, S.UNSUBSCRIBED, Origin(way)) is not None and not self.said[person.key].erased:
            self.said[person.key].opted_out = True
            self.said[person.key].consented_at = None

    @rule(person=people)
    def operator_removes(self, person: Address) -> None:
        if self._move(person, S.UNSUBSCRIBED, Origin("command")) is MoveResult.MOVED:
            self.said[person.key].hearsay = True

    @rule(person=people)
    def person_consents(self, person: Address) -> None:
        if self._move(person, S.ACTIVE, Origin("page")) is MoveResult.MOVED:
            self.said[person.key] = Said(consented_at=self.at, confirmed=True)

    @rule(person=people, hours=st.sampled_from([0, 30]))
    def operator_restores(self, person: Address, hours: int) -> None:
        subscriber_id = self._id(person)
        if subscriber_id is None:
            return
        with self.database.transaction() as connection:
            (done,) = restore(connection, [subscriber_id], reason="x", at=self._now(hours=hours, minutes=1))
        if done.status is not None:
            said = self.said[person.key]
            assert not said.opted_out
            said.bounced = False
            said.consented_at = self.at if done.status is S.ACTIVE else said.consented_at
            self.corrected.add(person.key)

    @rule(person=people)
    def person_is_erased(self, person: Address) -> None:
        with self.database.transaction() as connection:
            erase(connection, person, secret=SECRET, at=self._now())
        self.said[person.key] = Said(erased=True)

    @invariant()
    def nobody_who_opted_out_or_never_confirmed_is_mailed(self) -> None:
        if not hasattr(self, "database"):
            return
        with self.database.reading() as connection:
            mailed = set(connection.scalars(select(Subscriber.c.address_key).where(mailable(self.at))))
        for key in mailed:
            said = self.said[key]
            assert not said.opted_out, key
            assert not said.erased, key
            assert not said.bounced, key
            assert said.confirmed, key

    @invariant()
    def nobody_healthy_is_suppressed(self) -> None:
        if not hasattr(self, "database"):
            return
        with self.database.reading() as connection:
            suppressed = {one for one in connection.scalars(select(Suppression.c.address_key)) if "@" in one}
            imports = list(connection.scalars(select(Import.c.id).where(Import.c.reverted_at.is_(None))))
            for key in suppressed:
                said = self.said[key]
                assert said.bounced or said.opted_out or said.hearsay, key
                if not (said.bounced or said.opted_out):
                    assert imports or said.hearsay, key
            for person in PEOPLE:
                known = find(connection, person)
                if known is None:
                    continue
                assert history(connection, known.id)[-1].after == known.status
                if known.status is S.ACTIVE:
                    assert person.key not in suppressed
        type(self).checked += 1


STEPS = int(os.environ.get("MAILER_STEPS", "25"))


def test_sqlite_in_any_order() -> None:
    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=20, stateful_step_count=STEPS, deadline=None)
    )
    assert AnyOrder.checked >= STEPS


def test_postgresql_in_any_order(request: pytest.FixtureRequest) -> None:
    class OnPostgreSQL(AnyOrder):
        url = request.getfixturevalue("postgresql").new_database()
        checked = 0

    run_state_machine_as_test(
        OnPostgreSQL,
        settings=settings(
            max_examples=4, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert OnPostgreSQL.checked >= 15
