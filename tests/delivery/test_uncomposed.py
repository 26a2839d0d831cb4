"""An issue that cannot be composed for its first readers pauses before it is used up for everybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery import control
from mailer.delivery.ending import Ending
from tests.delivery import scene
from tests.delivery.scene import EDITION, queued, recipients, run

NEEDY = replace(EDITION, text=EDITION.text + "You live in {{ subscriber.city }}.\n")


@pytest.fixture(autouse=True)
def needy_issue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the issue need a city of each reader."""
    monkeypatch.setattr(scene, "EDITION", NEEDY)


def live_in(database: Database, city: str, first: int, last: int) -> None:
    with database.transaction() as connection:
        some = update(Subscriber).where(Subscriber.c.id.between(first, last))
        connection.execute(some.values(attributes={"city": city}))


def test_pauses_after_the_first_ten(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 200)
    ended = run(database, issue, tmp_path / "box")
    assert ended.ending is Ending.PAUSED
    assert ended.reason.startswith("the first 10 messages cannot be composed: ")
    assert "'subscriber.city' is missing" in ended.reason
    # Nobody has it, so it can be withdrawn and corrected.
    assert (ended.books.sent, ended.books.failed <= 40, ended.books.sending) == (0, True, 0)
    with database.transaction() as connection:
        assert control.withdraw(connection, issue.id) == 200


def test_resumed_it_goes_on_for_those_who_can_get_it(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 60)
    live_in(database, "Cluj", 51, 60)
    assert run(database, issue, tmp_path / "box").ending is Ending.PAUSED
    with database.transaction() as connection:
        assert control.resume(connection, issue.id)
    ended = run(database, issue, tmp_path / "box")
    assert (ended.ending, ended.books.sent, ended.books.failed) == (Ending.FINISHED, 10, 50)
    assert recipients(tmp_path / "box") == sorted(f"s{n}@example.org" for n in range(51, 61))


def test_some_readers_without_a_field_pause_nothing(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 60)
    live_in(database, "Cluj", 9, 20)
    ended = run(database, issue, tmp_path / "box")
    assert (ended.ending, ended.books.sent, ended.books.failed) == (Ending.FINISHED, 12, 48)
