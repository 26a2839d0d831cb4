"""`mailer console` and `mailer users` without the packages that they need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.console import accounts, audit
from mailer.console.accounts import Account
from mailer.database.engine import Database


@pytest.mark.parametrize("command", [["console"], ["users", "list"]])
@pytest.mark.parametrize("package", ["nicegui", "argon2", "pyotp"])
def test_missing_extra_is_named_with_the_command_that_installs_it(
    tmp_path: Path,
    command: list[str],
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    # Python refuses to import a module whose entry is None.
    monkeypatch.setitem(sys.modules, package, None)
    assert run([*command, "-C", str(tmp_path)]) == 6
    assert capsys.readouterr().err == (
        f"error: the console needs packages that are not installed ({package})\n"
        "  next: install them with: pip install 'mailer[console]'\n"
    )


def test_users_are_added_unlinked_and_removed_and_the_audit_log_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("", encoding="utf-8")

    def said(*command: str) -> str:
        assert run(["users", *command, "-C", str(tmp_path)]) == 0
        return capsys.readouterr().out

    said("add", "Mia", "--role", "editor", "--email", "mia@example.org", "--no-password")
    assert said("unlink", "Mia", "--yes") == "Mia: was not linked to an account\n"
    with (
        Database("sqlite:///subscribers.db", folder=tmp_path) as database,
        database.transaction() as connection,
    ):
        accounts.log_in(connection, Account("https://login.example.org", "4711", "mia@example.org"))
    assert said("list").endswith("mia@example.org  linked\n")
    assert said("unlink", "Mia", "--yes") == "Mia: unlinked\n"
    assert said("list").endswith("mia@example.org\n")
    assert said("remove", "Mia", "--yes") == "Mia: removed\n"
    mia = {"role": "editor", "email": "mia@example.org"}
    with Database("sqlite:///subscribers.db", folder=tmp_path) as database, database.reading() as connection:
        entries = audit.entries(connection)[::-1]
    assert {(one.who, one.about) for one in entries} == {("this machine", "Mia")}
    assert [(one.act, one.details) for one in entries] == [
        ("user.add", {**mia, "password": False}),
        ("user.unlink", {}),
        ("user.remove", mia),
    ]
    assert run(["users", "unlink", "Ana", "--yes", "-C", str(tmp_path)]) != 0
    assert "there is no user 'Ana'" in capsys.readouterr().err
