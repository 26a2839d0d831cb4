"""The server killed in the middle of a burst: every unsubscription that was answered is kept."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import insert, select

from mailer.database.models import Consent, Subscriber, SubscriberStatus
from mailer.database.session import Database
from mailer.tokens import Signer, Subject

PEOPLE = 3_000
ENOUGH = 150
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_every_200_is_in_the_database_after_kill_9(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    database = Database("sqlite:///subscribers.db", folder=tmp_path)
    database.open()
    with database.transaction() as session:
        session.execute(
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
    signer = Signer(database.secrets())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "mailer", "serve", "-C", str(tmp_path), "--port", str(port)],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    answered: list[int] = []
    enough = threading.Event()
    try:
        _wait_until_it_answers(url, server)
        waiting = iter(range(1, PEOPLE + 1))
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
        assert enough.wait(120)
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    for thread in threads:
        thread.join()
    assert ENOUGH <= len(answered) < PEOPLE
    with database.reading() as session:
        left = set(
            session.scalars(select(Subscriber.id).where(Subscriber.status == SubscriberStatus.UNSUBSCRIBED))
        )
        noted = set(session.scalars(select(Consent.subscriber_id).where(Consent.way == "one-click")))
    assert set(answered) <= left
    assert left == noted
    assert database.check() == []
    database.close()


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if httpx.get(f"{url}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server ended before it answered")
