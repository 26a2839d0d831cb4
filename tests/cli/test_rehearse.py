"""`mailer rehearse`: told well, nothing touched, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mailer.cli import run
from mailer.config import load
from mailer.database.engine import Database
from tests.delivery.scene import subscribe
from tests.end_to_end.newsletter import Folder

SCENARIO = """\
[[faults]]
kind = "reply"
reply = "550 5.1.1 No such user"
share = "10%"
[[faults]]
kind = "greylist"
share = "20%"
lasts = "PT1H"
[[faults]]
kind = "bounce"
share = "10%"
"""


def folder_with(tmp_path: Path, people: int, more: str = "") -> Folder:
    made = Folder(tmp_path / "news", more)
    with Database(load(made.path / "config.toml").paths.database, folder=made.path) as database:
        database.open()
        subscribe(database, people)
    return made


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return path


def test_rehearsal_prints_everything_and_changes_nothing(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = '[relays.main]\nhost = "smtp.example.org"\nrate_per_second = 20\n'
    folder = folder_with(tmp_path, 100, relay)
    scenario = folder.path / "day.toml"
    scenario.write_text(SCENARIO, encoding="utf-8")
    where = ["-C", str(folder.path)]
    watched = Database("sqlite:///subscribers.db", folder=folder.path)
    before = watched.change_counter()
    stamp = before()
    assert run(["rehearse", "1", "--scenario", str(scenario), "--json", *where]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["ending"] == "finished"
    assert found["books"]["audience"] == 100
    assert found["books"]["sent"] + found["books"]["failed"] == 100
    assert found["books"]["failed"] == found["server"]["faults"]["550"] > 5
    assert found["lasted_seconds"] > 3600 > found["first_try_seconds"] == 5
    assert found["bottleneck"] == "relay main: rate_per_second = 20"
    assert found["returned"]["reports"] == found["server"]["faults"]["bounce"] > 5
    assert found["returned"]["effects"] == {"suppressed": found["returned"]["reports"]}
    assert run(["rehearse", "1", "--scenario", str(scenario), *where]) == 0
    out = capsys.readouterr().out
    assert "Rehearsed 'A short one': finished" in out
    assert f"100 = 0 + 0 + {found['books']['sent']} + 0 + {found['books']['failed']} + 0 + 0: balances" in out
    assert "retries included" in out
    assert before() == stamp
    watched.close()
    assert not (folder.path / "outbox").exists()
    assert list(temporary.iterdir()) == []


def test_another_seed_affects_other_people(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path, 100)
    seen = []
    for seed in ("1", "1", "2"):
        assert run(["rehearse", "1", "--seed", seed, "--json", "-C", str(folder.path)]) == 0
        seen.append(json.loads(capsys.readouterr().out)["server"]["faults"])
    assert seen[0] == seen[1] != seen[2]


def test_invalid_scenario_is_reported_first(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path, 1)
    scenario = folder.path / "day.toml"
    scenario.write_text('[[faults]]\nkind = "slow"\ndelya = 3\n', encoding="utf-8")
    assert run(["rehearse", "1", "--scenario", str(scenario), "-C", str(folder.path)]) == 1
    told = capsys.readouterr().err
    assert "day.toml:3: unknown key 'delya'; did you mean 'delay'?" in told
    assert "docs/reference/scenarios.md" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_rehearsal_leaves_nothing_behind(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    folder = folder_with(tmp_path, 5_000)
    process = folder.start("rehearse", "1")
    until = time.monotonic() + 60
    while not list(temporary.glob("mailer-rehearsal-*/rehearsal.db")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    # What a shell calls 130, either way: Python ends by the signal if a dataclass was being made.
    assert process.returncode in (130, -signal.SIGINT)
    assert list(temporary.glob("mailer-rehearsal-*")) == []
