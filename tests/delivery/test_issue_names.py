"""An issue is named by its slug or by the number it begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.delivery import editions, issues
from mailer.delivery.issue_names import is_named, number_of
from mailer.errors import SourceError
from tests.delivery.scene import AT, EDITION


@pytest.mark.parametrize(
    ("slug", "name", "expected"),
    [
        ("007-spring", "007-spring", True),
        ("007-spring", "7", True),
        ("007-spring", "007", True),
        ("7-spring", "007", True),
        ("070-spring", "7", False),
        ("007-spring", "spring", False),
        ("007-spring", "007-", False),
        ("spring", "7", False),
        ("spring", "", False),
        ("0-zero", "0", True),
    ],
)
def test_slug_or_number(slug: str, name: str, expected: bool) -> None:
    assert is_named(slug, name) is expected


@pytest.mark.parametrize(
    ("number", "slug"),
    [
        ("7", "007-spring"),
        ("70", "70"),
        ("0", "0-zero"),
        ("", "spring"),
        ("", ""),
        ("", "٣-x"),
        ("", "9" * 99),
    ],
)
def test_number_that_a_slug_begins_with(number: str, slug: str) -> None:
    assert number_of(slug) == number


def test_number_of_several_issues_is_refused_with_their_names(database: Database) -> None:
    with database.transaction() as connection:
        for slug in ("007-spring", "007-summer", "008-autumn"):
            issues.enqueue(connection, replace(EDITION, slug=slug), source_path="", at=AT)
        assert issues.named(connection, "8").slug == "008-autumn"
        with pytest.raises(SourceError, match=r"^several issues begin with 7: 007-summer, 007-spring; name"):
            issues.named(connection, "7")
        assert issues.named(connection, "007-spring").slug == "007-spring"
        known = "the latest are: 008-autumn, 007-summer, 007-spring"
        with pytest.raises(SourceError, match=f"^no issue '9' was ever queued; {known}$"):
            issues.named(connection, "9")


def test_number_of_several_files_is_refused_with_their_names(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    (tmp_path / "issues").mkdir()
    for slug in ("007-spring", "007-summer", "008-autumn"):
        (tmp_path / "issues" / f"{slug}.md").touch()
    assert editions.find_source(settings, "8").stem == "008-autumn"
    with pytest.raises(SourceError, match=r"^several issues begin with 7: 007-spring, 007-summer; name"):
        editions.find_source(settings, "7")
