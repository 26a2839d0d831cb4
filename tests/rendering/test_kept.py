"""Compiled templates are kept for the next start, and never instead of what the template says now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from mailer.rendering.html import Templates
from mailer.rendering.kept import cache_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mailer"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the templates that Jinja compiled."""
    names: list[str] = []
    compile_template = Environment.compile

    def noting(self: Environment, source: Any, name: str | None = None, *more: Any, **named: Any) -> Any:
        names.append(name or "")
        return compile_template(self, source, name, *more, **named)

    monkeypatch.setattr(Environment, "compile", noting)
    return names


def said(folder: Path, language: str = "en", **values: Any) -> str:
    """Return what a fresh start makes of the folder's one template, words put back."""
    templates = Templates(folder, language)
    return templates.slots.restore(templates.render("a.txt.j2", values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "a.txt.j2").write_text("{{ title }} for {{ subscriber.name }}, {{ 1234.5 | number }}")
    return tmp_path


def test_second_start_compiles_nothing_and_says_the_same(
    folder: Path, cache: Path, compiled: list[str]
) -> None:
    first = said(folder, title="Beans")
    assert (first, compiled) == ("Beans for {{ subscriber.name }}, 1,234.5", ["a.txt.j2"])
    assert said(folder, title="Beans") == first
    assert compiled == ["a.txt.j2"]


def test_changed_template_is_compiled_again(folder: Path, cache: Path, compiled: list[str]) -> None:
    said(folder, title="Beans")
    (folder / "a.txt.j2").write_text("Only {{ title }}")
    assert said(folder, title="Beans") == "Only Beans"
    assert len(compiled) == 2


def test_each_language_has_its_own(folder: Path, cache: Path) -> None:
    assert said(folder, title="Beans").endswith("1,234.5")
    assert said(folder, "de", title="Bohnen").endswith("1.234,5")


def test_the_same_name_in_another_folder_is_another_template(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    said(folder, title="Beans")
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt.j2").write_text((folder / "a.txt.j2").read_text() + "!")
    assert said(other, title="Beans").endswith("!")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04N."])
def test_damaged_file_is_made_anew(folder: Path, cache: Path, compiled: list[str], content: bytes) -> None:
    first = said(folder, title="Beans")
    files = [file for file in cache.rglob("*") if file.is_file()]
    assert len(files) == 1
    good = files[0].read_bytes()
    for damaged in (content, good[: len(good) // 2], good[:-1]):
        files[0].write_bytes(damaged)
        assert said(folder, title="Beans") == first
        assert files[0].read_bytes() == good


def test_folder_of_somebody_else_is_left_alone(
    folder: Path, cache: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(folder, title="Beans")
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    assert cache_folder() is None
    said(folder, title="Beans")
    assert compiled == ["a.txt.j2"] * 2


def test_folder_that_cannot_be_made_is_done_without(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert said(folder, title="Beans").startswith("Beans for")


def test_only_the_user_may_look_in(folder: Path, cache: Path) -> None:
    said(folder, title="Beans")
    assert oct(cache.stat().st_mode & 0o777) == "0o700"


def test_mistake_is_told_at_its_line_each_time(folder: Path, cache: Path) -> None:
    (folder / "a.txt.j2").write_text("one\ntwo {{ title.x.y }}\n")
    for _ in range(2):
        with pytest.raises(Exception, match=r"a\.txt\.j2:2"):
            said(folder, title="Beans")
