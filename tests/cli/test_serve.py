"""`mailer serve --worker`: one process for the pages and the work."""

from __future__ import annotations

import signal
import time
import urllib.request
from pathlib import Path

from mailer.database.engine import Database
from mailer.delivery import issues
from tests.delivery.scene import AT, EDITION
from tests.end_to_end.newsletter import Folder
from tests.ports import free_port


def test_one_process_serves_the_pages_and_sends_what_is_queued(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    folder.subscribe(2)
    with (
        Database("sqlite:///subscribers.db", folder=folder.path) as database,
        database.transaction() as connection,
    ):
        issues.enqueue(connection, EDITION, source_path="001-hello.md", at=AT)
    port = free_port()
    serving = folder.start("serve", "--worker", "--port", str(port))
    try:
        until = time.monotonic() + 60
        while len(folder.kept()) < 2:
            assert serving.poll() is None, serving.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answered:
            assert answered.status == 200
    finally:
        serving.send_signal(signal.SIGTERM)
        _, said = serving.communicate(timeout=30)
    assert serving.returncode == 0
    assert "001-hello: finished, 2 of 2 sent" in said
    assert "Traceback" not in said
