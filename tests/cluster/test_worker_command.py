"""`mailer worker` on two machines: the issue is handed over, one is killed, the other ends on request."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import httpx

from mailer.cluster import members
from mailer.database.engine import Database
from tests.cli.test_worker import TASKS
from tests.cluster.scene import wait_until
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.test_two_machines import CONFIG
from tests.ports import free_port
from tests.postgres import Server

READERS = 90


def living(database: Database) -> set[str]:
    """Return the names of the workers that are running."""
    with database.reading() as connection:
        return {one.name for one in members.living(connection)}


def test_workers_send_what_is_handed_over_and_survive_one_of_them(
    tmp_path: Path, postgresql: Server, recorder: Recorder
) -> None:
    url = postgresql.new_database()
    a, b = (Folder(tmp_path / name, CONFIG.format(url=url, name=name, port=recorder.port)) for name in "ab")
    a.subscribe(READERS)
    port = free_port()
    first = a.start("worker", "--name", "a", "--port", str(port))
    second = b.start("worker", "--name", "b")
    database = Database(url)
    wait_until(lambda: living(database) == {"a", "b"})
    health = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60).text.splitlines()
    assert health[0] == "ok"
    assert {line.partition(": ")[0] for line in health[1:]} == TASKS - {"issues"} | {"turns", "look"}
    idle = json.loads(a.mailer("workers", "--json").out)["workers"]
    assert [one["issue"] for one in idle] == [None, None]
    sending = a.start("send", "1", "--yes")
    wait_until(lambda: recorder.total >= READERS // 3)
    second.kill()
    second.communicate()
    _, said = sending.communicate(timeout=100)
    assert sending.returncode == 0, said
    assert "the workers send it" in said
    # Only what was on its way when b was killed may have come twice.
    assert recorder.total - len(recorder.accepted) <= 40
    assert a.books()["sent"] == len(recorder.accepted) == READERS
    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=20)
    assert (first.returncode, time.monotonic() - began < 10) == (0, True), said
    assert "Traceback" not in said
    assert living(database) == set()
    database.close()
    assert second.returncode == -signal.SIGKILL
