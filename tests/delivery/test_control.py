"""What changes the state of an issue, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, insert, select, text, update

from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    ScheduledIssue,
    StoredIssue,
)
from mailer.delivery import control, issues, runs
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from tests.changes import changes
from tests.connections import in_threads, new_database, wait_until_blocked
from tests.databases import recount
from tests.delivery.scene import AT, EDITION, queued
from tests.postgres import Server

LATER = AT + timedelta(hours=1)


def put(database: Database, state: DeliveryState, *, of: int | None = None) -> None:
    with database.transaction() as connection:
        these = update(Delivery) if of is None else update(Delivery).where(Delivery.c.subscriber_id == of)
        connection.execute(these.values(state=state.value))
        recount(connection)


def now(database: Database, issue: QueuedIssue) -> QueuedIssue:
    with database.reading() as connection:
        return issues.get(connection, issue.id)


def set_issue(database: Database, issue: QueuedIssue, **values: object) -> None:
    with database.transaction() as connection:
        connection.execute(update(StoredIssue).where(StoredIssue.c.id == issue.id).values(values))


@pytest.mark.parametrize("state", DeliveryState)
def test_only_some_states_are_retried(database: Database, state: DeliveryState) -> None:
    issue = queued(database, 3)
    put(database, state, of=2)
    with database.transaction() as connection:
        if state in (DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN):
            assert control.retry(connection, issue.id, state, at=AT) == 1
            assert control.retry(connection, issue.id, state, at=AT) == 0
        else:
            with pytest.raises(ValueError, match="not retried"):
                control.retry(connection, issue.id, state, at=AT)


@pytest.mark.parametrize("ended", [IssueState.FINISHED, IssueState.CANCELLED, IssueState.PAUSED])
@pytest.mark.parametrize("failed", [True, False])
def test_retry_reopens_an_issue_if_there_is_anything_to_retry(
    database: Database, ended: IssueState, failed: bool
) -> None:
    issue = queued(database, 2)
    put(database, DeliveryState.FAILED if failed else DeliveryState.SENT)
    set_issue(database, issue, state=ended.value, finished_at=AT, reason="x")
    with database.transaction() as connection:
        assert control.retry(connection, issue.id, DeliveryState.FAILED, at=LATER) == (2 if failed else 0)
    found = now(database, issue)
    if failed and ended is not IssueState.PAUSED:
        assert (found.state, found.finished_at, found.reason) == (IssueState.SENDING, None, "")
    else:
        assert (found.state, found.finished_at, found.reason) == (ended, AT, "x")


@pytest.mark.parametrize("state", IssueState)
def test_each_state_can_be_left_for_some(database: Database, state: IssueState) -> None:
    def changed(act: str) -> bool:
        set_issue(database, issue, state=state.value, reason="before")
        with database.transaction() as connection:
            done = control.pause(connection, issue.id, "why") if act == "pause" else control.resume(
                connection, issue.id
            )  # fmt: skip
        found = now(database, issue)
        if not done:
            assert (found.state, found.reason) == (state, "before")
        return done

    issue = queued(database, 1)
    assert changed("pause") is (state is IssueState.SENDING)
    assert changed("resume") is (state is IssueState.PAUSED)


@pytest.mark.parametrize("state", IssueState)
def test_all_but_a_finished_issue_is_cancelled(database: Database, state: IssueState) -> None:
    issue = queued(database, 6)
    put(database, DeliveryState.SENDING, of=1)
    put(database, DeliveryState.DEFERRED, of=2)
    put(database, DeliveryState.UNCERTAIN, of=3)
    set_issue(database, issue, state=state.value)
    with database.transaction() as connection:
        if state is IssueState.FINISHED:
            with pytest.raises(RefusedError, match="nothing left to cancel"):
                control.cancel(connection, issue.id, at=AT)
        else:
            assert control.cancel(connection, issue.id, at=AT) == 4
            assert control.cancel(connection, issue.id, at=AT) == 0
    if state is not IssueState.FINISHED:
        skipped = select(Delivery.c.subscriber_id).where(
            Delivery.c.state == "skipped", Delivery.c.reply == "cancelled"
        )
        with database.reading() as connection:
            assert connection.scalars(skipped.order_by(Delivery.c.subscriber_id)).all() == [2, 4, 5, 6]
        assert now(database, issue).state is IssueState.CANCELLED


def test_schedule_of_another_issue_keeps_none_open(database: Database) -> None:
    issue = queued(database, 1)
    put(database, DeliveryState.SENT)
    for slug, settled in (("002-other", True), (issue.slug, False)):
        with database.transaction() as connection:
            connection.execute(
                insert(ScheduledIssue).values(
                    slug=slug, source_path="", edition=EDITION.to_json(), due_at=AT, created_at=AT
                )
            )
            assert control.is_settled(connection, issue.id) is settled


def test_end_of_an_issue_is_announced_once(database: Database) -> None:
    issue = queued(database, 1)
    put(database, DeliveryState.SENT)

    def finish_twice(connection: Connection) -> None:
        assert control.finish(connection, issue.id, at=LATER)
        assert control.finish(connection, issue.id, at=LATER)

    found = changes(database, finish_twice)
    assert len(found["webhook_events: added issue.finished"]) == 1


@pytest.mark.parametrize("state", DeliveryState)
def test_issue_is_settled_when_nothing_is_open(database: Database, state: DeliveryState) -> None:
    issue = queued(database, 3)
    put(database, DeliveryState.SENT)
    put(database, state, of=2)
    is_open = state in (
        DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN
    )  # fmt: skip
    with database.transaction() as connection:
        assert control.is_settled(connection, issue.id) is not is_open
        assert control.finish(connection, issue.id, at=LATER) is not is_open
    found = now(database, issue)
    expected = (IssueState.SENDING, None) if is_open else (IssueState.FINISHED, LATER)
    assert (found.state, found.finished_at) == expected


@pytest.mark.parametrize("state", IssueState)
def test_only_an_issue_that_is_sent_finishes(database: Database, state: IssueState) -> None:
    issue = queued(database, 1)
    put(database, DeliveryState.SENT)
    set_issue(database, issue, state=state.value)
    with database.transaction() as connection:
        assert control.finish(connection, issue.id, at=LATER)
    expected = IssueState.FINISHED if state is IssueState.SENDING else state
    assert now(database, issue).state is expected


@pytest.mark.parametrize("state", IssueState)
@pytest.mark.parametrize("canary", [None, *CanaryState])
def test_issue_is_published_while_it_is_sent_and_after_its_canary(
    database: Database, state: IssueState, canary: CanaryState | None
) -> None:
    issue = queued(database, 1)
    set_issue(database, issue, state=state.value, canary=canary and canary.value)
    with database.transaction() as connection:
        control.publish(connection, issue.id, at=AT)
        control.publish(connection, issue.id, at=LATER)
    ready = state in (IssueState.SENDING, IssueState.FINISHED) and canary in (None, CanaryState.PASSED)
    found = now(database, issue)
    assert found.published_at == (AT if ready else None)
    assert found.members_only is (canary not in (None, CanaryState.PASSED))
    with database.reading() as connection:
        assert issues.progress(connection, issue.id) == (state, found.members_only, ready)


def test_step_of_a_sequence_is_not_withdrawn(database: Database) -> None:
    issue = queued(database, 1)
    set_issue(database, issue, sequence_id=1)
    with pytest.raises(RefusedError, match="step of a sequence"), database.transaction() as connection:
        control.withdraw(connection, issue.id)


@pytest.fixture
def shared(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def test_run_that_ends_waits_for_a_simultaneous_cancellation(shared: Database) -> None:
    issue = queued(shared, 2)

    def finish() -> bool:
        with shared.transaction() as connection:
            return control.finish(connection, issue.id, at=AT)

    with shared.transaction() as first:
        first.execute(update(StoredIssue).values(state=IssueState.CANCELLED.value))
        with in_threads(finish) as second:
            wait_until_blocked(shared)
            first.commit()
        assert second[0].result()
    with shared.reading() as connection:
        assert set(connection.scalars(select(Delivery.c.state))) == {"skipped"}


def test_run_that_ends_waits_for_no_other_run(shared: Database) -> None:
    issue = queued(shared, 2)
    with shared.transaction() as first, shared.transaction() as second:
        runs.begin(first, issue.id, at=AT)
        second.execute(text("SET LOCAL lock_timeout = '2s'"))
        assert not control.finish(second, issue.id, at=AT)
