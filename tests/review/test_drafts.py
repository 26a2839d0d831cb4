"""Saving an issue's file: nothing is overwritten, and nothing else is touched."""

from __future__ import annotations

import errno
import os
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mailer.errors import RefusedError, SourceError
from mailer.rendering.source import parse_issue
from mailer.rendering.source.fields import joined, parts, value_of, with_value
from mailer.review.drafts import ChangedError, difference, read_draft, save_draft, save_image

TEXT = '---\ntitle: "A bean"\n# a comment\ntags: [sowing]\n---\n\nHello.\n'
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30)


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


def test_save_replaces_the_text_and_keeps_the_permissions(tmp_path: Path) -> None:
    path = tmp_path / "001.md"
    path.write_text(TEXT, encoding="utf-8")
    path.chmod(0o640)
    saved = save_draft(path, TEXT + "More.\n", known=read_draft(path).digest)
    assert path.read_text(encoding="utf-8") == TEXT + "More.\n"
    assert saved == read_draft(path)
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["001.md"]


def test_save_that_fails_leaves_the_old_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "001-a.md"
    path.write_text("old")
    known = read_draft(path).digest

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SourceError, match=r"001-a\.md: No space left on device"):
        save_draft(path, "new", known=known)
    assert (path.read_text(), [one.name for one in tmp_path.iterdir()]) == ("old", ["001-a.md"])


def test_save_over_a_change_is_refused_with_the_other_version(tmp_path: Path) -> None:
    path = tmp_path / "001.md"
    path.write_text(TEXT, encoding="utf-8")
    read = read_draft(path)
    path.write_text(TEXT + "Theirs.\n", encoding="utf-8")
    with pytest.raises(ChangedError) as refused:
        save_draft(path, TEXT + "Mine.\n", known=read.digest)
    assert path.read_text(encoding="utf-8") == TEXT + "Theirs.\n"
    assert difference(refused.value.theirs.text, TEXT + "Mine.\n")[-2:] == ["-Theirs.", "+Mine."]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bean.png", "bean.png"),
        ("../../config.toml", "config.png"),
        ("..\\..\\evil.png", "evil.png"),
        ("/etc/cron.d/x.png", "x.png"),
        ("Größe & <b>.PNG", "grosse-b.png"),
        (".png", "image.png"),
        ("\x00", "image.png"),
        ("a" * 300 + ".png", "a" * 60 + ".png"),
    ],
)
def test_uploaded_image_stays_in_its_folder(tmp_path: Path, name: str, expected: str) -> None:
    folder = tmp_path / "issues" / "images"
    folder.parent.mkdir()
    assert save_image(folder, name, png()) == folder / expected
    again = save_image(folder, name, png())
    assert again == folder / expected.replace(".png", "-2.png")


@pytest.mark.parametrize("content", [b"", b"<svg onload=alert(1)>", b"#!/bin/sh\n", png()[:20]])
def test_upload_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RefusedError, match="not a JPEG"):
        save_image(tmp_path / "images", "x.png", content)
    assert not (tmp_path / "images").exists()


def test_upload_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="larger than"):
        save_image(tmp_path, "x.png", b"x" * (10 * 1024 * 1024 + 1))


@given(title=LINES.filter(str.strip), subject=LINES, body=st.text(st.characters(codec="ascii"), max_size=50))
def test_fields_of_the_front_matter_change_alone(title: str, subject: str, body: str) -> None:
    front, _ = parts(TEXT)
    changed = with_value(with_value(front, "title", title), "subject", subject)
    assert (value_of(changed, "title"), value_of(changed, "subject")) == (title, subject)
    assert "# a comment\ntags: [sowing]" in changed
    assert parts(joined(changed, body)) == (changed, body)


def test_changed_front_matter_is_still_an_issue() -> None:
    front, body = parts(TEXT)
    front = with_value(with_value(front, "date", "2026-05-01"), "preheader", 'It says: "yes" \\ # no')
    issue = parse_issue(joined(front, body), Path("001.md"))
    assert str(issue.date) == "2026-05-01"
    assert issue.preheader == 'It says: "yes" \\ # no'
    assert issue.tags == ("sowing",)
    assert with_value(front, "preheader", "") == with_value(parts(TEXT)[0], "date", "2026-05-01")


@pytest.mark.parametrize("front", ["title: |\n  Long\n  text", "title: [a]", 'title: "open', "title: *alias"])
def test_value_that_is_not_one_plain_line_is_left_to_the_file(front: str) -> None:
    assert value_of(front, "title") is None
