"""`mailer new`: numbered, renderable, never over another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailer.cli.new import slug
from mailer.rendering.source import read_issue
from tests.end_to_end.newsletter import Folder


def test_the_next_issue_is_numbered_and_renders(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    made = folder.mailer("new", "Größe: two beans")
    assert made.code == 0, made.err
    assert Path(made.out.strip()).name == "002-groe-two-beans.md"
    assert folder.mailer("render", "2", "-o", str(tmp_path / "out")).code == 0


def test_quotes_in_a_title_survive(tmp_path: Path) -> None:
    made = Folder(tmp_path).mailer("new", 'Say "two" \\ beans')
    assert read_issue(Path(made.out.strip())).title == 'Say "two" \\ beans'


@pytest.mark.parametrize("title", ["", "  ", "a\x07b"])
def test_a_title_that_is_no_line_of_text_is_refused(tmp_path: Path, title: str) -> None:
    assert Folder(tmp_path).mailer("new", title).code == 2


def test_a_title_without_latin_letters_still_gets_a_name() -> None:
    assert slug("日本語") == "issue"
