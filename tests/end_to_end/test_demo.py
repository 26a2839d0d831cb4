"""The demo: the whole job, told in one object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


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
    again = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    assert json.loads(again.stdout)["books"] == books


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    command = [sys.executable, "-m", "mailer", "demo", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 5
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"
