"""`mailer new`: numbered, renderable, never over another file."""

from __future__ import annotations

import errno
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.cli import run
from mailer.rendering.source import read_issue
from mailer.rendering.source.new import slug
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


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Größe, Straße und Élan: GROẞ", "grosse-strasse-und-elan-gross"),
        ("日本語", "ribenyu"),
        ("Весенний выпуск", "vesenniy-vypusk"),
        ("שלום", "slvm"),
        ("العدد السابع", "ldd-lsb"),
        ("Ελλάδα", "ellada"),
        ("L'été d’Anne", "lete-danne"),
        ("!?", "issue"),
    ],
)
def test_slug_of_any_script_is_latin(title: str, expected: str) -> None:
    assert slug(title) == expected


@given(st.text())
def test_slug_is_a_file_name(title: str) -> None:
    assert re.fullmatch("[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?", slug(title))


def test_name_can_be_chosen(tmp_path: Path) -> None:
    made = Folder(tmp_path).mailer("new", "日本語", "--slug", "nihongo")
    assert made.out.strip().endswith("issues/002-nihongo.md")


@pytest.mark.parametrize("name", ["Spring", "a b", "../up", "", "ä"])
def test_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    made = Folder(tmp_path).mailer("new", "Spring", "--slug", name)
    assert made.code == 2
    assert "use small letters, digits and hyphens" in made.err


def test_full_disk_leaves_no_empty_issue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = Folder(tmp_path / "news")
    path = folder.path / "issues" / "002-x.md"
    opened = Path.open

    def open_(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name != path.name:
            return opened(self, *arguments, **options)
        self.touch(exist_ok=False)
        return FullDisk()

    monkeypatch.setattr(Path, "open", open_)
    assert run(["new", "x", "-C", str(folder.path)]) == 1
    expected = (
        f"error: {path}: No space left on device\n  next: free some space, then run the command again\n"
    )
    assert (capsys.readouterr().err, path.exists()) == (expected, False)
