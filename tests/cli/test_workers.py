"""`mailer workers`: who sends what, and since when."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.database.engine import Database
from mailer.delivery import issues, runs
from tests.end_to_end.newsletter import Folder

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_process_that_sends_is_shown_until_its_run_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path / "news")
    folder.subscribe(1)
    assert folder.mailer("send", "1", "--yes").code == 0
    arguments = ["workers", "-C", str(folder.path)]
    assert run(arguments) == 0
    assert capsys.readouterr() == ("", "nothing is being sent\n")
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        with database.transaction() as connection:
            run_id = runs.begin(connection, issues.named(connection, "1").id, at=AT)
        assert run([*arguments, "--json"]) == 0
        shown = {"issue": "001-short", "host": socket.gethostname(), "pid": os.getpid()}
        assert json.loads(capsys.readouterr().out)["workers"] == [
            {**shown, "since": "2026-03-02T09:00:00+00:00", "silent_seconds": 0.0}
        ]
        assert run(arguments) == 0
        assert f"process {os.getpid()}  001-short since 2026-03-0" in capsys.readouterr().out
        with database.transaction() as connection:
            runs.end(connection, run_id, at=AT)
    assert run(arguments) == 0
    assert capsys.readouterr().out == ""
