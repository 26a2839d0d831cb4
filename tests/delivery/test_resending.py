"""An issue is resent to readers who are known not to have reacted, and to each of them once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, update

from mailer.audience.segments import parse_segment
from mailer.config import Settings, load
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Event, StoredIssue, Subscriber
from mailer.delivery import editions, issues
from mailer.delivery.newcomers import queue_newcomers
from mailer.errors import RefusedError, SourceError
from mailer.rendering.edition import Edition, Resend
from mailer.rendering.source import parse_issue, read_issue
from mailer.rendering.source.new import create_resend
from mailer.review import planning
from tests.delivery.scene import AT, EDITION, subscribe
from tests.end_to_end.newsletter import Folder

LATER = AT + timedelta(days=7)
ORIGINAL = replace(EDITION, html='<a href="{{ urls.click }}/0">x</a>', links=("https://example.org/",))
AGAIN = replace(EDITION, slug="002-again", subject="Did you see this?", resend=Resend("1"))
CONSENTS = ("none", "before", "since", "unknown")
CLICKS = ("none", "person", "machine")
STATES = (DeliveryState.SENT, DeliveryState.FAILED, None)


@dataclass(frozen=True, slots=True)
class Person:
    """What one subscriber did with the original issue."""

    id: int
    consent: str
    clicks: str
    state: DeliveryState | None
    """None if they joined later."""

    @property
    def clicked(self) -> bool | None:
        """Whether they clicked; None if nobody can know."""
        if self.clicks == "person":
            return True
        return False if self.consent in ("before", "unknown") else None


PEOPLE = [
    Person(number, *rest) for number, rest in enumerate(itertools.product(CONSENTS, CLICKS, STATES), start=1)
]


@pytest.fixture
def sent(database: Database) -> Database:
    """Send the original to people of all kinds."""
    subscribe(database, len(PEOPLE))
    since = {"before": AT - timedelta(days=1), "since": AT + timedelta(days=1)}
    with database.transaction() as connection:
        issue, _ = issues.enqueue(connection, ORIGINAL, source_path="", at=AT)
        for one in PEOPLE:
            agreed = {"tracking_consent": one.consent != "none", "tracking_since": since.get(one.consent)}
            connection.execute(update(Subscriber).where(Subscriber.c.id == one.id).values(agreed))
            theirs = Delivery.c.issue_id == issue.id, Delivery.c.subscriber_id == one.id
            if one.state is None:
                connection.execute(delete(Delivery).where(*theirs))
            else:
                connection.execute(update(Delivery).where(*theirs).values(state=one.state.value))
            if one.clicks != "none":
                details = {"machine": "scanner"} if one.clicks == "machine" else {}
                connection.execute(
                    insert(Event).values(
                        at=AT, kind="click", issue_id=issue.id, subscriber_id=one.id, details=details
                    )
                )
    return database


def audience(database: Database, slug: str) -> set[int]:
    with database.reading() as connection:
        return set(
            connection.scalars(
                select(Delivery.c.subscriber_id).join(StoredIssue).where(StoredIssue.c.slug == slug)
            )
        )


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("clicked:001-hello", {one.id for one in PEOPLE if one.clicked}),
        ("not clicked:001-hello", {one.id for one in PEOPLE if one.clicked is False}),
        ("sent:001-hello", {one.id for one in PEOPLE if one.state is DeliveryState.SENT}),
        ("not not clicked:001-hello", {one.id for one in PEOPLE if one.clicked}),
        ("not opened:001-hello", {one.id for one in PEOPLE if one.consent in ("before", "unknown")}),
        ("clicked:001-hello or not clicked:001-hello", {one.id for one in PEOPLE if one.clicked is not None}),
    ],
)
def test_who_did_not_click_is_known_only_of_those_who_agreed(
    sent: Database, segment: str, expected: set[int]
) -> None:
    with sent.reading() as connection:
        found = set(connection.scalars(select(Subscriber.c.id).where(parse_segment(segment, {}).condition)))
    assert found == expected


def test_resend_goes_to_those_who_got_it_and_did_not_click(sent: Database) -> None:
    expected = {one.id for one in PEOPLE if one.state is DeliveryState.SENT and one.clicked is False}
    assert len(expected) == 4
    assert planning.plan(Settings(), sent, AGAIN, "").audience == 4
    with sent.transaction() as connection:
        issue, new = issues.enqueue(connection, AGAIN, source_path="", at=LATER)
    assert new
    assert audience(sent, "002-again") == expected
    assert (issue.public, issue.segment) == (False, 'sent:"001-hello" and not clicked:"001-hello"')


def test_nobody_gets_it_resent_twice(sent: Database) -> None:
    with sent.transaction() as connection:
        first, _ = issues.enqueue(connection, AGAIN, source_path="", at=LATER)
        connection.execute(update(Delivery).where(Delivery.c.issue_id == first.id).values(state="sent"))
        one = connection.scalar(
            select(func.min(Delivery.c.subscriber_id)).where(Delivery.c.issue_id == first.id)
        )
        skipped = update(Delivery).where(Delivery.c.issue_id == first.id, Delivery.c.subscriber_id == one)
        connection.execute(skipped.values(state=DeliveryState.SKIPPED.value))
    with sent.transaction() as connection:
        issues.enqueue(connection, replace(AGAIN, slug="003-again"), source_path="", at=LATER)
    # Only the one who did not get the first.
    assert audience(sent, "003-again") == {one}


def test_resend_of_a_resend_is_refused(sent: Database) -> None:
    third = replace(AGAIN, slug="003-again", resend=Resend("2"))
    with sent.transaction() as connection:
        issues.enqueue(connection, AGAIN, source_path="", at=LATER)
    with pytest.raises(RefusedError, match="is a resend itself"), sent.transaction() as connection:
        issues.enqueue(connection, third, source_path="", at=LATER)


def test_resend_keeps_the_segment_of_the_operator(sent: Database) -> None:
    mine = 'email ~ "1"'
    with sent.transaction() as connection:
        issue, _ = issues.enqueue(
            connection,
            AGAIN,
            source_path="",
            at=LATER,
            segment=mine,
            condition=parse_segment(mine, {}).condition,
        )
    assert issue.segment.startswith(f"({mine}) and sent:")
    assert all("1" in str(one) for one in audience(sent, "002-again"))


@pytest.mark.parametrize(
    ("edition", "error", "said"),
    [
        (replace(AGAIN, resend=Resend("9")), SourceError, "no issue '9' was ever queued"),
        (replace(AGAIN, resend=Resend("1", "opens")), RefusedError, "opens of 001-hello were not tracked"),
    ],
)
def test_resend_of_what_nobody_knows_is_refused(
    sent: Database, edition: Edition, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said), sent.transaction() as connection:
        issues.enqueue(connection, edition, source_path="", at=LATER)


def test_resend_has_no_newcomers(sent: Database) -> None:
    with sent.transaction() as connection:
        issue, _ = issues.enqueue(connection, AGAIN, source_path="", at=LATER)
    with pytest.raises(RefusedError, match="is a resend"), sent.transaction() as connection:
        queue_newcomers(connection, issue.id, None, at=LATER)


@pytest.mark.parametrize(
    "source",
    [
        "---\ntitle: T\nsubject: [a,\n  b]\ndate: 2026-01-01\nnumber: 7\n---\n\nBody\n",
        "---\nsubject: |\n  long\narms:\n  - b.md\ntest:\n  share: 50%\ntitle: T\n"
        "lint: {ignore: {opens: x}}\n---\nB\n",
        "---\ntitle: T\npreheader: P\nresend: 006-x\n---\n\n---\nBody\n",
    ],
)
def test_new_resend_repeats_all_but_the_subject(source: str, tmp_path: Path) -> None:
    original = parse_issue(source, tmp_path / "007-t.md")
    original.path.write_text(source, encoding="utf-8")
    path = create_resend(tmp_path, original, source, 'Did "you" see?', on=date(2026, 2, 1))
    made = read_issue(path)
    assert path.name == "008-t-again.md"
    assert (made.subject, made.resend, made.date) == ('Did "you" see?', Resend("007-t"), date(2026, 2, 1))
    assert (made.title, made.body, made.preheader) == (original.title, original.body, original.preheader)
    assert (made.number, made.other_subjects, made.other_files) == (None, (), ())
    assert made.lint_ignores == original.lint_ignores


def test_resend_without_tracking_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    path = folder.path / "issues" / "002-again.md"
    path.write_text('---\ntitle: A\nresend: "1"\n---\n', encoding="utf-8")
    with pytest.raises(SourceError, match=r"002-again.md:3: clicks are not tracked"):
        editions.build(load(folder.path / "config.toml"), path)
