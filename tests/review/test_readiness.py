"""What `mailer send` would refuse is found when the settings are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailer.config import load
from mailer.review.readiness import problems
from tests.review.readiness_cases import CASES, READY


def newsletter(folder: Path, text: str) -> list[tuple[str, str, bool]]:
    """Return place, message and weight of each problem with a newsletter."""
    (folder / "issues").mkdir()
    (folder / "config.toml").write_text(text, encoding="utf-8")
    shipped = Path(__file__).parents[2] / "email_templates"
    if "templates = 'gone'" not in text:
        (folder / "email_templates").symlink_to(shipped)
    return [(found.place, found.message, found.stops) for found in problems(load(folder / "config.toml"))]


def test_newsletter_that_can_be_sent_has_no_problem(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    assert newsletter(tmp_path, READY) == []


@pytest.mark.parametrize(("change", "place", "message", "stops"), CASES)
def test_each_problem_has_its_place(
    tmp_path: Path, change: tuple[str, str], place: str, message: str, stops: bool
) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "empty").write_text("\n")
    assert change[0] in READY
    found = newsletter(tmp_path, READY.replace(*change))
    assert [(where, weight) for where, _, weight in found] == [(place, stops)], found
    assert message in found[0][1]


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("hunter2\n")
    monkeypatch.setenv("HOME", str(home))
    assert newsletter(tmp_path, READY.replace('"secret"', '"~/secret"')) == []
