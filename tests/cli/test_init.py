"""`mailer init`: what it makes works as it is, and nothing that was there is touched."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.errors import ExitCode

NAMES = ["Windowsill Letters", 'The "Größe" \\ {x} % $HOME', "日本語", "a" * 120]


@pytest.mark.parametrize("name", NAMES)
def test_created_newsletter_is_valid_and_can_be_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / "letter"
    given = ["--name", name, "--address", "ana@example.org", "--postal-address", "1 Road", "--yes"]
    assert run(["init", str(folder), *given]) == 0, capsys.readouterr().err
    newsletter = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["newsletter"]
    assert newsletter["name"] == name
    assert newsletter["list_id"].endswith(".example.org")
    assert "*.db" in (folder / ".gitignore").read_text()
    (folder / "people.csv").write_text("email\nbo@example.com\n")
    for command in (
        ["config", "check"],
        ["lint", "1", "--strict"],
        ["subscribers", "import", str(folder / "people.csv")],
        ["send", "1", "--yes"],
    ):
        assert run([*command, "-C", str(folder)]) == 0, capsys.readouterr()
    assert len(list((folder / "outbox" / "new").iterdir())) == 1


@pytest.mark.parametrize("there", ["config.toml", "email_templates", "issues"])
def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str) -> None:
    (tmp_path / there).mkdir()
    assert run(["init", str(tmp_path), "--yes"]) == 5
    assert f"{there} already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_own_gitignore_stays(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    assert run(["init", str(tmp_path), "--yes"]) == 0
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("option", "value"), [("--address", "nonsense"), ("--url", "ftp://x"), ("--name", "a\nBcc: x@y.org")]
)
def test_invalid_answer_is_reported_and_creates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert run(["init", str(tmp_path), option, value, "--yes"]) == ExitCode.USAGE
    assert f"Invalid value for {option}: {value!r}: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mailer", "init", str(tmp_path / "letter"), "--author", "Robin"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        os.write(ours, b"Beans\nrobin\nrobin@example.org\n1 Road\nhttp://x y\nnews.example.org\n\n")
        _, err = running.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert running.returncode == 0, err
    assert "Author's name" not in err
    assert err.count("From address") == 2, "an answer that is not valid is asked for again"
    assert err.count("Public address of your pages") == 3
    newsletter = tomllib.loads((tmp_path / "letter" / "config.toml").read_text())["newsletter"]
    assert newsletter == {
        "name": "Beans",
        "author_name": "Robin",
        "author_address": "robin@example.org",
        "postal_address": "1 Road",
        "list_id": "beans.example.org",
    }
