"""What many tests stand on: a database, the seed issue, and servers that may be missing."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.database.session import Database

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An empty database of the newest schema."""
    made = Database("sqlite:///subscribers.db", folder=tmp_path)
    made.open()
    return made


@pytest.fixture
def at() -> datetime:
    """An instant to stand still at."""
    return datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def missing(what: str) -> None:
    """Skip a test whose means are not on this machine; under CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is not here")


@pytest.fixture
def seed() -> Path:
    """The operator's first issue."""
    path = SHARED / "seed" / "last-week-in-ai-1.md"
    if not path.exists():
        missing(str(path.relative_to(PROJECT.parent)))
    return path


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed, or skip the test."""
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if found:
            return found
    missing(names[0])
    raise AssertionError
