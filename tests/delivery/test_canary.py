"""Only a canary's members are mailed until it has passed, and what came of them decides whether it does."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text, update

from mailer.config import Canary, DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    StoredReport,
)
from mailer.delivery import canary, control, issues
from mailer.delivery.canary import Findings, broken
from mailer.delivery.ending import Ending
from mailer.delivery.issues import QueuedIssue
from tests.delivery.scene import AT, EDITION, books, queued, recipients, run
from tests.postgres import Server


def led(database: Database, people: int, share: float, *seeds: str) -> QueuedIssue:
    """Queue an issue with a canary whose seeds were mailed already."""
    issue = queued(database, people)
    with database.transaction() as connection:
        canary.begin(connection, issue.id, share, seeds)
        canary.advance(connection, issue.id, CanaryState.SENDING)
        return issues.get(connection, issue.id)


def members(database: Database) -> set[int]:
    with database.reading() as connection:
        return set(connection.scalars(select(CanaryMember.c.subscriber_id)))


@pytest.mark.parametrize(
    ("people", "share", "expected"),
    [(100, 0.01, 1), (100, 0.1, 10), (101, 0.1, 11), (3, 0.001, 1), (5, 1.0, 5)],
)
def test_members_are_that_part_of_the_audience(
    database: Database, people: int, share: float, expected: int
) -> None:
    led(database, people, share)
    assert len(members(database)) == expected


def test_seeds_in_the_audience_are_members_and_the_others_strangers(database: Database) -> None:
    issue = led(database, 50, 0.02, "S7@example.org", "s9@example.org", "me@example.com")
    assert {7, 9} <= members(database)
    assert len(members(database)) <= 3
    with database.reading() as connection:
        asked = ["S7@example.org", "me@example.com"]
        assert canary.strangers(connection, issue.id, asked) == ["me@example.com"]


def test_one_machine_sends_to_the_seeds(postgresql: Server) -> None:
    with Database(postgresql.new_database()) as database:
        database.open()
        issue = queued(database, 2)
        with database.transaction() as connection:
            canary.begin(connection, issue.id, 0.5, ())
        with database.transaction() as connection, database.transaction() as other:
            other.execute(text("SET LOCAL lock_timeout = '2s'"))
            assert canary._alone(connection, issue.id)
            assert not canary._alone(other, issue.id)
        with database.transaction() as connection:
            canary.advance(connection, issue.id, CanaryState.SENDING)
            assert not canary._alone(connection, issue.id)


def test_only_members_are_mailed_until_it_has_passed(database: Database, tmp_path: Path) -> None:
    issue = led(database, 60, 0.1)
    ended = run(database, issue, tmp_path / "box")
    assert (ended.ending, ended.books.sent, ended.books.queued) == (Ending.WAITING, 6, 54)
    assert recipients(tmp_path / "box") == sorted(f"s{n}@example.org" for n in members(database))
    for state in (CanaryState.WAITING, CanaryState.STOPPED):
        with database.transaction() as connection:
            canary.advance(connection, issue.id, state)
        assert run(database, issue, tmp_path / "box").books.sent == 6
    with database.transaction() as connection:
        canary.advance(connection, issue.id, CanaryState.PASSED)
    ended = run(database, issue, tmp_path / "box")
    assert (ended.ending, ended.books.sent) == (Ending.FINISHED, 60)
    assert len(recipients(tmp_path / "box")) == 60


def test_findings_count_what_became_of_the_members(database: Database, tmp_path: Path) -> None:
    issue = led(database, 40, 0.25)
    run(database, issue, tmp_path / "box")
    mine = sorted(members(database))
    with database.transaction() as connection:
        for number, state in ((mine[0], DeliveryState.FAILED), (mine[1], DeliveryState.FAILED),
                              (mine[2], DeliveryState.DEFERRED)):  # fmt: skip
            connection.execute(
                update(Delivery).where(Delivery.c.subscriber_id == number).values(state=state.value)
            )
        for number in (mine[3], mine[3], mine[4]):
            report(connection, issue.id, number)
    with database.reading() as connection:
        assert canary.findings(connection, issue.id) == Findings(10, 10, 2, 1, 2)


def report(connection: Connection, issue_id: int, subscriber_id: int, kind: str = "complaint") -> None:
    connection.execute(
        insert(StoredReport).values(
            received_at=AT, source="test", digest=secrets.token_hex(32), raw=b"", kind=kind,
            outcome="applied", issue_id=issue_id, subscriber_id=subscriber_id, details={},
        )
    )  # fmt: skip


def test_only_complaints_of_members_about_this_issue_count(database: Database) -> None:
    issue = led(database, 40, 0.25)
    mine = sorted(members(database))
    (stranger, *_) = sorted(set(range(1, 41)) - set(mine))
    with database.transaction() as connection:
        # Everybody was in the canary of last week's issue, and complaints about it still come in.
        last_week, _ = issues.enqueue(connection, replace(EDITION, slug="000-before"), source_path="", at=AT)
        canary.begin(connection, last_week.id, 1.0, ())
        for number in mine[:4]:
            report(connection, last_week.id, number)
        report(connection, issue.id, stranger)
        report(connection, issue.id, mine[5], kind="bounce")
    with database.reading() as connection:
        assert canary.findings(connection, issue.id).complained == 0
    with database.transaction() as connection:
        report(connection, issue.id, mine[6])
    with database.reading() as connection:
        assert canary.findings(connection, issue.id).complained == 1


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Findings(1000, 1000, 20, 200, 1), ""),
        (Findings(1000, 1000, 21, 0, 0), "21 of 1,000 bounced (2.1%, the limit is 2.0%)"),
        (Findings(1000, 500, 11, 0, 0), "11 of 500 bounced (2.2%"),
        (Findings(1000, 1000, 0, 201, 0), "201 of 1,000 were refused for now"),
        (Findings(1000, 1000, 0, 0, 2), "2 of 1,000 complained (0.2%, the limit is 0.1%)"),
        (Findings(10, 10, 1, 1, 1), ""),
        (Findings(10, 0, 0, 0, 0), ""),
        (Findings(10, 10, 2, 0, 2), "2 of 10 bounced (20.0%, the limit is 2.0%); 2 of 10 complained"),
    ],
)
def test_limits_are_shares_of_those_tried_and_one_alone_breaks_none(found: Findings, said: str) -> None:
    told = broken(found, Canary())
    assert said in told
    assert bool(said) == bool(told)


def test_stop_pauses_the_issue_and_resume_lets_it_pass(database: Database, tmp_path: Path) -> None:
    issue = led(database, 30, 0.1)
    with database.transaction() as connection:
        assert canary.stop(connection, issue.id, "too many bounced")
    with database.reading() as connection:
        now = issues.get(connection, issue.id)
    assert (now.state, now.reason, now.canary) == (IssueState.PAUSED, "too many bounced", CanaryState.STOPPED)
    with database.transaction() as connection:
        assert control.resume(connection, issue.id)
    assert run(database, issue, tmp_path / "box").books.sent == 30


def test_resume_after_an_ordinary_pause_keeps_the_canary(database: Database) -> None:
    issue = led(database, 30, 0.1)
    with database.transaction() as connection:
        control.pause(connection, issue.id, "paused by the operator")
        control.resume(connection, issue.id)
        assert issues.get(connection, issue.id).canary is CanaryState.SENDING


def test_canary_of_a_paused_issue_is_not_stopped_behind_the_operators_back(database: Database) -> None:
    issue = led(database, 30, 0.1)
    with database.transaction() as connection:
        canary.advance(connection, issue.id, CanaryState.WAITING, until=AT)
        control.pause(connection, issue.id, "paused by the operator")
        assert not canary.stop(connection, issue.id, "too many bounced")
        now = issues.get(connection, issue.id)
    assert (now.reason, now.canary) == ("paused by the operator", CanaryState.WAITING)


def test_only_a_waiting_canary_is_hurried(database: Database) -> None:
    issue = led(database, 30, 0.1)
    with database.transaction() as connection:
        assert not canary.hurry(connection, issue.id)
        canary.advance(connection, issue.id, CanaryState.WAITING, until=AT)
        control.pause(connection, issue.id, "by the operator")
        assert not canary.hurry(connection, issue.id)
        assert issues.get(connection, issue.id).canary is CanaryState.WAITING
        control.resume(connection, issue.id)
        assert canary.hurry(connection, issue.id)
        assert issues.get(connection, issue.id).canary is CanaryState.PASSED


def test_retries_are_not_waited_for_while_it_leads(database: Database, tmp_path: Path) -> None:
    issue = led(database, 20, 0.5)
    settings = DeliverySettings(window=20, wait_for_retries=True)
    ended = run(
        database, issue, tmp_path / "box", settings=settings, answer=lambda recipient: "450 4.2.0 Not now"
    )
    assert (ended.ending, ended.books.deferred, ended.books.queued) == (Ending.WAITING, 10, 10)
    assert books(database, issue).sent == 0
