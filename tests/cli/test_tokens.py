"""`mailer tokens`: shown once, listed without the secret, worthless once revoked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.errors import ExitCode


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["tokens", *arguments]) == ExitCode.DONE
    return capsys.readouterr().out


def test_token_is_shown_once_and_then_never(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = said(capsys, "create", "website", "--scope", "subscribers:subscribe").strip()
    assert text.startswith("mlr_1_")
    listed = said(capsys, "list")
    assert "website" in listed
    assert "subscribers:subscribe" in listed
    secret = text.split("_", 2)[2]
    assert secret not in listed
    assert secret.encode() not in (folder / "subscribers.db").read_bytes()


def test_revoked_token_is_listed_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(said(capsys, "create", "x", "--scope", "subscribers:read", "--json"))
    assert json.loads(said(capsys, "revoke", str(made["id"]), "--json"))["revoked"] is True
    assert json.loads(said(capsys, "revoke", str(made["id"]), "--json"))["revoked"] is False
    (token,) = json.loads(said(capsys, "list", "--json"))["tokens"]
    assert (token["name"], token["scopes"], token["revoked_at"] is None) == ("x", ["subscribers:read"], False)


@pytest.mark.parametrize(
    "arguments", [["create", "x"], ["create", "x", "--scope", "everything"], ["revoke", "7"]]
)
def test_invalid_token_arguments_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(["tokens", *arguments]) in (ExitCode.USAGE, ExitCode.FAILURE)
    assert capsys.readouterr().err
