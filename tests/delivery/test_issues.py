"""What queueing an issue stores, and what looking it up finds."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, event, insert, select, text, update

from mailer.database.engine import Database
from mailer.database.tables import (
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
    with database.transaction() as connection:
        made, new = issues.enqueue(
            connection,
            frozen,
            source_path="issues/7.md",
            at=AT,
            segment="tag:a",
            condition=Subscriber.c.id > 1,
        )
        stored = connection.execute(select(StoredIssue)).one()
        assert (stored.id, stored.source_path, stored.audience) == (made.id, "issues/7.md", 2)
        edition = connection.execute(select(StoredEdition)).one()
        assert (edition.digest, edition.created_at) == (frozen.digest, AT)
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
    with database.transaction() as connection:
        # It keeps its edition and its audience.
        again = issues.enqueue(connection, replace(frozen, title="Later"), source_path="", at=LATER)
        assert again == (expected, False)
        assert connection.scalars(
            select(Delivery.c.subscriber_id).order_by(Delivery.c.subscriber_id)
        ).all() == [
            2,
            3,
        ]
        assert issues.edition(connection, made.edition_digest) == frozen
        assert issues.queued_at(connection, made.id) == AT
        connection.execute(update(StoredIssue).values(sequence_id=5))
        assert issues.queued_at(connection, made.id) is None


def test_issue_is_found_as_it_is_stored(database: Database) -> None:
    issue = queued(database, 1)
    values = {
        "state": "paused", "reason": "lunch", "segment": "tag:a", "canary": "waiting", "resend_of": 7,
        "sequence_id": 8,
        **{name: AT + timedelta(days=number) for number, name in enumerate(
            ("dated_at", "created_at", "finished_at", "published_at", "canary_until")
        )},
    }  # fmt: skip
    with database.transaction() as connection:
        connection.execute(update(StoredIssue).values(values))
    expected = msgspec.structs.replace(
        issue, **values | {"state": IssueState.PAUSED, "canary": CanaryState.WAITING}
    )
    with database.reading() as connection:
        assert issues.get(connection, issue.id) == expected
        assert issues.find(connection, issue.slug) == expected
        assert issues.named(connection, "1") == expected
        assert issues.issues(connection) == [expected]


@pytest.mark.parametrize("keep", [False, True])
def test_schedule_goes_unless_other_zones_wait(database: Database, keep: bool) -> None:
    subscribe(database, 1)
    with database.transaction() as connection:
        for slug in (EDITION.slug, "002-next"):
            schedule = insert(ScheduledIssue).values(slug=slug, source_path="", edition="")
            connection.execute(schedule.values(due_at=AT, created_at=AT))
    with database.transaction() as connection:
        if keep:
            issues.enqueue(connection, EDITION, source_path="", at=AT, keep_schedule=True)
        else:
            issues.enqueue(connection, EDITION, source_path="", at=AT)
        left = connection.scalars(select(ScheduledIssue.c.slug).order_by(ScheduledIssue.c.id)).all()
    assert left == ([EDITION.slug, "002-next"] if keep else ["002-next"])


def test_edition_that_was_changed_in_the_database_is_not_sent(database: Database) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        stored = update(StoredEdition).where(StoredEdition.c.digest == issue.edition_digest)
        connection.execute(stored.values(content=replace(EDITION, title="Another").to_json()))
    said = f"the stored edition {issue.edition_digest[:12]} was changed after it was frozen"
    with pytest.raises(MailerError, match=f"^{said};"), database.reading() as connection:
        issues.edition(connection, issue.edition_digest)


def test_edition_is_stored_once(database: Database) -> None:
    with database.transaction() as connection:
        assert issues.freeze(connection, EDITION, at=AT) == issues.freeze(connection, EDITION, at=LATER)
        assert connection.scalars(select(StoredEdition.c.created_at)).all() == [AT]


def test_edition_is_numbered_from_one(database: Database) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        assert issues.edition_number(connection, issue.id) == 1
        replaced = {"issue_id": issue.id, "digest": issue.edition_digest, "replaced_at": AT}
        connection.execute(insert(ReplacedEdition), [{**replaced, "number": number} for number in (1, 2)])
        assert issues.edition_number(connection, issue.id) == 3


def test_nothing_was_ever_queued(database: Database) -> None:
    with database.reading() as connection:
        assert issues.find(connection, "7") is None
        assert issues.issues(connection) == []
        with pytest.raises(SourceError, match=r"^no issue '7' was ever queued; list the drafts with"):
            issues.named(connection, "7")


def test_latest_five_issues_are_named(database: Database) -> None:
    with database.transaction() as connection:
        for number in range(1, 7):
            issues.enqueue(connection, replace(EDITION, slug=f"00{number}-x"), source_path="", at=AT)
        latest = "006-x, 005-x, 004-x, 003-x, 002-x"
        with pytest.raises(SourceError, match=f"the latest are: {latest}$"):
            issues.named(connection, "9")
        assert issues.issues(connection)[0].slug == "006-x"
        assert issues.named(connection, "4").slug == "004-x"
        # One whose whole name is given, though others begin with it as a number.
        issues.enqueue(connection, replace(EDITION, slug="4"), source_path="", at=AT)
        assert issues.named(connection, "4").slug == "4"


def audience_of(connection: Connection, issue: QueuedIssue) -> int | None:
    return connection.scalar(select(StoredIssue.c.audience).where(StoredIssue.c.id == issue.id))


def paused(connection: Connection, until: datetime) -> None:
    connection.execute(update(Subscriber).where(Subscriber.c.id == 2).values(paused_until=until))


def suppressed(connection: Connection, key: str) -> None:
    connection.execute(insert(Suppression).values(address_key=key, reason="complaint", at=AT))


@pytest.mark.parametrize(
    ("act", "mailed"),
    [
        (lambda c: None, True),
        (lambda c: paused(c, AT), True),
        (lambda c: paused(c, AT - timedelta(seconds=1)), True),
        (lambda c: paused(c, AT + timedelta(seconds=1)), False),
        (lambda c: suppressed(c, "s2@example.org"), False),
        (lambda c: suppressed(c, "x@example.org"), True),
        (lambda c: c.execute(update(Subscriber).where(Subscriber.c.id == 2).values(status="pending")), False),
    ],
)
def test_audience_are_those_who_may_be_mailed(database: Database, act: object, mailed: bool) -> None:
    subscribe(database, 3)
    with database.transaction() as connection:
        act(connection)  # type: ignore[operator]
    with database.transaction() as connection:
        assert issues.count_audience(connection, None, at=AT) == (3 if mailed else 2)
        assert issues.count_audience(connection, Subscriber.c.id == 2, at=AT) == int(mailed)
        issue, _ = issues.enqueue(connection, EDITION, source_path="", at=AT)
        assert audience_of(connection, issue) == (3 if mailed else 2)


@pytest.mark.parametrize("state", [None, *CanaryState])
def test_members_alone_are_mailed_until_the_canary_has_passed(
    database: Database, state: CanaryState | None
) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        connection.execute(update(StoredIssue).values(canary=state and state.value, published_at=AT))
    with database.reading() as connection:
        found, progress = issues.get(connection, issue.id), issues.progress(connection, issue.id)
    members_only = state not in (None, CanaryState.PASSED)
    assert (found.canary, found.members_only) == (state, members_only)
    assert progress == (IssueState.SENDING, members_only, True)


def test_issue_with_arms_begins_with_its_test(database: Database) -> None:
    subscribe(database, 4)
    tested = replace(EDITION, arms=(replace(EDITION, subject="Other"),), test=ABTest(share=0.5))
    with database.transaction() as connection:
        issue, _ = issues.enqueue(connection, tested, source_path="", at=AT)
        assert issue.canary is CanaryState.SENDING


def test_step_of_a_sequence_is_no_issue(database: Database) -> None:
    subscribe(database, 1)
    with (
        pytest.raises(RefusedError, match="001-hello is a step of a sequence, because it has 'after'"),
        database.transaction() as connection,
    ):
        issues.enqueue(connection, replace(EDITION, step=True), source_path="", at=AT)


def test_two_resends_of_an_issue_wait_for_each_other(postgresql: Server) -> None:
    with new_database(postgresql) as database:
        issue = queued(database, 2)
        resend = Resend(of=issue.slug)

        def queue(slug: str) -> tuple[QueuedIssue, bool]:
            with database.transaction() as connection:
                return issues.enqueue(
                    connection, replace(EDITION, slug=slug, resend=resend), source_path="", at=AT
                )

        with database.transaction() as connection:
            connection.execute(text("SELECT id FROM issues FOR UPDATE"))
            with in_threads(lambda: queue("003-again")) as other:
                wait_until_blocked(database)
                connection.commit()
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
        with database.reading() as connection:
            assert audience_of(connection, issue) == people
    assert ("ANALYZE deliveries" in seen) is analysed
