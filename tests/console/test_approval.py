"""A second person's approval: someone else, the same content, and once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer.config import Settings, load
from mailer.console import approval
from mailer.console.approval import Kind, Proposal, Release
from mailer.console.releasing import release, share_of
from mailer.database.engine import Database
from mailer.delivery import editions, schedule
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition
from tests.end_to_end.newsletter import Folder

AT = datetime(2026, 3, 6, 8, tzinfo=UTC)
WANTED = Release(
    Kind.SCHEDULE,
    "tag:vip",
    None,
    AT,
    "Europe/Bucharest",
    datetime(2026, 3, 6, 10),  # noqa: DTZ001 - local
)


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Edition:
    folder = Folder(tmp_path_factory.mktemp("approval") / "news")
    return editions.build(load(folder.path / "config.toml"), folder.path / "issues" / "001-short.md")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database("sqlite:///subscribers.db", folder=tmp_path) as opened:
        opened.open()
        yield opened


def asked(database: Database, edition: Edition) -> Proposal:
    with database.transaction() as connection:
        approval.propose(connection, edition, WANTED, "Mia", at=AT)
    with database.reading() as connection:
        found = approval.find(connection, edition.slug)
        assert found is not None
        return found


def approve(database: Database, wanted: Proposal, who: str) -> None:
    with database.transaction() as connection:
        approval.approve(connection, wanted, who)


def test_proposal_is_kept_as_it_was_asked_for(database: Database, edition: Edition) -> None:
    found = asked(database, edition)
    assert (found.release, found.who, found.at) == (WANTED, "Mia", AT)
    assert found.covers(edition)
    assert not found.covers(replace(edition, subject="Another"))


def test_nobody_approves_their_own_proposal(database: Database, edition: Edition) -> None:
    found = asked(database, edition)
    with pytest.raises(RefusedError, match="Someone else must approve"):
        approve(database, found, "Mia")
    assert asked(database, edition) == found


def test_proposal_is_approved_once(database: Database, edition: Edition) -> None:
    found = asked(database, edition)
    approve(database, found, "Dan")
    with pytest.raises(RefusedError, match="meanwhile"):
        approve(database, found, "Dan")


def test_approval_of_an_older_proposal_is_refused(database: Database, edition: Edition) -> None:
    found = asked(database, edition)
    asked(database, replace(edition, subject="Another"))
    with pytest.raises(RefusedError, match="meanwhile"):
        approve(database, found, "Dan")


@pytest.mark.parametrize(("typed", "share"), [("", None), (" 1% ", 0.01), ("0.5%", 0.005)])
def test_share_of_a_canary(typed: str, share: float | None) -> None:
    assert share_of(typed) == share


@pytest.mark.parametrize("typed", ["1", "0%", "100%", "many", "-1%"])
def test_share_that_makes_no_sense_is_refused(typed: str) -> None:
    with pytest.raises(RefusedError, match="for example 1%"):
        share_of(typed)


def test_schedule_is_for_an_instant_or_for_the_local_time_everywhere(
    database: Database, edition: Edition, tmp_path: Path
) -> None:
    settings, due_at = Settings(folder=tmp_path), AT + timedelta(days=2000)
    for wall in (None, datetime(2031, 8, 27, 8)):  # noqa: DTZ001 - local
        wanted = replace(WANTED, segment="", due_at=due_at, wall=wall)
        release(settings, database, tmp_path / "x.md", edition, wanted)
        with database.reading() as connection:
            planned = schedule.find(connection, edition.slug)
        assert planned is not None
        assert planned.wall == wall
        assert (planned.due_at == due_at) is (wall is None)
