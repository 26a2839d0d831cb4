"""Retries of a provider that is held cost the others nothing, and are not forgotten."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState
from mailer.delivery.waiting import RetryScan
from tests.delivery.scene import AT, queued, recipients, run

PEOPLE = 400


@pytest.fixture
def ticks() -> list[float]:
    return [100.0]


@pytest.mark.parametrize(
    ("ended", "again"), [(100.0, 101.0), (100.01, 101.01), (100.1, 101.1), (100.2, 102.2), (104.0, 144.0)]
)
def test_vain_look_is_followed_by_a_pause_of_ten_times_its_length_or_a_second(
    ticks: list[float], ended: float, again: float
) -> None:
    scan = RetryScan(lambda: ticks[0])
    assert scan.begin(anyway=False)
    ticks[0] = ended
    scan.end(found=249, wanted=250)
    seen = []
    for ticks[0] in (ended, again - 0.001, again + 0.001):
        seen.append(scan.begin(anyway=False))
    assert seen == [False, False, True]


def test_idle_run_searches_anyway(ticks: list[float]) -> None:
    scan = RetryScan(lambda: ticks[0])
    scan.begin(anyway=False)
    ticks[0] = 104.0
    scan.end(found=0, wanted=250)
    assert scan.begin(anyway=True)


def test_look_that_brought_all_that_was_wanted_is_followed_by_another(ticks: list[float]) -> None:
    scan = RetryScan(lambda: ticks[0])
    scan.begin(anyway=False)
    ticks[0] = 104.0
    scan.end(found=250, wanted=250)
    assert scan.begin(anyway=False)


def test_few_windows_look_for_retries_and_none_is_forgotten(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = queued(database, PEOPLE)
    with database.transaction() as connection:
        late = update(Delivery).where(Delivery.c.subscriber_id > PEOPLE - 5)
        connection.execute(late.values(state=DeliveryState.DEFERRED.value, due_at=AT + timedelta(minutes=1)))
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        asked.append(
            "retries" if "due_at <= " in statement else "queued" if "subscriber_id > " in statement else ""
        )

    # Every look takes an hour: one is enough while there are queued ones.
    hours = iter(range(0, 3_600_000, 3_600))
    monkeypatch.setattr(RetryScan, "__init__", with_ticks(lambda: float(next(hours))))
    event.listen(database.engine, "before_cursor_execute", note)
    clock = AT + timedelta(seconds=59)

    def later(known: Any, sender: Any) -> None:
        nonlocal clock
        clock = AT + timedelta(minutes=2) if known.sent > 50 else clock

    ended = run(database, issue, tmp_path / "out", clock=lambda: clock, meanwhile=later)
    event.remove(database.engine, "before_cursor_execute", note)
    assert ended.books.sent == PEOPLE
    assert len(recipients(tmp_path / "out")) == len(set(recipients(tmp_path / "out"))) == PEOPLE
    assert asked.count("retries") < asked.count("queued") / 2


def with_ticks(ticks: Any) -> Any:
    """Return a constructor that takes this clock instead of the run's."""
    usual = RetryScan.__init__
    return lambda self, _: usual(self, ticks)
