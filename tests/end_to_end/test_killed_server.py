"""Server and run killed in the middle of a burst of opt-outs: each that was answered is kept and heeded."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import insert, select

from mailer.database.engine import Database
from mailer.database.tables import Consent, Subscriber, SubscriberStatus
from mailer.tokens import Signer, Subject
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.spawner import Command
from tests.ports import free_port

PEOPLE = 1_500
ENOUGH = 150
WINDOW = 50
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


CONFIG = """\
[delivery]
window = {window}
[relays.recorder]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = 4
rate_per_second = 40
[web]
public_url = "https://news.example.org"
"""


def test_every_200_is_in_the_database_after_kill_9_and_heeded_by_the_run(
    tmp_path: Path, recorder: Recorder
) -> None:
    folder = Folder(tmp_path, CONFIG.format(port=recorder.port, window=WINDOW))
    database = Database("sqlite:///subscribers.db", folder=tmp_path)
    database.open()
    _subscribe_everyone(database)
    signer = Signer(database.secrets())
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "mailer", "serve", "-C", str(tmp_path), "--port", str(port)],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    answered: list[int] = []
    sender: Command | None = None
    enough = threading.Event()
    try:
        _wait_until_it_answers(url, server)
        sender = folder.start("send", "1", "--yes", "--quiet")
        _wait_until_it_sends(recorder, sender)
        threads = _unsubscribing(url, signer, answered, enough)
        assert enough.wait(120)
        assert sender.poll() is None
    finally:
        for process in (server, sender):
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
    for thread in threads:
        thread.join()
    assert ENOUGH <= len(answered) < PEOPLE
    with database.reading() as connection:
        left = set(
            connection.scalars(
                select(Subscriber.c.id).where(Subscriber.c.status == SubscriberStatus.UNSUBSCRIBED)
            )
        )
        noted = set(connection.scalars(select(Consent.c.subscriber_id).where(Consent.c.way == "one-click")))
    assert set(answered) <= left
    assert left == noted
    assert database.check() == []
    database.close()
    # The rest of the run sends to everyone else, and to nobody who had unsubscribed before it.
    mailed = set(recorder.accepted)
    gone = {f"r{number}@example.org" for number in left}
    wanted = mailed | {f"r{number}@example.org" for number in range(1, PEOPLE + 1)} - gone
    assert mailed
    assert gone - mailed
    ran = folder.mailer("send", "1", "--yes", MAILER_RELAYS__RECORDER__RATE_PER_SECOND="0")
    assert (ran.code, ran.err) == (0, "")
    assert set(recorder.accepted) == wanted
    # Up to a window of messages had been sent when the kill came, unnoted, to people who left after that.
    assert 0 <= folder.books()["skipped"] - len(gone - mailed) <= WINDOW


def _subscribe_everyone(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(
            insert(Subscriber),
            [
                {
                    "id": number,
                    "address": f"r{number}@example.org",
                    "address_key": f"r{number}@example.org",
                    "domain": "example.org",
                    "status": SubscriberStatus.ACTIVE.value,
                    "created_at": AT,
                    "changed_at": AT,
                }
                for number in range(1, PEOPLE + 1)
            ],
        )


def _unsubscribing(
    url: str, signer: Signer, answered: list[int], enough: threading.Event
) -> list[threading.Thread]:
    """Start threads that unsubscribe one person after the other until the server is gone.

    They begin at the other end than the run, so that most of these people have not been mailed yet.
    """
    waiting = iter(range(PEOPLE, 0, -1))
    lock = threading.Lock()

    def leave() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while True:
                with lock:
                    number = next(waiting, 0)
                if not number:
                    return
                try:
                    answer = client.post(
                        f"/u/{signer.link(Subject(0, number))}", data={"List-Unsubscribe": "One-Click"}
                    )
                except httpx.TransportError:
                    return
                assert answer.status_code == 200
                answered.append(number)
                if len(answered) >= ENOUGH:
                    enough.set()

    threads = [threading.Thread(target=leave) for _ in range(8)]
    for thread in threads:
        thread.start()
    return threads


def _wait_until_it_sends(recorder: Recorder, sender: Command) -> None:
    until = time.monotonic() + 240
    while recorder.total < 20:
        assert sender.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if httpx.get(f"{url}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server ended before it answered")
