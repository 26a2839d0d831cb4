"""What queueing an issue stores, and what looking it up finds."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.orm import Session

from mailer.database.models import (
    CanaryState,
    Delivery,
    IssueState,
    ReplacedEdition,
    ScheduledIssue,
    StoredEdition,
    StoredIssue,
    Subscriber,
    Suppression,
)
from mailer.database.session import Database
from mailer.delivery import issues
from mailer.delivery.issues import QueuedIssue
from mailer.errors import MailerError, RefusedError, SourceError
from mailer.rendering.edition import ABTest, Resend
from tests.connections import in_threads, new_database, wait_until_blocked
from tests.databases import empty_database
from tests.delivery.scene import AT, EDITION, queued, subscribe
from tests.postgres import Server

LATER = AT + timedelta(hours=1)


def test_issue_is_stored_as_it_was_queued(database: Database) -> None:
    subscribe(database, 3)
    frozen = replace(EDITION, slug="007-spring", title="Spring")
    with database.transaction() as session:
        made, new = issues.enqueue(
            session, frozen, source_path="issues/7.md", at=AT, segment="tag:a", condition=Subscriber.id > 1
        )
        stored = session.get_one(StoredIssue, made.id)
        assert (stored.source_path, stored.audience) == ("issues/7.md", 2)
        assert session.get_one(StoredEdition, frozen.digest).created_at == AT
    expected = QueuedIssue(
        id=1,
        slug="007-spring",
        title="Spring",
        state=IssueState.SENDING,
        reason="",
        edition_digest=frozen.digest,
        segment="tag:a",
        dated_at=AT,
        created_at=AT,
        finished_at=None,
        published_at=None,
        canary=None,
        canary_until=None,
        resend_of=None,
        sequence_id=None,
    )
    assert (made, new) == (expected, True)
    assert not made.public
    assert msgspec.structs.replace(made, segment="").public
    with database.transaction() as session:
        # It keeps its edition and its audience.
        again = issues.enqueue(session, replace(frozen, title="Later"), source_path="", at=LATER)
        assert again == (expected, False)
        assert session.scalars(select(Delivery.subscriber_id).order_by(Delivery.subscriber_id)).all() == [
            2,
            3,
        ]
        assert issues.edition(session, made.edition_digest) == frozen
        assert issues.queued_at(session, made.id) == AT
        session.execute(update(StoredIssue).values(sequence_id=5))
        assert issues.queued_at(session, made.id) is None


def test_issue_is_found_as_it_is_stored(database: Database) -> None:
    issue = queued(database, 1)
    values = {
        "state": "paused", "reason": "lunch", "segment": "tag:a", "canary": "waiting", "resend_of": 7,
        "sequence_id": 8,
        **{name: AT + timedelta(days=number) for number, name in enumerate(
            ("dated_at", "created_at", "finished_at", "published_at", "canary_until")
        )},
    }  # fmt: skip
    with database.transaction() as session:
        session.execute(update(StoredIssue).values(values))
    expected = msgspec.structs.replace(
        issue, **values | {"state": IssueState.PAUSED, "canary": CanaryState.WAITING}
    )
    with database.reading() as session:
        assert issues.get(session, issue.id) == expected
        assert issues.find(session, issue.slug) == expected
        assert issues.named(session, "1") == expected
        assert issues.issues(session) == [expected]


@pytest.mark.parametrize("keep", [False, True])
def test_schedule_goes_unless_other_zones_wait(database: Database, keep: bool) -> None:
    subscribe(database, 1)
    with database.transaction() as session:
        for slug in (EDITION.slug, "002-next"):
            session.add(ScheduledIssue(slug=slug, source_path="", edition="", due_at=AT, created_at=AT))
    with database.transaction() as session:
        if keep:
            issues.enqueue(session, EDITION, source_path="", at=AT, keep_schedule=True)
        else:
            issues.enqueue(session, EDITION, source_path="", at=AT)
        left = session.scalars(select(ScheduledIssue.slug).order_by(ScheduledIssue.id)).all()
    assert left == ([EDITION.slug, "002-next"] if keep else ["002-next"])


def test_edition_that_was_changed_in_the_database_is_not_sent(database: Database) -> None:
    issue = queued(database, 1)
    with database.transaction() as session:
        stored = session.get_one(StoredEdition, issue.edition_digest)
        stored.content = replace(EDITION, title="Another").to_json()
    said = f"the stored edition {issue.edition_digest[:12]} was changed after it was frozen"
    with pytest.raises(MailerError, match=f"^{said};"), database.reading() as session:
        issues.edition(session, issue.edition_digest)


def test_edition_is_stored_once(database: Database) -> None:
    with database.transaction() as session:
        assert issues.freeze(session, EDITION, at=AT) == issues.freeze(session, EDITION, at=LATER)
        assert session.connection().scalars(select(StoredEdition.created_at)).all() == [AT]


def test_edition_is_numbered_from_one(database: Database) -> None:
    issue = queued(database, 1)
    with database.transaction() as session:
        assert issues.edition_number(session, issue.id) == 1
        for number in (1, 2):
            session.add(
                ReplacedEdition(issue_id=issue.id, number=number, digest=issue.edition_digest, replaced_at=AT)
            )
        session.flush()
        assert issues.edition_number(session, issue.id) == 3


def test_nothing_was_ever_queued(database: Database) -> None:
    with database.reading() as session:
        assert issues.find(session, "7") is None
        assert issues.issues(session) == []
        with pytest.raises(SourceError, match=r"^no issue '7' was ever queued; list the drafts with"):
            issues.named(session, "7")


def test_latest_five_issues_are_named(database: Database) -> None:
    with database.transaction() as session:
        for number in range(1, 7):
            issues.enqueue(session, replace(EDITION, slug=f"00{number}-x"), source_path="", at=AT)
        latest = "006-x, 005-x, 004-x, 003-x, 002-x"
        with pytest.raises(SourceError, match=f"the latest are: {latest}$"):
            issues.named(session, "9")
        assert issues.issues(session)[0].slug == "006-x"
        assert issues.named(session, "4").slug == "004-x"
        # One whose whole name is given, though others begin with it as a number.
        issues.enqueue(session, replace(EDITION, slug="4"), source_path="", at=AT)
        assert issues.named(session, "4").slug == "4"


def paused(session: Session, until: datetime) -> None:
    session.execute(update(Subscriber).where(Subscriber.id == 2).values(paused_until=until))


def suppressed(session: Session, key: str) -> None:
    session.add(Suppression(address_key=key, reason="complaint", at=AT))


@pytest.mark.parametrize(
    ("act", "mailed"),
    [
        (lambda s: None, True),
        (lambda s: paused(s, AT), True),
        (lambda s: paused(s, AT - timedelta(seconds=1)), True),
        (lambda s: paused(s, AT + timedelta(seconds=1)), False),
        (lambda s: suppressed(s, "s2@example.org"), False),
        (lambda s: suppressed(s, "x@example.org"), True),
        (lambda s: s.execute(update(Subscriber).where(Subscriber.id == 2).values(status="pending")), False),
    ],
)
def test_audience_are_those_who_may_be_mailed(database: Database, act: object, mailed: bool) -> None:
    subscribe(database, 3)
    with database.transaction() as session:
        act(session)  # type: ignore[operator]
    with database.transaction() as session:
        assert issues.count_audience(session, None, at=AT) == (3 if mailed else 2)
        assert issues.count_audience(session, Subscriber.id == 2, at=AT) == int(mailed)
        issue, _ = issues.enqueue(session, EDITION, source_path="", at=AT)
        assert session.get_one(StoredIssue, issue.id).audience == (3 if mailed else 2)


@pytest.mark.parametrize("state", [None, *CanaryState])
def test_members_alone_are_mailed_until_the_canary_has_passed(
    database: Database, state: CanaryState | None
) -> None:
    issue = queued(database, 1)
    with database.transaction() as session:
        session.execute(update(StoredIssue).values(canary=state and state.value, published_at=AT))
    with database.reading() as session:
        found, progress = issues.get(session, issue.id), issues.progress(session, issue.id)
    members_only = state not in (None, CanaryState.PASSED)
    assert (found.canary, found.members_only) == (state, members_only)
    assert progress == (IssueState.SENDING, members_only, True)


def test_issue_with_arms_begins_with_its_test(database: Database) -> None:
    subscribe(database, 4)
    tested = replace(EDITION, arms=(replace(EDITION, subject="Other"),), test=ABTest(share=0.5))
    with database.transaction() as session:
        issue, _ = issues.enqueue(session, tested, source_path="", at=AT)
        assert issue.canary is CanaryState.SENDING


def test_step_of_a_sequence_is_no_issue(database: Database) -> None:
    subscribe(database, 1)
    with (
        pytest.raises(RefusedError, match="001-hello is a step of a sequence, because it has 'after'"),
        database.transaction() as session,
    ):
        issues.enqueue(session, replace(EDITION, step=True), source_path="", at=AT)


def test_two_resends_of_an_issue_wait_for_each_other(postgresql: Server) -> None:
    with new_database(postgresql) as database:
        issue = queued(database, 2)
        resend = Resend(of=issue.slug)

        def queue(slug: str) -> tuple[QueuedIssue, bool]:
            with database.transaction() as session:
                return issues.enqueue(
                    session, replace(EDITION, slug=slug, resend=resend), source_path="", at=AT
                )

        with database.transaction() as session:
            session.execute(text("SELECT id FROM issues FOR UPDATE"))
            with in_threads(lambda: queue("003-again")) as other:
                wait_until_blocked(database)
                session.commit()
            # Its clicks were not tracked; that shows once it is this one's turn.
            with pytest.raises(RefusedError, match="were not tracked"):
                other[0].result()


@pytest.mark.parametrize(
    ("backend", "people", "analysed"),
    [("sqlite", 1_000, False), ("postgresql", 999, False), ("postgresql", 1_000, True)],
)
def test_statistics_are_taken_of_a_large_audience_on_postgresql(
    tmp_path: Path, backend: str, people: int, analysed: bool, request: pytest.FixtureRequest
) -> None:
    seen: list[str] = []
    with contextlib.ExitStack() as stack:
        if backend == "sqlite":
            database = stack.enter_context(empty_database(tmp_path))
        else:
            database = stack.enter_context(new_database(request.getfixturevalue("postgresql")))
        event.listen(database.engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
        issue = queued(database, people)
        with database.reading() as session:
            assert session.get_one(StoredIssue, issue.id).audience == people
    assert ("ANALYZE deliveries" in seen) is analysed
