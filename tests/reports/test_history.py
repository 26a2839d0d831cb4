"""The history of an address in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mailer.database.models import Event, Subscriber
from mailer.database.session import Database
from mailer.delivery import issues
from mailer.reports import history
from tests.delivery.scene import AT, EDITION, subscribe

LINKS = ("https://example.org/page?a=1&b=2", "https://example.net/")


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
    with database.transaction() as session:
        edition = replace(EDITION, links=LINKS)
        issue, _ = issues.enqueue(session, edition, source_path="", at=AT)
        later = AT + timedelta(hours=1)
        session.add(Event(at=later, kind=kind, issue_id=issue.id, subscriber_id=1, details=details))
    with database.reading() as session:
        story = history.story(session, "s1@example.org")
    assert story is not None
    event = story.happenings[-1]
    assert (event.what, event.text) == (kind, said)
    known = {"url": LINKS[int(str(details["link"]))]} if said.startswith("001-hello: link http") else {}
    assert event.facts == {"issue_id": 1, **details, **known}


def test_click_in_a_letter_keeps_its_number(database: Database) -> None:
    subscribe(database, 1)
    with database.transaction() as session:
        session.add(Event(at=AT, kind="click", subscriber_id=1, details={"link": 0}))
    with database.reading() as session:
        story = history.story(session, "s1@example.org")
    assert story is not None
    assert [one.text for one in story.happenings] == ["link 0"]


def test_soft_bounces_of_a_quiet_address_do_not_count(database: Database) -> None:
    subscribe(database, 1)
    instants = [AT, AT + timedelta(days=2), AT + timedelta(days=4)]
    with database.transaction() as session:
        for at in instants:
            details = {"class": "mailbox_full"}
            session.add(Event(at=at, kind="soft_bounce", subscriber_id=1, details=details))
        known = session.get_one(Subscriber, 1)
        known.soft_points, known.soft_since = 2.0, instants[1]
    with database.reading() as session:
        story = history.story(session, "s1@example.org")
    assert story is not None
    assert story.soft_last == instants[-1]
    last_day = instants[-1] + timedelta(days=30)
    assert story.soft_points_at(last_day, quiet_days=30) == 2.0
    assert story.soft_points_at(last_day + timedelta(microseconds=1), quiet_days=30) == 0.0


def test_forgotten_soft_bounces_do_not_count(database: Database) -> None:
    subscribe(database, 1)
    with database.transaction() as session:
        session.add(Event(at=AT, kind="soft_bounce", subscriber_id=1, details={"class": "mailbox_full"}))
    with database.reading() as session:
        story = history.story(session, "s1@example.org")
    assert story is not None
    assert (story.soft_last, story.soft_points_at(AT, quiet_days=30)) == (None, 0.0)
