"""After an upgrade, templates get what the new version changed, and never lose what the operator changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.config.shipped import shipped
from mailer.errors import ExitCode
from mailer.review.template_changes import ORIGIN, Change

YOURS, THEIRS, BOTH, GONE = "issue.txt.j2", "partials/quote.html.j2", "base.mjml.j2", "partials/code.html.j2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A newsletter of an older version: each template was changed by you, by mailer, by both or deleted."""
    folder = tmp_path / "news"
    assert run(["init", str(folder), "--yes"]) == ExitCode.DONE
    templates, newer = folder / "email_templates", tmp_path / "newer"
    shutil.copytree(shipped("email_templates"), newer)
    for name in (YOURS, BOTH):
        append(templates / name, "{# mine #}\n", at_start=True)
    for name in (THEIRS, BOTH, GONE):
        append(newer / name, "{# new #}\n")
    (templates / GONE).unlink()
    (newer / "partials" / "poll.html.j2").write_text("new")
    (templates / "partials" / "own.html.j2").write_text("mine")
    for module in ("mailer.cli.templates", "mailer.cli.init"):
        monkeypatch.setattr(f"{module}.shipped", lambda name: newer)
    capsys.readouterr()
    return folder


def append(path: Path, text: str, *, at_start: bool = False) -> None:
    whole = path.read_text(encoding="utf-8")
    path.write_text(text + whole if at_start else whole + text, encoding="utf-8")


def states(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert run(["templates", "status", "--json", "-C", str(folder)]) == ExitCode.DONE
    found: dict[str, str] = json.loads(capsys.readouterr().out)["templates"]
    return {name: change for name, change in found.items() if change != Change.NOBODY}


def test_changes_of_both_sides_are_told_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert states(folder, capsys) == {
        YOURS: "yours",
        THEIRS: "new version",
        BOTH: "both",
        GONE: "removed",
        "partials/poll.html.j2": "added",
        "partials/own.html.j2": "own",
    }
    assert run(["templates", "status", "-C", str(folder)]) == ExitCode.DONE
    assert "you and the new version changed it" in capsys.readouterr().out
    assert run(["templates", "diff", "-C", str(folder)]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "+{# new #}" in shown
    assert "mine" not in shown
    assert run(["templates", "diff", "nothing.j2", "-C", str(folder)]) == ExitCode.FAILURE


def test_update_never_overwrites_a_change(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    templates = folder / "email_templates"
    mine = {name: (templates / name).read_text() for name in (YOURS, BOTH, "partials/own.html.j2")}
    assert run(["templates", "update", "-C", str(folder)]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert {name: (templates / name).read_text() for name in mine} == mine
    assert (templates / THEIRS).read_text().endswith("{# new #}\n")
    assert (templates / "partials" / "poll.html.j2").read_text() == "new"
    assert not (templates / GONE).exists()

    # Not a second time before the first is merged.
    assert run(["templates", "update", "-C", str(folder)]) == ExitCode.FAILURE
    assert "left from an earlier update" in capsys.readouterr().err

    # The command that is shown merges both changes.
    command = next(line.split("yours: ")[1] for line in out.splitlines() if "merge-file" in line)
    subprocess.run(command.split(), check=True)
    merged = (templates / BOTH).read_text()
    assert merged.startswith("{# mine #}\n")
    assert merged.endswith("{# new #}\n")
    for suffix in (".new", ".base"):
        (templates / f"{BOTH}{suffix}").unlink()
    assert run(["templates", "update", "-C", str(folder)]) == ExitCode.DONE
    assert capsys.readouterr().out == "nothing to update\n"
    assert states(folder, capsys) == {
        YOURS: "yours",
        BOTH: "yours",
        GONE: "removed",
        "partials/own.html.j2": "own",
    }
    assert run(["lint", "1", "-C", str(folder)]) == ExitCode.DONE


def test_templates_of_unknown_origin_are_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder / ORIGIN)
    templates = folder / "email_templates"
    before = {path: path.read_bytes() for path in templates.rglob("*.j2")}
    assert states(folder, capsys)[BOTH] == "unknown"
    assert run(["templates", "update", "-C", str(folder)]) == ExitCode.DONE
    assert {path: path.read_bytes() for path in before} == before
    assert (templates / f"{THEIRS}.new").exists()
    for path in templates.rglob("*.new"):
        path.unlink()
    capsys.readouterr()
    assert states(folder, capsys)[THEIRS] == "yours"
