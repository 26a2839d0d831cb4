"""`mailer send --canary`: seeds and a part first, then the others by itself, or a stop with the reason."""

from __future__ import annotations

import email
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from mailer.cli import run
from tests.end_to_end.newsletter import Folder

SEEDS = 'seeds = ["me@example.net", "S3@example.com"]\n'


def folder_with(tmp_path: Path, canary: str, people: int = 40) -> Folder:
    folder = Folder(tmp_path / "news", f"[canary]\n{canary}")
    folder.subscribe(people)
    return folder


def receivers(folder: Folder) -> list[str]:
    return sorted(email.message_from_bytes(mail)["X-Original-To"] for mail in folder.kept())


def status(folder: Folder) -> dict[str, Any]:
    return folder.mailer("status", "1", "--json").json


def test_passes_by_itself(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, SEEDS + 'wait = "PT1S"\n')
    ran = folder.mailer("send", "1", "--canary", "10%", "--yes")
    assert ran.code == 0, ran.err
    assert "canary: sent to me@example.net" in ran.err
    assert "canary: waiting for reports until" in ran.err
    assert "canary: passed" in ran.err
    assert folder.books()["sent"] == 40
    assert receivers(folder) == sorted(["me@example.net", *(f"s{n}@example.com" for n in range(1, 41))])
    found = status(folder)["canary"]
    assert found["state"] == "passed"
    assert found["members"] in (4, 5)


def test_broken_limit_stops_with_the_reason_and_resume_overrides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path, 'wait = "PT10M"\n')
    process = folder.start("send", "1", "--canary", "25%", "--yes")
    wait_for_state(folder, "waiting", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # Reports come back for three of ten.
    with sqlite3.connect(folder.path / "subscribers.db") as database:
        database.execute("""
            UPDATE deliveries SET state = 'failed', code = 550, reply = 'gone'
            WHERE subscriber_id IN (SELECT subscriber_id FROM canary_members LIMIT 3)
        """)
    database.close()
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 5
    assert "3 of 10 bounced (30.0%, the limit is 2.0%)" in ran.err
    assert "mailer resume 001-short" in ran.err
    assert folder.books()["queued"] == 30
    assert run(["status", "1", "-C", str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "paused (canary: 3 of 10 bounced" in out
    assert "canary stopped: 10 of 10 tried, 3 bounced" in out
    # Asking again does not help; the operator's word does.
    assert folder.mailer("send", "1", "--yes").code == 5
    assert folder.books()["queued"] == 30
    assert folder.mailer("resume", "1").code == 0
    assert folder.mailer("send", "1", "--yes").code == 4
    assert folder.books()["sent"] == 37


def test_killed_canary_resumes_after_a_restart(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 'wait = "PT4S"\n')
    process = folder.start("send", "1", "--canary", "10%", "--yes")
    wait_for_state(folder, "waiting", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (folder.books()["sent"], status(folder)["canary"]["state"]) == (4, "waiting")
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 0, ran.err
    assert receivers(folder) == sorted(f"s{n}@example.com" for n in range(1, 41))


def test_interrupted_wait_says_how_to_continue(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 'wait = "PT10M"\n')
    process = folder.start("send", "1", "--canary", "10%", "--yes")
    wait_for_state(folder, "waiting", process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    # What a shell calls 130, either way: Python ends by the signal if a dataclass was being made.
    assert process.returncode in (130, -signal.SIGINT)
    assert status(folder)["canary"]["state"] == "waiting"
    # The operator has seen enough.
    assert folder.mailer("resume", "1").out.startswith("001-short: resumed; ")
    assert folder.mailer("send", "1", "--yes").code == 0
    assert folder.books()["sent"] == 40


def test_issue_that_everybody_gets_has_no_canary_any_more(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "")
    assert folder.mailer("send", "1", "--yes").code == 0
    ran = folder.mailer("send", "1", "--canary", "1%", "--yes")
    assert ran.code == 5
    assert "was queued without a canary" in ran.err


@pytest.mark.parametrize("share", ["0%", "101%", "ten", "-1%"])
def test_share_must_be_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str) -> None:
    assert run(["send", "1", "--canary", share, "-C", str(tmp_path)]) == 2
    assert "%" in capsys.readouterr().err


def wait_for_state(folder: Folder, wanted: str, process: Any) -> None:
    until = time.monotonic() + 60
    path = folder.path / "subscribers.db"
    while True:
        connection = sqlite3.connect(path)
        found = connection.execute("SELECT canary FROM issues").fetchone()
        connection.close()
        if found is not None and found[0] == wanted:
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
