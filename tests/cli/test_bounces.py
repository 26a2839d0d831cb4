"""`mailer bounces` and `mailer why`, as an operator runs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mailer.cli import run
from mailer.database.engine import Database
from mailer.errors import ExitCode
from mailer.tokens import Signer, Subject
from tests.bounces.reports import ISSUE, dsn, subscribe

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text('[bounces]\nmaildirs = ["box"]\n')
    for name in ("new", "cur", "tmp"):
        (tmp_path / "box" / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def bounced(folder: Path) -> Path:
    """A folder whose mailbox holds a hard bounce for ana@example.com."""
    database = Database("sqlite:///subscribers.db", folder=folder)
    database.open()
    ana = subscribe(database, AT)
    token = Signer(database.secrets()).return_path(Subject(ISSUE, ana))
    (folder / "box" / "new" / "1.a").write_bytes(dsn(token))
    database.close()
    return folder


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == ExitCode.DONE
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["version"] == 1
    return said


def test_parse_needs_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail.eml").write_bytes(dsn("", reply="552 5.2.2 Mailbox is full", status="5.2.2"))
    said = answer(capsys, "bounces", "parse", "mail.eml")
    (one,) = said["recipients"]
    assert (
        said["kind"], one["address"], one["class"], one["hard"],
    ) == ("bounce", "ana@example.com", "mailbox_full", False)  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["mail.eml"]


def test_fetch_suppresses_and_why_shows_the_history(
    bounced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("-C", str(bounced))
    said = answer(capsys, "bounces", "fetch", *where)
    assert (said["read"], said["outcomes"], said["effects"]) == (1, {"applied": 1}, {"suppressed": 1})
    (row,) = answer(capsys, "bounces", "list", *where)["reports"]
    assert (row["recipient"], row["bounce_class"], row["hard"]) == (
        "ana@example.com",
        "invalid_mailbox",
        True,
    )
    told = answer(capsys, "why", "Ana@example.com", *where)
    assert (told["status"], told["suppressed"]) == ("bounced", "hard bounce")
    words = [happening["what"] for happening in told["happenings"]]
    assert {"status", "delivery", "report", "suppressed"} == set(words)
    times = [happening["at"] for happening in told["happenings"]]
    assert times == sorted(times)


def test_report_counts_by_issue_and_class(bounced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "bounces", "fetch", "-C", str(bounced))
    said = answer(capsys, "bounces", "report", "-C", str(bounced))
    assert said["by_issue"] == [{"name": "001", "bounce_class": "invalid_mailbox", "deliveries": 1}]
    assert said["by_provider"] == [
        {"name": "example.com", "bounce_class": "invalid_mailbox", "deliveries": 1}
    ]
    assert said["issues"] == [{"issue": "001", "audience": 0, "failed": 1, "complaints": 0}]
    assert said["suppressions"] == {"hard bounce": 1}


def test_report_for_people_draws_classes_providers_and_issues(
    bounced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "bounces", "fetch", "-C", str(bounced))
    assert run(["bounces", "report", "-C", str(bounced)]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    for title in ("by class", "by provider", "by issue"):
        assert "█" in lines[lines.index(title) + 1]


def test_status_and_report_tell_of_an_issue_that_comes_back(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database("sqlite:///subscribers.db", folder=folder)
    database.open()
    signer = Signer(database.secrets())
    for number in range(20):
        address = f"r{number}@example.com"
        token = signer.return_path(Subject(ISSUE, subscribe(database, AT, address)))
        (folder / "box" / "new" / f"{number}.a").write_bytes(dsn(token, recipient=address))
    database.close()
    assert run(["bounces", "fetch", "-C", str(folder)]) == ExitCode.DONE
    alert = "001: 20 of 20 messages came back (100%), most of them invalid_mailbox"
    capsys.readouterr()
    # The same reply from everyone raises a second alert.
    alerts = answer(capsys, "status", "001", "-C", str(folder))["alerts"]
    assert alert in [one["text"] for one in alerts]
    for command in (("status", "001"), ("bounces", "report")):
        assert run([*command, "-C", str(folder)]) == ExitCode.DONE
        assert alert in capsys.readouterr().out


def test_unmatched_reports_can_be_listed_alone(bounced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bounced / "box" / "new" / "2.b").write_bytes(dsn(""))
    answer(capsys, "bounces", "fetch", "-C", str(bounced))
    (one,) = answer(capsys, "bounces", "list", "--unmatched", "-C", str(bounced))["reports"]
    assert (one["outcome"], one["recipient"]) == ("unmatched", "ana@example.com")


def test_show_gives_the_mail_as_it_came(bounced: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    mail = (bounced / "box" / "new" / "1.a").read_bytes()
    assert run(["bounces", "fetch", "-C", str(bounced)]) == ExitCode.DONE
    capfdbinary.readouterr()
    assert run(["bounces", "show", "1", "--raw", "-C", str(bounced)]) == ExitCode.DONE
    assert capfdbinary.readouterr().out == mail


def test_fetch_without_a_mailbox_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text("")
    assert run(["bounces", "fetch", "-C", str(tmp_path)]) == ExitCode.CONFIGURATION
    assert "bounces.maildirs" in capsys.readouterr().err


def test_unreachable_mailbox_does_not_stop_the_others(
    bounced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (bounced / "config.toml").open("a") as file:
        file.write(
            '[[bounces.boxes]]\nhost = "127.0.0.1"\nport = 1\n'
            'security = "plain"\nuser = "u"\npassword = "p"\n'
        )
    assert run(["bounces", "fetch", "-C", str(bounced)]) == ExitCode.PARTIAL
    said = capsys.readouterr()
    assert "1 applied" in said.out
    assert "imap:u@127.0.0.1" in said.err


def test_unknown_address_is_an_error_with_a_remedy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "nobody@example.com", "-C", str(folder)]) == ExitCode.FAILURE
    assert "next:" in capsys.readouterr().err
