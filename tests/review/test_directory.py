"""Drafts are listed whatever their front matter; reading one gives an issue or an error with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.cli import run
from mailer.errors import SourceError
from mailer.rendering.source.issue import parse_issue
from mailer.review import directory
from tests.end_to_end.newsletter import Folder

KEYS = ["title", "subject", "preheader", "author", "date", "number", "tags", "language", "send_at", "lint"]
KEYS += ["test", "resend", "arms", "after", "x"]
ODD = [
    *("2026-02-30", "2026-13-45", "99999-01-01", "2026-01-01T99:99", "[2026-02-30]", "2026-02-30 25:00:00"),
    *("0x" + "f" * 6_000, "[0x" + "f" * 6_000 + "]", "9" * 6_000, "!!int " + "9" * 6_000, "[" * 500),
    *(
        "{a: " * 300,
        "&a [*a]",
        "*nothing",
        "!!python/object:os.system x",
        "!!int x",
        "!!binary x",
        "!!float x",
        "[!!timestamp x]",
        "[!!int x]",
        "{a: !!float x}",
    ),
    *("? x", "- x", "|", "@", "`", "%", "'", '"', "1e999", ".nan", "-.inf", "0o9", "12:99:99", "!!set {a}"),
    *("~", "", "[1]", "{a: b}", "true", "\u2028", "é" * 300, "a: b: c", "<<: 1", "!!timestamp x"),
]


def shown_title(folder: Path, front: str) -> str:
    path = folder / "008-x.md"
    path.write_text(f"---\n{front}\n---\nHi\n", encoding="utf-8")
    return directory.title_of(path, "008-x")


def problem_in(front: str) -> str:
    """Return what reading an issue with this front matter complains about."""
    try:
        parse_issue(f"---\n{front}\n---\nHi\n", Path("008-x.md"))
    except SourceError as error:
        return error.message
    return ""


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20])
def test_odd_value_of_any_key_is_listed_and_has_an_error_with_its_place(tmp_path: Path, odd: str) -> None:
    for key in KEYS:
        front = f"{key}: {odd}" if key == "title" else f"title: A bean\n{key}: {odd}"
        assert shown_title(tmp_path, front)
        assert re.fullmatch(r"|008-x\.md:\d+: [^\n]{,300}", problem_in(front))


@given(front=st.lists(st.text("abtile: []{}&*!|>-'\"#0x9\n", max_size=30), max_size=5).map("\n".join))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_front_matter_is_listed_by_a_title_of_one_line(tmp_path: Path, front: str) -> None:
    assert shown_title(tmp_path, front)


def test_a_date_that_does_not_exist_stops_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Folder(tmp_path / "news")
    (folder.path / "issues" / "008-x.md").write_text("---\ntitle: A bean\ndate: 2026-02-30\n---\nHi\n")
    assert run(["status", "-C", str(folder.path)]) == 0
    assert "008-x      draft" in capsys.readouterr().out
    assert run(["lint", "8", "-C", str(folder.path)]) == 1
    assert "issues/008-x.md:3: 'date' cannot be '2026-02-30'" in capsys.readouterr().err
