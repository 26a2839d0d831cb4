"""Two machines and one PostgreSQL: they send one issue together, and nobody gets it twice."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg

from tests.end_to_end.newsletter import Folder
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.spawner import Command
from tests.postgres import Server

READERS = 600
CONFIG = """\
[paths]
database = "{url}&application_name={name}"
[delivery]
window = 40
[relays.recorder]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = 4
rate_per_second = 50
[web]
public_url = "https://news.example.org"
"""


def drop_connections(server: Server, name: str) -> None:
    """End the sessions of one machine, as a pooler, a NAT or an administrator does."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        assert connection.execute(ended, [name]).fetchall()


def wait_for(recorder: Recorder, total: int, running: Command) -> None:
    until = time.monotonic() + 150
    while recorder.total < total:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_machines_send_an_issue_once_although_the_connections_of_one_are_dropped(
    tmp_path: Path, postgresql: Server, recorder: Recorder
) -> None:
    url = postgresql.new_database()
    a, b = (Folder(tmp_path / name, CONFIG.format(url=url, name=name, port=recorder.port)) for name in "ab")
    a.subscribe(READERS)
    first = a.start("send", "1", "--yes", "--quiet")
    wait_for(recorder, 100, first)
    drop_connections(postgresql, "a")
    second = b.mailer("send", "1", "--yes", "--quiet")
    said = first.communicate(timeout=100)
    doubled = recorder.total - len(recorder.accepted)
    assert (doubled, second.code, first.returncode) == (0, 0, 0), (said, second)
    assert recorder.most_connections <= 4
    assert a.books()["sent"] == len(recorder.accepted) == READERS
