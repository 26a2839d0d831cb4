"""The demo: the whole job, told in one object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx


def test_books_balance_and_everything_happened(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mailer", "demo", "--json", "--folder", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    books = json.loads(done.stdout)["books"]
    assert books == {
        "audience": 500,
        "queued": 0,
        "sending": 0,
        "sent": 494,
        "deferred": 0,
        "failed": 6,
        "uncertain": 0,
        "skipped": 0,
    }
    assert opened_again(command, tmp_path)["books"] == books


def opened_again(command: list[str], tmp_path: Path) -> dict[str, object]:
    """Play the demo again with --open, look at both pages as a browser does, and press Ctrl-C."""
    browser, visited = tmp_path / "browser", tmp_path / "visited"
    browser.write_text(f'#!/bin/sh\necho "$1" >>{visited}\n', encoding="utf-8")
    browser.chmod(0o700)
    again = subprocess.Popen(
        [*command, "--open"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "BROWSER": str(browser)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while not visited.exists() or visited.read_text(encoding="utf-8").count("\n") < 2:
        assert time.monotonic() < deadline
        assert again.poll() is None
        time.sleep(0.2)
    outbox, console = sorted(visited.read_text(encoding="utf-8").split(), key=lambda url: "/login" in url)
    assert "reader" in httpx.get(outbox, follow_redirects=True, timeout=30).text
    with httpx.Client(timeout=30) as client:
        assert client.get(console).status_code == 200
        home = client.get(console.partition("/login")[0]).text
        assert "active subscribers" in home
        assert "493" in home
    os.killpg(again.pid, signal.SIGINT)
    out, _ = again.communicate(timeout=60)
    found: dict[str, object] = json.JSONDecoder().raw_decode(out)[0]
    return found


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    command = [sys.executable, "-m", "mailer", "demo", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 5
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"
