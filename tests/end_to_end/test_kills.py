"""Kills at random instants: nobody is lost, and who gets a copy gets the same Message-ID.

`TEST_KILLS` says how many each test makes: three, or a hundred for the long run. `TEST_KILLS_DATABASE` is
`sqlite` or `postgresql`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import insert

from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery import issues
from mailer.delivery.books import Books, books_of, running_books
from mailer.delivery.clock import now
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.spawner import Spawner
from tests.postgres import Server

_KILLS = int(os.environ.get("TEST_KILLS", "3"))
_DATABASE = os.environ.get("TEST_KILLS_DATABASE", "sqlite")
# Enough for every kill to come before the end.
_READERS = max(2_000, 100 * _KILLS)
_WINDOW = 50
_CONFIG = """\
[paths]
database = "{url}"
[delivery]
window = {window}
uncertain = "{uncertain}"
retry_base = "PT0S"
wait_for_retries = {wait}
[relays.recorder]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = 8
rate_per_second = {rate}
[web]
public_url = "https://news.example.org"
"""


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    made = Spawner()
    yield made
    made.close()


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    if _DATABASE == "sqlite":
        return "sqlite:///subscribers.db"
    server: Server = request.getfixturevalue(_DATABASE)
    return server.new_database()


class Run:
    """One issue to thousands of readers, killed again and again."""

    def __init__(
        self, path: Path, url: str, recorder: Recorder, spawner: Spawner, *options: str, **config: str
    ) -> None:
        settings = {"uncertain": "resend", "wait": "false", "rate": "0", **config}
        self.folder = Folder(path, _CONFIG.format(url=url, window=_WINDOW, port=recorder.port, **settings))
        self.recorder, self.spawner, self.options = recorder, spawner, options
        self.database = Database(url, folder=path)
        self.database.open()
        at = now()
        rows = [
            {"address": address, "address_key": address, "domain": "example.com", "name": "Reader",
             "status": "active", "attributes": {}, "created_at": at, "changed_at": at}
            for address in (f"reader{number}@example.com" for number in range(_READERS))
        ]  # fmt: skip
        with self.database.transaction() as connection:
            connection.execute(insert(Subscriber), rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.database.close()

    def start(self) -> int:
        arguments = ["send", "1", "--yes", "--quiet", *self.options, "-C", str(self.folder.path)]
        return self.spawner.start(*arguments)

    def books(self) -> Books | None:
        """Return the books, which balance; None while the issue is not queued."""
        with self.database.reading() as connection:
            issue = issues.find(connection, "001-short")
            if issue is None:
                return None
            books, running = books_of(connection, issue.id), running_books(connection, issue.id)
        assert running == books
        assert books.audience == _READERS
        assert books.balanced
        return books

    def kill(self, process: int, chance: random.Random) -> None:
        """Kill the command, and all it started, at a random instant."""
        if chance.random() < 0.2:
            time.sleep(chance.random() * 0.3)
        else:
            self.wait_for(chance.randrange(1, 180))
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        self.spawner.wait()

    def to_the_end(self) -> int:
        self.start()
        return self.spawner.wait()

    def wait_for(self, more: int) -> None:
        wanted = min(self.recorder.total + more, _READERS)
        until = time.monotonic() + 10
        while self.recorder.total < wanted and time.monotonic() < until:
            time.sleep(0.002)


@pytest.mark.parametrize("drops", [0.0, 0.01], ids=["steady server", "server that drops connections"])
def test_many_kills_lose_nobody_and_repeat_at_most_a_window_each(
    tmp_path: Path, url: str, spawner: Spawner, drops: float
) -> None:
    chance = random.Random(1)
    wait = "true" if drops else "false"
    with Recorder(drops) as recorder, Run(tmp_path / "news", url, recorder, spawner, wait=wait) as run:
        for _ in range(_KILLS):
            run.kill(run.start(), chance)
            books = run.books()
            assert books is None or books.sending <= _WINDOW
        assert run.to_the_end() == 0
        books = run.books()
    assert books is not None
    assert books.sent == len(recorder.accepted) == _READERS
    assert all(len(names) == 1 for names in recorder.names.values())
    assert recorder.total - _READERS <= _KILLS * _WINDOW + recorder.unanswered
    # Some kill hit a message on its way; else the test would have shown nothing.
    assert recorder.total > _READERS


def test_many_kills_repeat_nobody_when_uncertain_deliveries_are_held(
    tmp_path: Path, url: str, spawner: Spawner
) -> None:
    chance = random.Random(2)
    with Recorder() as recorder, Run(tmp_path / "news", url, recorder, spawner, uncertain="hold") as run:
        for _ in range(_KILLS):
            run.kill(run.start(), chance)
            run.books()
        assert run.to_the_end() == 4
        books = run.books()
        assert books is not None
        assert books.uncertain + books.sent == _READERS
        assert 0 < books.uncertain <= _KILLS * _WINDOW
        assert max(recorder.accepted.values()) == 1
        held = books.uncertain
        listed = run.folder.mailer("status", "1", "--list", "uncertain", "--json").out.splitlines()
        assert len(listed) == held
        addresses = {json.loads(line)["address"] for line in listed}
        assert addresses >= {f"reader{number}@example.com" for number in range(_READERS)} - set(
            recorder.accepted
        )
        never = _READERS - len(recorder.accepted)
        assert never <= held
        assert run.folder.mailer("retry", "1", "--only", "uncertain").code == 0
        assert run.to_the_end() == 0
    assert len(recorder.accepted) == _READERS
    assert recorder.total - _READERS == held - never


@pytest.mark.timeout(600)
def test_many_kills_of_two_workers_their_parent_or_all(tmp_path: Path, url: str, spawner: Spawner) -> None:
    chance = random.Random(3)
    options = ("--workers", "2")
    with Recorder() as recorder, Run(tmp_path / "news", url, recorder, spawner, *options, rate="400") as run:
        process = run.start()
        kills = 0
        # On and on until some kill hits a message on its way; at this rate few do.
        while kills < _KILLS or (recorder.total == len(recorder.accepted) and kills < 4 * _KILLS):
            kills += 1
            run.wait_for(chance.randrange(1, 180))
            victims = _children(process)
            kind = chance.choice(("worker", "worker", "parent", "all"))
            with suppress(ProcessLookupError):
                if kind == "worker" and victims:
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    continue
                if kind == "parent":
                    os.kill(process, signal.SIGKILL)
                else:
                    os.killpg(process, signal.SIGKILL)
            spawner.wait()
            _wait_until_gone(victims)
            books = run.books()
            assert books is None or books.sending <= 2 * _WINDOW
            process = run.start()
        spawner.wait()
        assert run.to_the_end() == 0
        books = run.books()
    assert books is not None
    assert books.sent == len(recorder.accepted) == _READERS
    assert all(len(names) == 1 for names in recorder.names.values())
    assert 0 < recorder.total - _READERS <= kills * 2 * _WINDOW


def _children(process: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, parent in pairs if int(parent) == process]


def _wait_until_gone(processes: list[int]) -> None:
    """Wait for workers whose parent is gone: they stop cleanly, and hold the lock until then."""
    until = time.monotonic() + 20
    for process in processes:
        with suppress(ProcessLookupError):
            while time.monotonic() < until:
                os.kill(process, 0)
                time.sleep(0.02)
