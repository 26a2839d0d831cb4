"""The same commands on PostgreSQL: sent once, by several processes, by one run at a time."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path

import pytest

from mailer.database.engine import Database
from mailer.delivery import control, issues
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.spawner import Command
from tests.postgres import Server

_READERS = 600
_WINDOW = 20


@pytest.fixture
def folder(tmp_path: Path, postgresql: Server) -> Iterator[Folder]:
    with postgresql.lent_database() as url:
        config = f'[paths]\ndatabase = "{url}"\n[delivery]\nwindow = {_WINDOW}\n'
        made = Folder(tmp_path / "news", config)
        made.subscribe(_READERS)
        yield made


def copies(folder: Folder) -> Counter[str]:
    return Counter(str(message_from_bytes(raw)["X-Original-To"]) for raw in folder.kept())


def database(folder: Folder) -> Database:
    line = (folder.path / "config.toml").read_text(encoding="utf-8").split('database = "')[1]
    return Database(line.split('"')[0], folder=folder.path)


def test_two_workers_send_it_once_and_a_second_send_nothing(folder: Folder) -> None:
    assert folder.mailer("send", "1", "--yes", "--workers", "2").code == 0
    assert folder.books()["sent"] == _READERS
    assert folder.mailer("send", "1", "--yes").code == 0
    count = copies(folder)
    assert (len(count), max(count.values())) == (_READERS, 1)


def test_two_simultaneous_senders_share_an_issue(folder: Folder) -> None:
    both = [folder.start("send", "1", "--yes") for _ in range(2)]
    said = [each.communicate(timeout=240) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    count = copies(folder)
    assert (len(count), max(count.values())) == (_READERS, 1)
    assert folder.books()["sent"] == _READERS


def started(folder: Folder, mails: int, *options: str) -> Command:
    """Start two workers; return once this many more messages have arrived."""
    wanted = len(folder.kept()) + mails
    running = folder.start("send", "1", "--yes", "--workers", "2", *options)
    until = time.monotonic() + 240
    while len(folder.kept()) < wanted:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
    return running


def test_pause_resume_and_cancel_are_exact_while_workers_send(folder: Folder) -> None:
    held = database(folder)
    running = started(folder, 100)
    with held.transaction() as connection:
        known = issues.issues(connection)[0]
        assert control.pause(connection, known.id, "by the operator")
    running.communicate(timeout=240)
    paused = folder.books()
    assert paused["sending"] == paused["uncertain"] == paused["skipped"] == 0
    assert 100 <= paused["sent"] == len(folder.kept()) < _READERS
    with held.transaction() as connection:
        assert control.resume(connection, known.id)
    running = started(folder, 100)
    with held.transaction() as connection:
        control.cancel(connection, known.id, at=datetime.now(UTC))
    running.communicate(timeout=240)
    held.close()
    cancelled = folder.books()
    assert paused["sent"] + 100 <= cancelled["sent"] == len(folder.kept()) < _READERS
    assert cancelled["sent"] + cancelled["skipped"] == _READERS
    assert max(copies(folder).values()) == 1


def test_canary_leads_two_workers(tmp_path: Path, postgresql: Server) -> None:
    config = f'[paths]\ndatabase = "{postgresql.new_database()}"\n[canary]\nwait = "PT1S"\n'
    folder = Folder(tmp_path / "news", config)
    folder.subscribe(40)
    ran = folder.mailer("send", "1", "--canary", "10%", "--yes", "--workers", "2")
    assert ran.code == 0, ran.err
    assert "4 of 4 tried" in ran.err
    found = folder.mailer("status", "1", "--json").json
    assert (found["canary"]["state"], found["canary"]["members"]) == ("passed", 4)
    assert found["books"]["sent"] == 40
    count = copies(folder)
    assert (len(count), max(count.values())) == (40, 1)


def test_run_whose_parent_is_killed_goes_on_without_loss(folder: Folder) -> None:
    running = folder.start("send", "1", "--yes", "--workers", "2")
    until = time.monotonic() + 240
    while len(folder.kept()) < 100:
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    # Its workers see that it is gone, settle what is under way and let go of the lock.
    while (ran := folder.mailer("send", "1", "--yes")).code == 7:
        assert time.monotonic() < until
    assert ran.code == 0
    count = copies(folder)
    assert folder.books()["sent"] == len(count) == _READERS
    assert sum(count.values()) - _READERS <= 2 * _WINDOW


def test_everyday_commands_answer(folder: Folder) -> None:
    assert folder.mailer("send", "1", "--yes").code == 0
    for command in (
        ("why", "s1@example.com"),
        ("bounces", "report"),
        ("subscribers", "count", "--where", "domain:example.com and opened:001-short"),
        ("subscribers", "list", "--where", 'name = "Name 7"'),
        ("subscribers", "erase", "s7@example.com", "--yes"),
        ("plan", "1"),
        ("db", "check"),
        ("retry", "1", "--only", "failed"),
    ):
        ran = folder.mailer(*command)
        assert (ran.code, ran.err) == (0, ""), command
    refused = folder.mailer("db", "backup", str(folder.path / "copy.db"))
    assert refused.code == 1
    assert "pg_dump" in refused.err
