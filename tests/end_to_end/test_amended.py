"""`mailer amend` between runs that are killed: everyone gets the issue, and `why` knows which edition."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path

import pytest

from mailer.config import load
from mailer.database.engine import Database
from mailer.delivery import issues, runs
from mailer.delivery.lock import sending
from tests.end_to_end.newsletter import Folder

_READERS = 300
_WINDOW = 20


@pytest.fixture(params=["sqlite", "postgresql"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Folder:
    config = f"[delivery]\nwindow = {_WINDOW}\n"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
        config += f'[paths]\ndatabase = "{url}"\n'
    made = Folder(tmp_path / "news", config)
    made.subscribe(_READERS)
    return made


def received(folder: Folder) -> dict[str, list[str]]:
    """Return the subjects that each reader got."""
    found: dict[str, list[str]] = {}
    for raw in folder.kept():
        mail = message_from_bytes(raw)
        found.setdefault(mail["X-Original-To"], []).append(mail["Subject"])
    return found


def killed(folder: Folder, more: int) -> None:
    """Start a run and kill it after some messages."""
    wanted = len(folder.kept()) + more
    running = folder.start("send", "1", "--yes")
    until = time.monotonic() + 120
    while len(folder.kept()) < wanted:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    running.communicate()


def correct(folder: Folder, text: str = "Hello") -> None:
    path = folder.path / "issues" / "001-short.md"
    written = path.read_text(encoding="utf-8")
    path.write_text(written.replace("A short one", "A corrected one").replace("Hello", text), "utf-8")


def test_killed_before_and_after_an_amendment_loses_nobody(folder: Folder) -> None:
    killed(folder, 60)
    correct(folder)
    amended = folder.mailer("amend", "1", "--yes", "--json")
    assert amended.code == 0, amended.err
    assert (amended.json["edition"], amended.json["left"] + amended.json["sent"]) == (2, _READERS)
    first = set(received(folder))
    killed(folder, 60)
    assert folder.mailer("send", "1", "--yes").code == 0
    assert folder.books()["sent"] == _READERS
    got = received(folder)
    assert len(got) == _READERS
    # Only deliveries that a kill left uncertain were repeated.
    assert sum(map(len, got.values())) - _READERS <= 2 * _WINDOW
    for reader, subjects in got.items():
        if reader not in first:
            assert set(subjects) == {"A corrected one"}
    twice = {reader for reader, subjects in got.items() if len(set(subjects)) == 2}
    assert len(twice) <= _WINDOW
    editions = folder.mailer("status", "1", "--json").json["editions"]
    assert [one["number"] for one in editions] == [1, 2]
    assert editions[0]["sent"] == len(first) - len(twice)
    assert editions[0]["sent"] + editions[1]["sent"] == _READERS
    out = folder.mailer("status", "1").out
    assert f": {editions[0]['sent']} sent\n  edition 2 of " in out
    for reader, edition in ((min(first - twice), 1), (min(set(got) - first), 2)):
        assert f"001-short: sent (edition {edition} of 2)" in folder.mailer("why", reader).out


@contextmanager
def under_way(database: Database) -> Iterator[None]:
    """Hold what a run holds: the lock of SQLite, or a run that lives on PostgreSQL."""
    with sending(database):
        with database.transaction() as connection:
            run_id = runs.begin(connection, issues.issues(connection)[0].id, at=datetime.now(UTC))
        yield
        with database.transaction() as connection:
            runs.end(connection, run_id, at=datetime.now(UTC))


def test_amendment_is_refused_with_a_remedy(folder: Folder) -> None:
    assert "001-short is a draft; it was never queued" in folder.mailer("amend", "1", "--yes").err
    killed(folder, 60)
    settings = load(folder.path / "config.toml")
    with Database(settings.paths.database, folder=folder.path) as database, under_way(database):
        busy = folder.mailer("amend", "1", "--yes")
    assert (busy.code, "another run is sending from this database" in busy.err) == (7, True)
    same = folder.mailer("amend", "1", "--yes")
    assert (same.code, "has not changed since it was frozen" in same.err) == (5, True)
    correct(folder, "{{ subscriber.nmae }}, hello")
    refused = folder.mailer("amend", "1", "--yes")
    assert refused.code == 5, refused.err
    assert "'subscriber.nmae' is missing for " in refused.err
    assert "; nothing was amended" in refused.err
    assert [one["number"] for one in folder.mailer("status", "1", "--json").json["editions"]] == [1]
    correct(folder, "Hello")
    told = folder.mailer("send", "1", "--yes")
    assert "mailer amend 001-short" in told.err
    everyone = folder.mailer("amend", "1", "--yes")
    assert (everyone.code, "300 readers got it" in everyone.err) == (5, True)
