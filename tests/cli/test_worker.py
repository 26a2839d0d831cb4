"""`mailer worker --port`: monitoring reads the tasks of a worker and the metrics."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from mailer import api_tokens
from mailer.api_tokens import Scope
from mailer.cli import run
from mailer.database.engine import Database
from mailer.errors import ExitCode
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.spawner import Command
from tests.ports import free_port

TASKS = {"issues", "letters", "bounces", "statistics", "webhooks", "digests", "old events", "retention"}


@contextmanager
def working(folder: Folder, port: int) -> Iterator[Command]:
    """Run a worker that serves its health; kill it if it is still running at the end."""
    process = folder.start("worker", "--port", str(port))
    try:
        until = time.monotonic() + 60
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < until
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_health_and_metrics_of_a_worker(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        with database.transaction() as connection:
            _, token = api_tokens.create(
                connection, "prometheus", (Scope.READ_METRICS,), at=datetime.now(UTC)
            )
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with working(folder, port) as process, httpx.Client(base_url=url, timeout=60) as client:
            first, *lines = client.get("/healthz").text.splitlines()
            assert (first, {line.partition(": ")[0] for line in lines}) == ("ok", TASKS)
            assert client.get("/api/v1/metrics").status_code == 401
            metrics = client.get("/api/v1/metrics", headers={"Authorization": f"Bearer {token}"})
            assert (metrics.status_code, "mailer_workers " in metrics.text) == (200, True)
            assert [client.get(path).status_code for path in ("/", "/subscribe", "/api/v1/stats")] == [
                404
            ] * 3
            # The client keeps its connection open, as Prometheus does.
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in said) == (0, False), said


def test_worker_that_cannot_listen_says_so_and_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Folder(tmp_path / "news")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code = run(["worker", "-C", str(tmp_path / "news"), "--port", port])
    said = capsys.readouterr().err
    assert (code, f"cannot listen on 127.0.0.1:{port}" in said, "--port" in said) == (
        ExitCode.CONFIGURATION,
        True,
        True,
    )
    assert run(["worker", "-C", str(tmp_path / "news"), "--host", "0.0.0.0"]) == ExitCode.USAGE
    assert "--host needs --port" in capsys.readouterr().err
