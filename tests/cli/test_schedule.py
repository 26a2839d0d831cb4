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
            "local_time": None,
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
        _, said = worker.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise
    assert worker.returncode == 0
    assert "5 of 5 sent" in said
    assert folder.books()["sent"] == 5


def write_send_at(folder: Folder, value: str) -> None:
    path = folder.path / "issues" / "001-short.md"
    path.write_text(path.read_text("utf-8").replace("---\n", f"---\nsend_at: {value}\n", 1), "utf-8")


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        ("2031-07-04T08:00 Europe/Bucharest", [], "2031-07-04T05:00:00+00:00"),
        ("2031-07-04 08:00 Europe/Bucharest", [], "2031-07-04T05:00:00+00:00"),
        ("2031-07-04T08:00:00+02:00", [], "2031-07-04T06:00:00+00:00"),
        ("2031-07-04 08:00:00", ["--zone", "Asia/Kathmandu"], "2031-07-04T02:15:00+00:00"),
        ("2031-07-04T08:00 Europe/Bucharest", ["--at", "2031-07-05T08:00Z"], "2031-07-05T08:00:00+00:00"),
    ],
)
def test_time_may_be_written_in_the_front_matter(
    folder: Folder, capsys: pytest.CaptureFixture[str], value: str, options: list[str], expected: str
) -> None:
    write_send_at(folder, value)
    assert mailer(folder, "schedule", "1", "--yes", *options) == 0
    capsys.readouterr()
    assert mailer(folder, "schedule", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scheduled"][0]["at"] == expected


@pytest.mark.parametrize("value", ["Friday", "2031-07-04", "2031-07-04T08:00 Europe/Bukarest", "[1]"])
def test_mistake_in_send_at_is_told_with_its_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    write_send_at(folder, value)
    assert mailer(folder, "schedule", "1", "--yes") == 1
    said = capsys.readouterr().err
    assert "001-short.md:2: 'send_at' cannot be" in said
    assert "2026-12-04T08:00 Europe/Bucharest" in said


def test_schedule_without_any_time_is_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert mailer(folder, "schedule", "1", "--yes") == 2
    assert "--at" in capsys.readouterr().err


def test_sending_can_be_undone_before_it_begins(folder: Folder) -> None:
    config = folder.path / "config.toml"
    config.write_text(config.read_text("utf-8") + '[delivery]\nundo = "PT60S"\n', "utf-8")
    folder.subscribe(1)
    sending = folder.start("send", "1", "--yes")
    assert sending.stderr is not None
    while "press Ctrl-C" not in (said := sending.stderr.readline()):
        assert said, "the command ended"
    sending.send_signal(signal.SIGINT)
    _, said = sending.communicate(timeout=20)
    assert sending.returncode == 130
    assert "undone: nothing was queued" in said
    assert "a draft; nothing has been queued" in folder.mailer("status", "1").out
    assert folder.kept() == []
