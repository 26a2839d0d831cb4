"""`mailer send` of an issue with several arms, and `mailer ab`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.config import load
from mailer.delivery import editions
from mailer.errors import SourceError
from tests.end_to_end.newsletter import Folder

Mailer = Callable[..., int]
TEST = "test: {share: 40%, wait: PT0S}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "news", "[tracking]\nclicks = true\n")
    people = "".join(f"s{n}@example.com\n" for n in range(1, 31))
    (folder.path / "people.csv").write_text(f"email\n{people}", encoding="utf-8")
    return folder


@pytest.fixture
def mailer(folder: Folder) -> Mailer:
    return lambda *words: run([*words, "-C", str(folder.path)])


def write(folder: Folder, front: str, body: str = "Read [this](https://example.org/page).") -> Path:
    path = folder.path / "issues" / "001-short.md"
    path.write_text(f"---\ntitle: A short one\n{front}---\n\n{body}\n", encoding="utf-8")
    return path


def test_arms_share_their_links_and_a_change_of_one_shows_in_all(folder: Folder) -> None:
    path = write(folder, "arms: [arms/b.md]\n")
    other = folder.path / "issues" / "arms" / "b.md"
    other.parent.mkdir()
    other.write_text(
        "---\ntitle: Other\n---\n\n[New](https://example.org/new), [this](https://example.org/page)\n",
        encoding="utf-8",
    )
    edition = editions.build(load(folder.path / "config.toml"), path)
    (arm,) = edition.arms
    assert edition.links == arm.links == ("https://example.org/page", "https://example.org/new")
    assert (arm.slug, arm.title, arm.subject) == ("001-short", "Other", "Other")
    assert "{{ urls.click }}/1" in arm.html
    other.write_text("---\ntitle: Other\nsubject: [a, b]\n---\n", encoding="utf-8")
    with pytest.raises(SourceError, match="an arm cannot have arms of its own"):
        editions.build(load(folder.path / "config.toml"), path)


def test_test_that_nothing_could_decide_is_refused(folder: Folder) -> None:
    settings = load(folder.path / "config.toml")
    with pytest.raises(SourceError, match=r"001-short.md:4: the A/B test is decided by opens"):
        editions.build(settings, write(folder, "subject: [a, b]\ntest: {by: opens}\n"))
    assert editions.build(settings, write(folder, "subject: [a, b]\ntest: {by: opens, hold: true}\n")).arms


def test_lint_checks_every_arm(folder: Folder, mailer: Mailer, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, f"subject: [Fine, {'Long ' * 20}]\n")
    mailer("lint", "1")
    assert "the subject has 99 characters" in capsys.readouterr().out


def test_held_test_from_the_draw_to_the_choice(
    folder: Folder, mailer: Mailer, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, f"subject: [One, Two]\n{TEST}")
    assert mailer("subscribers", "import", str(folder.path / "people.csv")) == 0
    assert mailer("send", "1", "--canary", "10%", "--yes") == 5
    assert "leave out --canary" in capsys.readouterr().err
    assert mailer("send", "1", "--hold", "--yes") == 5
    err = capsys.readouterr().err
    assert "waits for your choice: the A/B test is over: A: nobody agreed to tracking" in err
    assert "mailer ab choose 001-short A" in err
    assert mailer("ab", "show", "1", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(arm["name"], arm["subject"], arm["sent"]) for arm in shown["arms"]] == [
        ("A", "One", 6), ("B", "Two", 6),
    ]  # fmt: skip
    assert (shown["decided"], shown["winner"]) == (False, None)
    assert mailer("ab", "choose", "1", "b") == 0
    assert capsys.readouterr().out == "001-short: B goes to everyone else\n"
    assert mailer("send", "1", "--yes") == 0
    assert "changed after the issue was queued" not in capsys.readouterr().err
    assert mailer("status", "1") == 0
    assert "A/B test: chosen by the operator" in capsys.readouterr().out
    subjects = [mail.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0] for mail in folder.kept()]
    assert (subjects.count(b"One"), subjects.count(b"Two")) == (6, 24)
    with sqlite3.connect(folder.path / "subscribers.db") as database:
        ((address,),) = database.execute(
            "SELECT address FROM subscribers JOIN canary_members ON id = subscriber_id WHERE arm = 0 LIMIT 1"
        )
    database.close()
    assert mailer("why", address) == 0
    assert "001-short: sent (arm A)" in capsys.readouterr().out


def test_issue_without_arms_has_nothing_to_hold(
    folder: Folder, mailer: Mailer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mailer("send", "1", "--hold", "--yes") == 5
    assert "has no A/B test to hold" in capsys.readouterr().err
