"""Emails as they were sent, the clicks in them, and the people and providers behind an issue's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from mailer.address import parse_address
from mailer.audience.ledger import unsubscribe
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.config import Settings, load
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState
from mailer.delivery import editions, enqueueing, issues
from mailer.errors import SourceError
from mailer.reports.people import leavers
from mailer.reports.progress import by_provider
from mailer.review.sent import sent_message, with_clicks
from tests.end_to_end.newsletter import Folder

AT = datetime(2026, 3, 6, 8, tzinfo=UTC)
CONFIG = '[tracking]\nclicks = true\nopens = true\n[web]\npublic_url = "https://news.example.org"\n'
PEOPLE = ("ana@gmail.com", "ion@googlemail.com", "mia@small.example")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Settings, Database]]:
    """An issue that two of three people have got."""
    folder = Folder(tmp_path / "news", CONFIG)
    settings, path = load(folder.path / "config.toml"), folder.path / "issues" / "001-short.md"
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        with database.transaction() as connection:
            for one in PEOPLE:
                origin = Origin("command")
                add(connection, parse_address(one), secret=b"s", origin=origin, at=AT, name=one.split("@")[0])
        enqueueing.enqueue(settings, database, editions.build(settings, path), path, "", at=AT)
        with database.transaction() as connection:
            connection.execute(update(Delivery).where(Delivery.c.subscriber_id < 3).values(state="sent"))
        yield settings, database


def test_email_is_the_one_that_this_person_got(scene: tuple[Settings, Database]) -> None:
    settings, database = scene
    with database.reading() as connection:
        found = sent_message(connection, settings, 1, 2)
        assert "Hello ion," in found.html
        assert 'href="https://example.org/page"' in found.html
        assert "/c/" not in found.html
        for subscriber_id in (3, 99):
            with pytest.raises(SourceError, match="was not sent to this subscriber"):
                sent_message(connection, settings, 1, subscriber_id)


def test_number_of_people_stands_beside_their_link(scene: tuple[Settings, Database]) -> None:
    settings, database = scene
    with database.reading() as connection:
        edition = issues.edition(connection, issues.get(connection, 1).edition_digest)
    html = with_clicks(settings, edition, {0: 1234})
    before, _, after = html.partition(">this</a>")
    assert 'href="https://example.org/page"' in before.rpartition("<a ")[2]
    assert after[: after.index("</span>")].endswith(">1,234")
    assert "1,234" not in after[after.index("</span>") :]


def test_providers_and_leavers_are_counted(scene: tuple[Settings, Database]) -> None:
    _, database = scene
    with database.transaction() as connection:
        unsubscribe(connection, 1, origin=Origin("one-click", issue_id=1), at=AT)
        unsubscribe(connection, 2, origin=Origin("command"), at=AT)
        books = by_provider(connection, 1, {})
        assert [(one.name, one.recipients, one.states) for one in books] == [
            ("google", 2, {DeliveryState.SENT: 2}),
            ("small.example", 1, {DeliveryState.QUEUED: 1}),
        ]
        assert [one.name for one in by_provider(connection, 1, {"small.example": "ours"})] == [
            "google",
            "ours",
        ]
        assert [(one.address, one.way) for one in leavers(connection, 1)] == [("ana@gmail.com", "one-click")]
