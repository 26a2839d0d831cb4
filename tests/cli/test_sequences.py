"""`mailer sequences` from the files to the messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.config import load
from mailer.database.engine import Database
from mailer.delivery.sequences import looking
from tests.end_to_end.newsletter import Folder

Mailer = Callable[..., int]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "news", '[sequences.welcome]\ntrigger = "api"\ngoal = "tag:customer"\n')
    write(folder, "01-hello", "after: P0D")
    write(folder, "02-more", "after: P3D\nsend_at: 10:30\ndays: [mon, Tuesday]\nonly: tag:vip")
    return folder


@pytest.fixture
def mailer(folder: Folder) -> Mailer:
    return lambda *words: run([*words, "-C", str(folder.path)])


def write(folder: Folder, name: str, front: str) -> Path:
    path = folder.path / "sequences" / "welcome" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\ntitle: Step {name}\n{front}\n---\n\nHello.\n", encoding="utf-8")
    return path


def test_sequence_from_the_plan_to_the_history(folder: Folder, mailer: Mailer, capsys: Captured) -> None:
    assert mailer("sequences", "list") == 0
    assert "welcome  not applied" in capsys.readouterr().out
    assert mailer("sequences", "plan", "welcome") == 0
    assert "02-more: new; 3 days after the previous step at 10:30 on mon, tue; only for tag:vip" in (
        capsys.readouterr().out
    )
    assert mailer("sequences", "apply", "welcome", "--yes") == 0
    assert mailer("subscribers", "add", "ana@example.org") == 0
    capsys.readouterr()
    assert mailer("sequences", "enter", "welcome", "ana@example.org") == 0
    assert mailer("sequences", "enter", "welcome", "ana@example.org") == 5
    assert "was in welcome before" in capsys.readouterr().err
    settings = load(folder.path / "config.toml")
    with Database(settings.paths.database, folder=settings.folder) as database:
        assert looking.look(database, settings, at=datetime.now(UTC)) == 1
    assert mailer("sequences", "stats", "welcome", "--json") == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [(one["issue"], one["waiting"], one["books"]["queued"]) for one in steps] == [
        ("welcome-01-hello", 0, 1), ("welcome-02-more", 1, 0),
    ]  # fmt: skip
    assert mailer("sequences", "list") == 0
    assert capsys.readouterr().out == "welcome  api  2 steps  1 under way\n"
    assert mailer("why", "ana@example.org") == 0
    assert "welcome: entered; 02-more is due from" in capsys.readouterr().out
    assert mailer("sequences", "pause", "welcome") == 0
    assert mailer("status", "welcome-01-hello") == 0
    assert "paused (the sequence is paused)" in capsys.readouterr().out
    assert mailer("sequences", "resume", "welcome") == 0
    write(folder, "02-more", "after: P1D")
    assert mailer("sequences", "plan", "welcome") == 0
    assert "02-more: changed; its time becomes: 1 day after the previous step" in capsys.readouterr().out
    assert mailer("withdraw", "welcome-01-hello", "--yes") == 5
    assert "it is a step of a sequence" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["send"], ["schedule", "add", "--at", "2099-01-01T08:00"]])
def test_step_cannot_be_sent_as_an_issue(
    folder: Folder, mailer: Mailer, capsys: Captured, command: list[str]
) -> None:
    path = write(folder, "01-hello", "after: P0D")
    assert mailer("subscribers", "add", "ana@example.org") == 0
    assert mailer(command[0], *command[1:2], str(path), *command[2:], "--yes") == 5
    assert "01-hello is a step of a sequence" in capsys.readouterr().err


def test_steps_are_linted_and_applied_only_without_errors(
    folder: Folder, mailer: Mailer, capsys: Captured
) -> None:
    path = write(folder, "03-bad", "after: P1D")
    path.write_text(path.read_text(encoding="utf-8") + "\n[here](/there)\n", encoding="utf-8")
    assert mailer("lint", str(path)) == 3
    capsys.readouterr()
    assert mailer("sequences", "apply", "welcome", "--yes") == 3
    assert f"mailer lint {path})" in capsys.readouterr().err
    assert mailer("sequences", "list") == 0
    assert "not applied" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("number: 3", "03-odd.md:1: this step does not say when it is sent"),
        ("after: soon", "03-odd.md:3: 'after' cannot be 'soon'"),
        ("after: P99999D", "03-odd.md:3: 'after' cannot be"),
        ("after: P1D\nsend_at: 25:00", "03-odd.md:4: 'send_at' cannot be"),
        ("after: P1D\ndays: [someday]", "03-odd.md:4: 'days' cannot be"),
        ('after: P1D\nonly: "tag:"', "03-odd.md:4: column 5"),
        ("after: P1D\nsubject: [a, b]\ntest: {hold: true}", "a step cannot have an A/B test"),
        ("days: [mon]", "03-odd.md:3: only a step of a sequence has 'days'"),
    ],
)
def test_mistake_in_a_step_names_its_place(
    folder: Folder, mailer: Mailer, capsys: Captured, front: str, said: str
) -> None:
    write(folder, "03-odd", front)
    assert mailer("sequences", "plan", "welcome") != 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('trigger = "monday"', "is not a trigger"),
        ('zone = "Mars"', "there is no time zone 'Mars'"),
        ('goal = "tag:"', "sequences.welcome.goal: column 5"),
    ],
)
def test_mistake_in_the_configuration_is_reported(
    tmp_path: Path, capsys: Captured, table: str, said: str
) -> None:
    folder = Folder(tmp_path / "news", f"[sequences.welcome]\n{table}\n")
    write(folder, "01", "after: P0D")
    assert run(["sequences", "plan", "welcome", "-C", str(folder.path)]) != 0
    assert said in capsys.readouterr().err
