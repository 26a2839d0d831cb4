"""How long connections, replies and deliveries take, as /metrics shows it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.database.engine import Database
from mailer.delivery.ending import Ending
from mailer.delivery.latencies import ACCEPT, BOUNDS, CONNECT, REPLY, Histogram, Latencies, histograms
from tests.databases import empty_database
from tests.delivery.scene import AT, queued, run


def counted(database: Database, measure: str) -> list[Histogram]:
    with database.reading() as connection:
        return histograms(connection, measure)


def totals(database: Database, measure: str) -> dict[tuple[str, str, str], int]:
    """Return how many measurements there are by relay, provider and kind."""
    return {(one.relay, one.provider, one.kind): one.cumulative[-1][1] for one in counted(database, measure)}


def test_a_run_counts_every_reply_by_provider_and_class(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 30)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE subscribers SET domain = 'gmail.com' WHERE id <= 10")

    def refuse(recipient: str) -> str | None:
        replies = {"s3@": "550 5.1.1 No such user here", "s25@": "451 4.3.0 Try again later"}
        return next((reply for name, reply in replies.items() if recipient.startswith(name)), None)

    ended = run(database, issue, tmp_path / "out", answer=refuse, clock=lambda: AT + timedelta(minutes=2))
    assert ended.ending is Ending.WAITING
    assert totals(database, REPLY) == {
        ("outbox", "google", "accepted"): 9,
        ("outbox", "google", "hard"): 1,
        ("outbox", "other", "accepted"): 19,
        ("outbox", "other", "temporary"): 1,
    }
    assert 1 <= totals(database, CONNECT)["outbox", "", ""] <= 4
    accepted = {one.provider: one for one in counted(database, ACCEPT)}
    assert [accepted[name].sum_seconds for name in ("google", "other")] == [9 * 120.0, 19 * 120.0]
    assert dict(accepted["google"].cumulative)["60.0"] == 0
    assert dict(accepted["google"].cumulative)["300.0"] == 9
    assert 0 < sum(one.sum_seconds for one in counted(database, REPLY)) < 60


def test_a_run_writes_now_and_then_and_not_for_every_message(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue, written, during = queued(database, 120), [], []
    original = Latencies.write

    def write(self: Latencies) -> None:
        written.append(1)
        original(self)

    monkeypatch.setattr(Latencies, "write", write)
    monkeypatch.setattr("mailer.delivery.latencies.WRITE_SECONDS", 0.05)
    run(
        database, issue, tmp_path / "out", answer=lambda recipient: time.sleep(0.008),
        meanwhile=lambda books, sender: during.append(sum(totals(database, REPLY).values())),
    )  # fmt: skip
    assert sum(totals(database, REPLY).values()) == 120
    assert any(0 < number < 120 for number in during)
    assert len(written) < 12


# Pairs of a process and what it measured.
@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1e5) | st.sampled_from((0.005, 0.01, 300.0)))),
    st.sets(st.integers(0, 30)),
)
def test_histograms_add_up_over_processes_and_writes(
    tmp_path_factory: pytest.TempPathFactory, measured: list[tuple[int, float]], writes: set[int]
) -> None:
    with empty_database(tmp_path_factory.mktemp("some")) as database:
        processes = [Latencies(database, lambda: 0.0) for _ in range(3)]
        for number, (process, seconds) in enumerate(measured):
            processes[process].connected("relay", seconds)
            if number in writes:
                processes[process].write()
        for one in processes:
            one.write()
            one.write()
        found = counted(database, CONNECT)
    if not measured:
        assert not found
        return
    times = [one for _, one in measured]
    assert found[0].cumulative == [
        *((str(bound / 1000), sum(one * 1000 <= bound for one in times)) for bound in BOUNDS[CONNECT]),
        ("+Inf", len(times)),
    ]
    assert found[0].sum_seconds == pytest.approx(sum(times), abs=1e-3)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_processes_add_at_the_same_time(database: Database) -> None:
    def measure(_: int) -> None:
        mine = Latencies(database, lambda: 0.0)
        for _ in range(5):
            for relay in ("b", "a"):
                mine.connected(relay, 0.02)
            mine.write()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(measure, range(4)))
    assert totals(database, CONNECT) == {("a", "", ""): 20, ("b", "", ""): 20}


def test_counts_are_kept_while_they_cannot_be_written(database: Database) -> None:
    def rename(before: str, after: str) -> None:
        with database.transaction() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")

    mine = Latencies(database, lambda: 0.0)
    mine.connected("relay", 1.0)
    rename("latencies", "away")
    mine.write()
    mine.connected("relay", 1.0)
    rename("away", "latencies")
    mine.write()
    assert totals(database, CONNECT) == {("relay", "", ""): 2}
