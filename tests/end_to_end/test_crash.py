"""Killed, stopped and out of disk: nobody is lost, nobody is forgotten, and the books balance."""

from __future__ import annotations

import random
import resource
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from mailer.database.engine import Database
from mailer.delivery.lock import sending
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.spawner import Command
from tests.programs import missing, program

_READERS = 300
_WINDOW = 20
_CAP_SYS_ADMIN = 1 << 21


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB. Without one, the test of writes that fail has to do, but not under CI."""
    capabilities = Path("/proc/self/status").read_text(encoding="ascii").split("CapEff:")[1].split()[0]
    if not int(capabilities, 16) & _CAP_SYS_ADMIN:
        missing("the right to mount a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([program("mount"), "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run([program("umount"), "-l", str(disk)], check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news", f"[delivery]\nwindow = {_WINDOW}\n")
    made.subscribe(_READERS)
    return made


def wait_for_mails(folder: Folder, number: int, running: Command) -> None:
    until = time.monotonic() + 240
    while len(folder.kept()) < number:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def copies(folder: Folder) -> Counter[str]:
    """Return how many messages each reader got; copies of one have the same Message-ID."""
    names: dict[str, set[str]] = {}
    count: Counter[str] = Counter()
    for raw in folder.kept():
        mail = message_from_bytes(raw)
        count[mail["X-Original-To"]] += 1
        names.setdefault(mail["X-Original-To"], set()).add(mail["Message-ID"])
    assert all(len(known) == 1 for known in names.values())
    return count


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_run_loses_nobody_and_repeats_at_most_a_window(folder: Folder, seed: int) -> None:
    chance = random.Random(seed)
    kills = 0
    for _ in range(2):
        running = folder.start("send", "1", "--yes")
        wait_for_mails(folder, len(folder.kept()) + chance.randrange(10, 90), running)
        running.send_signal(signal.SIGKILL)
        running.wait(20)
        running.communicate()
        kills += 1
        books = folder.books()
        assert books["audience"] == _READERS
        assert books["sending"] <= _WINDOW
    assert folder.mailer("send", "1", "--yes").code == 0
    count = copies(folder)
    assert len(count) == _READERS
    assert sum(count.values()) - _READERS <= kills * _WINDOW
    assert folder.books()["sent"] == _READERS


def test_killed_run_repeats_nobody_when_uncertain_rows_are_held(folder: Folder) -> None:
    hold = {"MAILER_DELIVERY__UNCERTAIN": "hold"}
    running = folder.start("send", "1", "--yes")
    wait_for_mails(folder, 60, running)
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    running.communicate()
    ran = folder.mailer("send", "1", "--yes", **hold)
    assert ran.code == 4
    books = folder.books()
    assert books["uncertain"] + books["sent"] == _READERS
    assert 0 <= books["uncertain"] <= _WINDOW
    assert max(copies(folder).values()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_goes_on_where_it_was(folder: Folder, number: signal.Signals) -> None:
    running = folder.start("send", "1", "--yes")
    wait_for_mails(folder, 40, running)
    running.send_signal(number)
    assert running.wait(30) == 130
    assert "sends the rest" in running.communicate()[1]
    books = folder.books()
    assert (books["sending"], books["uncertain"]) == (0, 0)
    assert 0 < books["sent"] < _READERS
    assert folder.mailer("send", "1", "--yes").code == 0
    count = copies(folder)
    assert (len(count), max(count.values())) == (_READERS, 1)


def test_second_sender_is_refused_while_the_first_runs(folder: Folder) -> None:
    with Database("sqlite:///subscribers.db", folder=folder.path) as database, sending(database):
        ran = folder.mailer("send", "1", "--yes")
    assert (ran.code, folder.kept()) == (7, [])
    assert "another run" in ran.err
    assert folder.mailer("send", "1", "--yes").code == 0
    assert max(copies(folder).values()) == 1


def test_full_disk_is_said_and_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    folder = Folder(small_disk / "news", f'[paths]\noutbox = "{tmp_path / "outbox"}"\n')
    filler = small_disk / "filler"
    filler.touch()
    folder.subscribe(200)
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            assert filler.stat().st_size > 0
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 1
    assert "disk" in ran.err
    assert "Traceback" not in ran.err
    filler.unlink()
    assert folder.mailer("send", "1", "--yes").code == 0
    assert folder.books()["sent"] == 200


@pytest.mark.parametrize("kibibytes", [48, 200, 400])
def test_failed_write_is_said_and_loses_nothing(folder: Folder, kibibytes: int) -> None:
    # At a limit of the operating system, as for a quota, writes fail: while the issue is queued or later.
    limit = kibibytes * 1024
    done = subprocess.run(
        folder.command("send", "1", "--yes"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    assert "writing to the disk failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert folder.mailer("send", "1", "--yes").code == 0
    count = copies(folder)
    assert folder.books()["sent"] == len(count) == _READERS
    assert sum(count.values()) - _READERS <= _WINDOW


@pytest.mark.parametrize("workers", [1, 2])
def test_second_signal_ends_a_run_whose_relay_is_silent(tmp_path: Path, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        relay = f'[relays.main]\nhost = "127.0.0.1"\nport = {silent.getsockname()[1]}\nsecurity = "plain"\n'
        folder = Folder(tmp_path / "news", f'[web]\npublic_url = "https://n.example.org"\n{relay}')
        folder.subscribe(5)
        running = folder.start("send", "1", "--yes", "--no-lint", "--workers", str(workers))
        opened, _ = silent.accept()
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        assert "stopping: waiting up to 30 seconds" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        try:
            _, errors = running.communicate(timeout=100)
        finally:
            running.kill()
        opened.close()
    assert running.returncode == 130, errors
    assert folder.books()["queued"] == 5
