"""`mailer new`: numbered, renderable, never over another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailer.cli.new import slug
from mailer.rendering.source import read_issue
from tests.end_to_end.newsletter import Folder


@pytest.mark.parametrize("title", ["Größe: two beans", 'Say "two" \\ beans', "Beans & <b>", "A bean 🌱"])
def test_the_next_issue_is_numbered_and_renders(tmp_path: Path, title: str) -> None:
    folder = Folder(tmp_path)
    made = folder.mailer("new", title)
    assert made.code == 0, made.err
    path = Path(made.out.strip())
    assert path.name.startswith("002-")
    assert read_issue(path).title == title
    rendered = folder.mailer("render", "2", "-o", str(tmp_path / "out"))
    assert rendered.code == 0, rendered.err


@pytest.mark.parametrize("title", ["", "  ", "a\x07b"])
def test_a_title_that_is_no_line_of_text_is_refused(tmp_path: Path, title: str) -> None:
    assert Folder(tmp_path).mailer("new", title).code == 2


def test_a_slug_spells_letters_beyond_ascii_as_far_as_it_can() -> None:
    assert slug("Größe, Straße und Élan: GROẞ") == "grosse-strasse-und-elan-gross"


def test_a_title_without_latin_letters_still_gets_a_name() -> None:
    assert slug("日本語") == "issue"
