"""The examples in the migration guides are imported as the guides say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mailer.cli import run
from tests.end_to_end.newsletter import PROJECT, Folder


@pytest.mark.parametrize(
    ("name", "statuses", "ana"),
    [
        (
            "ghost",
            {"ana@example.org": "active", "bob@example.org": "unsubscribed"},
            {"tags": ["garden", "vip"]},
        ),
        (
            "buttondown",
            {"ana@example.org": "active", "bob@example.org": "unsubscribed", "eve@example.org": "bounced"},
            {"tags": ["garden", "vip"]},
        ),
        (
            "keila",
            {"ana@example.org": "active", "bob@example.org": "unsubscribed", "eve@example.org": "bounced"},
            {"name": "Ana Pop", "attributes": {"city": "Cluj", "age": 41}},
        ),
        (
            "phplist",
            {"ana@example.org": "active", "bob@example.org": "unsubscribed"},
            {"name": "Ana Pop", "attributes": {"City": "Cluj"}},
        ),
    ],
)
def test_example_is_imported_as_the_guide_says(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    statuses: dict[str, str],
    ana: dict[str, object],
) -> None:
    folder = Folder(tmp_path / "news")
    page = (PROJECT / "docs" / "migrate" / f"{name}.md").read_text(encoding="utf-8")
    found = re.search(r"```csv\n(.*?)```", page, re.DOTALL)
    assert found
    (folder.path / "export.csv").write_text(found[1], encoding="utf-8")
    place = ["-C", str(folder.path)]
    assert run(["subscribers", "import", str(folder.path / "export.csv"), "--preset", name, *place]) == 0
    capsys.readouterr()
    assert run(["subscribers", "export", *place, "--format", "jsonl"]) == 0
    people = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["email"]: one["status"] for one in people} == statuses
    (found_ana,) = [one for one in people if one["email"].startswith("ana")]
    assert {key: found_ana[key] for key in ana} == ana


@pytest.mark.parametrize(
    ("name", "content", "missing"),
    [
        # What Keila exported at first, and phpList when that column is not selected.
        ("keila", "Email,First name,Last name,Data\nbob@example.org,Bob,Ion,\n", "Status"),
        (
            "phplist",
            "id,Email,Is this subscriber confirmed,List Membership\n1,bob@example.org,1,News; \n",
            "Is this subscriber blacklisted",
        ),
    ],
)
def test_file_that_does_not_say_who_left_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, missing: str
) -> None:
    folder = Folder(tmp_path / "news")
    (folder.path / "export.csv").write_text(content, encoding="utf-8")
    place = ["-C", str(folder.path)]
    assert run(["subscribers", "import", str(folder.path / "export.csv"), "--preset", name, *place]) == 1
    assert f"there is no column '{missing}'" in capsys.readouterr().err
    assert run(["subscribers", "export", *place, "--format", "jsonl"]) == 0
    assert capsys.readouterr().out == ""


def test_guide_of_mailman_is_followed_word_by_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of the guide, with a `mailman` that prints one member for each state of delivery."""
    folder = Folder(tmp_path / "news")
    fake = tmp_path / "mailman"
    fake.write_text(
        '#!/bin/sh\n[ "$*" = "members --email-only --nomail $4 news@example.org" ] && echo "$4@example.com"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    page = (PROJECT / "docs" / "migrate" / "mailman.md").read_text(encoding="utf-8")
    for line in re.findall(r"^\$ (.*)$", page, re.MULTILINE):
        if line.startswith("mailer "):
            monkeypatch.chdir(folder.path)
            assert run(shlex.split(line)[1:]) == 0, capsys.readouterr()
        else:
            subprocess.run(line, shell=True, check=True, cwd=folder.path)
    capsys.readouterr()
    assert run(["subscribers", "export", "--format", "jsonl"]) == 0
    people = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["email"]: one["status"] for one in people} == {
        "enabled@example.com": "active",
        "bybounces@example.com": "bounced",
        "byuser@example.com": "unsubscribed",
    }
