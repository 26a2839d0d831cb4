"""The examples in the migration guides are imported as the guides say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mailer.cli import run
from tests.end_to_end.newsletter import PROJECT, Folder


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("ghost", {"ana@example.org": "active", "bob@example.org": "unsubscribed"}),
        (
            "buttondown",
            {"ana@example.org": "active", "bob@example.org": "unsubscribed", "eve@example.org": "bounced"},
        ),
    ],
)
def test_example_is_imported_as_the_guide_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, statuses: dict[str, str]
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
    assert [sorted(one["tags"]) for one in people if one["email"].startswith("ana")] == [["garden", "vip"]]
