"""`mailer test`: the finished mail to oneself, and nothing else."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.config import load
from mailer.database.engine import Database
from mailer.errors import TokenError
from mailer.tokens import Signer
from tests.end_to_end.newsletter import Folder
from tests.ports import free_port

ISSUE = """\
---
title: A short one
---

Hello {{ subscriber.name | default("there") }} of {{ subscriber.city }}, read [this](https://example.org/page).
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    (made.path / "issues" / "001-short.md").write_text(ISSUE, encoding="utf-8")
    (made.path / "people.csv").write_text("email,name,city\nada@example.com,Ada,Turin\nbo@example.com,Bo,\n")
    assert run(["subscribers", "import", str(made.path / "people.csv"), "-C", str(made.path)]) == 0
    return made


def sent(folder: Folder) -> list[EmailMessage]:
    found = [message_from_bytes(raw, policy=default) for raw in folder.kept()]
    return [one for one in found if isinstance(one, EmailMessage)]


def test_goes_to_each_address_marked_and_nothing_is_queued(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["test", "1", "--to", "me@example.org", "--to", "you@example.org", "--json"]
    assert run([*arguments, "-C", str(folder.path)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["to"] == ["me@example.org", "you@example.org"]
    assert {mail["Subject"] for mail in sent(folder)} == {"[Test] A short one"}
    assert {mail["To"].addresses[0].addr_spec for mail in sent(folder)} == {
        "me@example.org",
        "you@example.org",
    }
    assert folder.mailer("status", "--json").json["issues"] == []


def test_links_change_nothing(folder: Folder) -> None:
    assert (
        run(["test", "1", "--to", "me@example.org", "--as", "ada@example.com", "-C", str(folder.path)]) == 0
    )
    (mail,) = sent(folder)
    token = mail["List-Unsubscribe"].split("/u/")[1].partition(">")[0]
    database = Database(load(folder.path / "config.toml").paths.database, folder=folder.path)
    database.open()
    with pytest.raises(TokenError):
        Signer(database.secrets()).read_link(token)
    database.close()


def test_as_renders_the_issue_for_that_subscriber(folder: Folder) -> None:
    assert (
        run(["test", "1", "--to", "me@example.org", "--as", "ada@example.com", "-C", str(folder.path)]) == 0
    )
    (mail,) = sent(folder)
    body = mail.get_body(("plain",))
    assert body is not None
    assert "Hello Ada of Turin," in body.get_content()
    assert mail["To"].addresses[0].addr_spec == "me@example.org"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "nonsense"], 1, "nonsense"),
        (["--to", "me@example.org", "--as", "who@example.com"], 6, "who@example.com: no such subscriber"),
        (["--to", "me@example.org", "--as", "bo@example.com"], 1, "subscriber.city"),
        ([], 2, "--to"),
    ],
)
def test_impossible_test_is_explained_and_sends_nothing(
    folder: Folder, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert run(["test", "1", *arguments, "-C", str(folder.path)]) == code
    assert said in capsys.readouterr().err
    assert folder.kept() == []


def test_lint_findings_are_shown_and_stop_nothing(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder.path / "issues" / "001-short.md"
    path.write_text(ISSUE + "\n[Old](/beans)\n", encoding="utf-8")
    assert run(["test", "1", "--to", "me@example.org", "-C", str(folder.path)]) == 0
    assert "relative-link" in capsys.readouterr().err
    assert len(sent(folder)) == 1


def test_test_needs_no_https_but_sending_does(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with (folder.path / "config.toml").open("a", encoding="utf-8") as config:
        config.write(f'\n[relays.main]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "plain"\n')
    place = ["-C", str(folder.path)]
    assert run(["test", "1", "--to", "me@example.org", *place]) == 6
    assert "cannot be reached" in capsys.readouterr().err
    assert run(["send", "1", "--yes", *place]) == 5
    assert "requires https" in capsys.readouterr().err
