"""The history of an address in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, insert, update

from mailer.database.engine import Database
from mailer.database.tables import Event, Subscriber
from mailer.delivery import issues
from mailer.reports import history
from mailer.reports.rollups import refresh
from mailer.reports.statistics import list_health
from tests.delivery.scene import AT, EDITION, subscribe

LINKS = ("https://example.org/page?a=1&b=2", "https://example.net/")


def add_event(
    connection: Connection,
    at: datetime,
    kind: str,
    details: dict[str, object],
    *,
    issue_id: int | None = None,
) -> None:
    """Add an event of subscriber 1."""
    connection.execute(
        insert(Event).values(at=at, kind=kind, issue_id=issue_id, subscriber_id=1, details=details)
    )


@pytest.mark.parametrize(
    ("said", "kind", "details"),
    [
        (f"001-hello: link {LINKS[0]}", "click", {"link": 0}),
        (f"001-hello: link {LINKS[1]}, machine scanner", "click", {"link": 1, "machine": "scanner"}),
        ("001-hello: link 2", "click", {"link": 2}),
        ("001-hello: link -1", "click", {"link": -1}),
        ("001-hello: link home", "click", {"link": "home"}),
        ("001-hello", "open", {}),
    ],
)
def test_click_says_which_link(database: Database, said: str, kind: str, details: dict[str, object]) -> None:
    subscribe(database, 1)
    with database.transaction() as connection:
        edition = replace(EDITION, links=LINKS)
        issue, _ = issues.enqueue(connection, edition, source_path="", at=AT)
        add_event(connection, AT + timedelta(hours=1), kind, details, issue_id=issue.id)
    with database.reading() as connection:
        story = history.story(connection, "s1@example.org")
    assert story is not None
    event = story.happenings[-1]
    assert (event.what, event.text) == (kind, said)
    known = {"url": LINKS[int(str(details["link"]))]} if said.startswith("001-hello: link http") else {}
    assert event.facts == {"issue_id": 1, **details, **known}


def test_click_in_a_letter_keeps_its_number(database: Database) -> None:
    subscribe(database, 1)
    with database.transaction() as connection:
        add_event(connection, AT, "click", {"link": 0})
    with database.reading() as connection:
        story = history.story(connection, "s1@example.org")
    assert story is not None
    assert [one.text for one in story.happenings] == ["link 0"]


def test_soft_bounces_of_a_quiet_address_do_not_count(database: Database) -> None:
    subscribe(database, 1)
    instants = [AT, AT + timedelta(days=2), AT + timedelta(days=4)]
    with database.transaction() as connection:
        for at in instants:
            add_event(connection, at, "soft_bounce", {"class": "mailbox_full"})
        connection.execute(update(Subscriber).values(soft_points=2.0, soft_since=instants[1]))
    with database.reading() as connection:
        story = history.story(connection, "s1@example.org")
    assert story is not None
    assert story.soft_last == instants[-1]
    last_day = instants[-1] + timedelta(days=30)
    assert story.soft_points_at(last_day, quiet_days=30) == 2.0
    assert story.soft_points_at(last_day + timedelta(microseconds=1), quiet_days=30) == 0.0


@pytest.mark.parametrize(
    ("bounces", "since", "points", "status"),
    [
        ([0, 2, 4], 0, 3.0, "active"),
        ([0, 40], 40, 1.0, "active"),
        ([0, 2], 40, 1.0, "active"),
        ([0, 2, 4], None, 0.0, "active"),
        ([0, 2, 4], 0, 3.0, "bounced"),
        ([], None, 0.0, "active"),
    ],
    ids=["one run", "after a pause", "none since", "forgotten", "not active", "none"],
)
def test_statistics_count_whose_soft_bounces_still_count(
    database: Database, bounces: list[int], since: int | None, points: float, status: str
) -> None:
    subscribe(database, 1)
    with database.transaction() as connection:
        for day in bounces:
            add_event(connection, AT + timedelta(days=day), "soft_bounce", {"class": "mailbox_full"})
        begun = None if since is None else AT + timedelta(days=since)
        changed = update(Subscriber).values(soft_points=points, soft_since=begun, status=status)
        connection.execute(changed)
    for day in (1, 4, 29, 34, 35, 40, 70, 71, 400):
        at = AT + timedelta(days=day)
        assert refresh(database, at=at, segments={}, quiet_days=30, rebuild=True)
        with database.reading() as connection:
            story = history.story(connection, "s1@example.org")
            assert story is not None
            counts = status == "active" and story.soft_points_at(at, quiet_days=30) > 0
            assert list_health(connection).soft_bouncing == counts, day


def test_forgotten_soft_bounces_do_not_count(database: Database) -> None:
    subscribe(database, 1)
    with database.transaction() as connection:
        add_event(connection, AT, "soft_bounce", {"class": "mailbox_full"})
    with database.reading() as connection:
        story = history.story(connection, "s1@example.org")
    assert story is not None
    assert (story.soft_last, story.soft_points_at(AT, quiet_days=30)) == (None, 0.0)
