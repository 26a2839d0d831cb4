"""`mailer schedule`: an issue named, its time, and the mistakes that are refused."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer.cli import run
from tests.end_to_end.newsletter import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "news")


def mailer(folder: Folder, *arguments: str) -> int:
    return run([*arguments, "-C", str(folder.path)])


def test_issue_is_scheduled_listed_and_cancelled(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--at", "2031-07-04T08:00", "--zone", "Europe/Bucharest")
    assert mailer(folder, "schedule", "1", *at, "--yes") == 0
    assert capsys.readouterr().out == "001-short: scheduled for 2031-07-04 08:00 EEST\n"
    assert mailer(folder, "schedule", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scheduled"] == [
        {
            "issue": "001-short",
            "at": "2031-07-04T05:00:00+00:00",
            "zone": "Europe/Bucharest",
            "segment": "",
            "missed": False,
        }
    ]
    assert mailer(folder, "schedule", "list") == 0
    assert capsys.readouterr().out == "2031-07-04 08:00 EEST  001-short\n"
    assert mailer(folder, "schedule", "cancel", "1") == 0
    assert mailer(folder, "schedule", "list") == 0
    assert capsys.readouterr().err == "nothing is scheduled\n"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--at", "Friday"], 2, "write it like 2026-12-04T08:00"),
        (["--at", "2031-07-04T08:00", "--zone", "Europe/Bukarest"], 2, "there is no time zone"),
        (["--at", "2031-07-04T08:00", "--zone", "../etc/passwd"], 2, "there is no time zone"),
        (["--at", "2021-07-04T08:00", "--yes"], 5, "has passed"),
        (["--at", "2031-07-04T08:00"], 5, "add --yes"),
    ],
)
def test_mistake_is_refused(
    folder: Folder, capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    assert mailer(folder, "schedule", "1", *options) == code
    assert said in capsys.readouterr().err


def test_issue_that_lint_refuses_is_not_scheduled(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    base = folder.path / "email_templates" / "base.mjml.j2"
    lines = base.read_text(encoding="utf-8").split("\n")
    base.write_text("\n".join(line for line in lines if "block footer" not in line), encoding="utf-8")
    assert mailer(folder, "schedule", "1", "--at", "2031-07-04T08:00", "--yes") == 3
    capsys.readouterr()
    assert mailer(folder, "schedule", "list") == 0
    assert capsys.readouterr().out == ""


def test_worker_sends_a_scheduled_issue_and_ends_at_sigterm(folder: Folder) -> None:
    folder.subscribe(5)
    at = (datetime.now(UTC) + timedelta(seconds=12)).isoformat()
    assert folder.mailer("schedule", "1", "--at", at, "--yes").code == 0
    worker = folder.start("worker")
    try:
        until = time.monotonic() + 200
        while len(folder.kept()) < 5:
            assert worker.poll() is None, worker.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
    try:
        _, said = worker.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise
    assert worker.returncode == 0
    assert "5 of 5 sent" in said
    assert folder.books()["sent"] == 5
