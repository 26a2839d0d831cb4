"""Two runs on one queue: no delivery is claimed twice, and none is settled by the wrong run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text, update

from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, Run
from mailer.delivery import control, issues, queue, runs
from mailer.delivery.bookkeeping import RunBooks
from mailer.delivery.clock import Clock
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.queue import Settled
from mailer.errors import MailerError, TakenOverError
from tests.connections import in_threads, new_database, wait_until_blocked
from tests.delivery.scene import AT, books, delivery, learn_nothing, queued, run
from tests.postgres import Server

LATER = AT + timedelta(minutes=3)


@pytest.fixture
def shared(postgresql: Server) -> Iterator[Database]:
    """An empty PostgreSQL database: SQLite has one writer at a time, so nothing overlaps there."""
    with new_database(postgresql) as database:
        yield database


def begin_run(connection: Connection, issue: QueuedIssue) -> int:
    return runs.begin(connection, issue.id, at=AT)


def claim(connection: Connection, issue: QueuedIssue, run_id: int, limit: int, after: int = 0) -> list[int]:
    taken = queue.claim(
        connection, issue.id, run_id=run_id, limit=limit, after=after, at=AT, resend_uncertain=True
    )
    return [one.recipient.subscriber_id for one in taken.claimed]


def states(database: Database) -> dict[int, str]:
    with database.reading() as connection:
        rows = connection.execute(select(Delivery.c.subscriber_id, Delivery.c.state))
        return {row[0]: row[1] for row in rows}


def test_delivery_of_another_run_is_not_settled(database: Database) -> None:
    issue = queued(database, 3)
    with database.transaction() as connection:
        mine, other = begin_run(connection, issue), begin_run(connection, issue)
        assert claim(connection, issue, mine, 2) == [1, 2]
        assert claim(connection, issue, other, 1, after=2) == [3]
    with (
        pytest.raises(MailerError, match=r"^1 of 2 deliveries were taken by another run$"),
        database.transaction() as connection,
    ):
        outcomes = [Settled(1, DeliveryState.SENT), Settled(3, DeliveryState.SENT)]
        queue.settle(connection, issue.id, outcomes, run_id=mine, at=LATER)
    assert states(database) == dict.fromkeys((1, 2, 3), "sending")


@pytest.mark.parametrize("state", [state for state in DeliveryState if state is not DeliveryState.SENDING])
def test_delivery_that_is_not_on_its_way_is_not_settled(database: Database, state: DeliveryState) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        mine = begin_run(connection, issue)
        claim(connection, issue, mine, 1)
        connection.execute(update(Delivery).values(state=state.value))
    with pytest.raises(MailerError, match=r"^1 of 1 deliveries"), database.transaction() as connection:
        queue.settle(connection, issue.id, [Settled(1, DeliveryState.SENT)], run_id=mine, at=LATER)
    assert states(database) == {1: state.value}


def test_each_delivery_gets_its_own_outcome(database: Database) -> None:
    replies = [
        None,
        "",
        "null",
        "NULL",
        '"',
        "\\",
        "\\n",
        "a\nb\tc",
        "{1,2}",
        "[1]",
        "ü 🌱 \u2028",
        "%s :x",
        "'",
    ]
    issue = queued(database, len(replies))
    outcomes = [
        Settled(
            number,
            DeliveryState.DEFERRED if number % 3 else DeliveryState.SENT,
            due_at=LATER + timedelta(microseconds=number) if number % 3 else None,
            code=number % 2 or None,
            enhanced=f"4.{number}.0" if number % 4 else None,
            reply=reply,
            bounce_class="full" if number % 5 else None,
        )
        for number, reply in enumerate(replies, 1)
    ]
    with database.transaction() as connection:
        run_id = begin_run(connection, issue)
        claim(connection, issue, run_id, len(replies))
        queue.settle(connection, issue.id, [*outcomes[5:], *outcomes[:5]], run_id=run_id, at=AT)
        found = connection.execute(
            select(
                Delivery.c.subscriber_id, Delivery.c.state, Delivery.c.due_at, Delivery.c.code,
                Delivery.c.enhanced, Delivery.c.reply, Delivery.c.bounce_class,
            ).order_by(Delivery.c.subscriber_id)
        ).all()  # fmt: skip
    assert [tuple(row) for row in found] == [
        (one.subscriber_id, one.state.value, one.due_at, one.code, one.enhanced, one.reply, one.bounce_class)
        for one in outcomes
    ]


def test_claim_takes_no_more_than_its_limit(database: Database) -> None:
    issue = queued(database, 10)
    with database.transaction() as connection:
        mine = begin_run(connection, issue)
        claim(connection, issue, mine, 4)
        put_off = [Settled(n, DeliveryState.DEFERRED, due_at=AT, code=451) for n in (1, 2, 3)]
        queue.settle(connection, issue.id, put_off, run_id=mine, at=AT)
        # Three retries are due, and queued ones fill what is left of the limit.
        assert claim(connection, issue, mine, 5, after=4) == [1, 2, 3, 5, 6]
        assert claim(connection, issue, mine, 0, after=6) == []
    assert books(database, issue).sending == 6


def test_retries_due_at_the_same_instant_are_claimed_in_the_order_of_their_ids(database: Database) -> None:
    issue = queued(database, 5)
    with database.transaction() as connection:
        mine = begin_run(connection, issue)
        claim(connection, issue, mine, 5)
    # PostgreSQL keeps the newest version of a row behind all others.
    for n in (4, 2, 5, 1, 3):
        with database.transaction() as connection:
            put_off = Settled(n, DeliveryState.DEFERRED, due_at=AT, code=451)
            queue.settle(connection, issue.id, [put_off], run_id=mine, at=AT)
    with database.transaction() as connection:
        assert claim(connection, issue, mine, 3, after=5) == [1, 2, 3]


def test_ended_run_has_the_time_of_its_end(database: Database) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        ended, going_on = begin_run(connection, issue), begin_run(connection, issue)
        runs.end(connection, ended, at=LATER)
    with database.reading() as connection:
        every = select(Run.c.id, Run.c.started_at, Run.c.ended_at).order_by(Run.c.id)
        assert connection.execute(every).all() == [(ended, AT, LATER), (going_on, AT, None)]


def test_run_notes_its_own_end(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 3)
    run(database, issue, tmp_path / "box", clock=lambda: LATER)
    with database.reading() as connection:
        assert connection.scalars(select(Run.c.ended_at)).all() == [LATER]


@pytest.mark.parametrize("state", [IssueState.PAUSED, IssueState.CANCELLED])
def test_nothing_is_claimed_of_an_issue_that_is_not_sent(
    database: Database, tmp_path: Path, state: IssueState
) -> None:
    issue = queued(database, 30)
    with database.transaction() as connection:
        if state is IssueState.PAUSED:
            control.pause(connection, issue.id, "by the operator")
        else:
            control.cancel(connection, issue.id, at=AT)
    columns = select(Delivery.c.state, Delivery.c.attempts, Delivery.c.first_at, Delivery.c.changed_at)
    with database.reading() as connection:
        before = connection.execute(columns).all()
    run(database, issue, tmp_path / "box", clock=lambda: LATER)
    with database.reading() as connection:
        assert connection.execute(columns).all() == before


def test_runs_that_claim_at_the_same_time_get_different_deliveries(shared: Database) -> None:
    issue = queued(shared, 6)
    with shared.transaction() as connection:
        first, second = begin_run(connection, issue), begin_run(connection, issue)
    with shared.transaction() as one, shared.transaction() as other:
        other.execute(text("SET LOCAL lock_timeout = '5s'"))
        assert claim(one, issue, first, 3) == [1, 2, 3]
        # The first transaction is open still: what it took is passed over, not waited for.
        assert claim(other, issue, second, 4) == [4, 5, 6]
    with shared.reading() as connection:
        rows = connection.execute(
            select(Delivery.c.run_id, Delivery.c.attempts).order_by(Delivery.c.subscriber_id)
        )
        assert [tuple(row) for row in rows] == [(first, 1)] * 3 + [(second, 1)] * 3


def test_due_retries_claimed_at_the_same_time_are_different_ones(shared: Database) -> None:
    issue = queued(shared, 4)
    with shared.transaction() as connection:
        first, second = begin_run(connection, issue), begin_run(connection, issue)
        claim(connection, issue, first, 4)
        queue.recover(connection, issue.id, at=AT, run_id=first)
    with shared.transaction() as one, shared.transaction() as other:
        other.execute(text("SET LOCAL lock_timeout = '5s'"))
        assert claim(one, issue, first, 2) == [1, 2]
        assert claim(other, issue, second, 4) == [3, 4]


@pytest.mark.parametrize("state", [DeliveryState.QUEUED, DeliveryState.DEFERRED])
def test_what_a_cancelled_run_gives_back_is_skipped(database: Database, state: DeliveryState) -> None:
    issue = queued(database, 3)
    with database.transaction() as connection:
        mine = begin_run(connection, issue)
        if state is DeliveryState.DEFERRED:
            claim(connection, issue, mine, 1)
            put_off = Settled(1, DeliveryState.DEFERRED, due_at=AT, code=451)
            queue.settle(connection, issue.id, [put_off], run_id=mine, at=AT)
        assert claim(connection, issue, mine, 1) == [1]
        assert control.cancel(connection, issue.id, at=AT) == 2
        assert queue.release(connection, issue.id, [1], run_id=mine, at=LATER) == {state.value: 1}
        assert control.finish(connection, issue.id, at=LATER)
        row = delivery(connection, issue.id, 1)
        assert (row.state, row.due_at, row.changed_at, row.reply) == ("skipped", None, LATER, "cancelled")
        assert issues.get(connection, issue.id).state is IssueState.CANCELLED


def test_nothing_waits_after_a_run_ends_during_a_cancel(shared: Database) -> None:
    issue = queued(shared, 3)
    with shared.transaction() as connection:
        mine = begin_run(connection, issue)
        claim(connection, issue, mine, 2)

    def cancel() -> None:
        with shared.transaction() as connection:
            control.cancel(connection, issue.id, at=AT)

    with shared.transaction() as ending:
        queue.release(ending, issue.id, [1, 2], run_id=mine, at=AT)
        assert not control.finish(ending, issue.id, at=AT)
        # The operator cancels before the run has committed: that waits, and sees what was given back.
        with in_threads(cancel) as done:
            wait_until_blocked(shared)
            ending.commit()
        done[0].result()
    assert states(shared) == dict.fromkeys((1, 2, 3), "skipped")


def test_runs_that_end_at_the_same_time_do_not_wait_for_each_other_in_a_circle(shared: Database) -> None:
    issue = queued(shared, 2)
    with shared.transaction() as connection:
        both = [begin_run(connection, issue) for _ in range(2)]
    with shared.transaction() as one, shared.transaction() as other:
        for connection, run_id in zip((one, other), both, strict=True):
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            # Changing the row of a run twice locks the key of its issue.
            assert runs.confirm(connection, run_id, commits=0, silent_seconds=10)
            runs.end(connection, run_id, at=LATER)
        assert not control.finish(one, issue.id, at=LATER)
        one.commit()
        assert not control.finish(other, issue.id, at=LATER)


@pytest.mark.parametrize("state", [state for state in DeliveryState if state is not DeliveryState.SENDING])
def test_run_that_was_taken_over_still_says_what_it_sent(shared: Database, state: DeliveryState) -> None:
    """One sent, one refused, one given back and one sent again by the run that took over."""
    issue = queued(shared, 4)
    cut_off = RunBooks(
        shared, issue.id, DeliverySettings(window=4), learn=learn_nothing, clock=Clock(now=lambda: AT)
    )

    async def lose_the_database() -> None:
        cut_off.begin(recover=True)
        await cut_off.commit(4, frozenset())
        for number in (1, 2, 4):
            cut_off.window.end(number)
        cut_off.unwritten.outcomes += [
            Settled(1, DeliveryState.SENT, code=250, reply="250 queued"),
            Settled(2, state, code=550),
            Settled(4, DeliveryState.SENT, code=250),
        ]

    asyncio.run(lose_the_database())
    with shared.transaction() as connection:
        assert runs.end_dead(connection, at=AT, dead_seconds=0.0) == []
        other = begin_run(connection, issue)
        connection.execute(text("UPDATE deliveries SET due_at = due_at + 1 WHERE subscriber_id <> 4"))
        assert claim(connection, issue, other, 1) == [4]
    with pytest.raises(TakenOverError):
        cut_off.end("")
    sent_too = DeliveryState.SENT if state is DeliveryState.SENT else DeliveryState.UNCERTAIN
    assert states(shared) == {1: "sent", 2: sent_too.value, 3: "uncertain", 4: "sending"}
    with shared.transaction() as connection:
        queue.settle(connection, issue.id, [Settled(4, DeliveryState.SENT)], run_id=other, at=LATER)
    assert books(shared, issue).sent == 2 + (state is DeliveryState.SENT)


def test_silent_run_may_say_what_it_sent_before_anybody_gets_it_again(shared: Database) -> None:
    seconds = 1.0
    with shared.transaction() as connection:
        # Nobody was silent before the server began.
        connection.execute(text("SELECT pg_sleep_until(pg_postmaster_start_time() + interval '1 second')"))
    issue = queued(shared, 2)
    now = AT
    heir = RunBooks(
        shared,
        issue.id,
        DeliverySettings(window=4),
        learn=learn_nothing,
        clock=Clock(now=lambda: now, dead_seconds=seconds),
    )
    with shared.transaction() as connection:
        silent = begin_run(connection, issue)
        assert claim(connection, issue, silent, 2) == [1, 2]
        connection.execute(text("UPDATE runs SET seen_at = seen_at - 60000000, place = 'elsewhere'"))
    heir.begin(recover=False)
    with shared.transaction() as connection:
        connection.execute(text("UPDATE runs SET seen_at = seen_at + 60000000 WHERE place <> 'elsewhere'"))
        assert [run.id for run in runs.end_dead(connection, at=AT, dead_seconds=seconds)] == [silent + 1]
        assert claim(connection, issue, silent + 1, 2) == []
    assert states(shared) == {1: "uncertain", 2: "uncertain"}
    assert heir.others_hold_some()
    with shared.transaction() as connection:
        sent = [Settled(1, DeliveryState.SENT)]
        assert queue.settle_late(connection, issue.id, sent, run_id=silent, at=AT) == 1
    now = AT + timedelta(seconds=2 * seconds)
    assert heir.next_due(frozenset()) == now
    assert heir.others_hold_some()
    with shared.transaction() as connection:
        taken = queue.claim(
            connection, issue.id, run_id=silent + 1, limit=2, after=0, at=now, resend_uncertain=True
        )
    assert [one.recipient.subscriber_id for one in taken.claimed] == [2]
    assert not heir.others_hold_some()
    heir.end("")
