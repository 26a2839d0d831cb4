"""Each check has its page in docs/lint, and no page is left over."""

from __future__ import annotations

import pytest

from mailer.rendering.lint import CHECKS
from tests.conftest import PROJECT

FOLDER = PROJECT / "docs" / "lint"


def test_pages_are_those_of_the_checks() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_page_says_what_the_table_says(check: str) -> None:
    page = (FOLDER / f"{check}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {check}\n\n*{CHECKS[check].level}*: {CHECKS[check].title}.\n")
    assert f"What to do: {CHECKS[check].remedy}.\n" in page
    assert "**Why it matters.**" in page
