"""What claiming, settling and releasing deliveries return, and which of them are meant."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, update

from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, SubscriberTag, TableRow
from mailer.delivery import control, queue, runs
from mailer.delivery.canary import Findings
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.judging import Decision
from mailer.delivery.queue import PENDING_UNTIL, Claimed, Settled, Taken
from mailer.errors import MailerError
from mailer.rendering.recipient import Recipient
from tests.delivery.scene import AT, delivery, queued

QUEUED, SENDING, SENT = DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.SENT
DEFERRED, FAILED = DeliveryState.DEFERRED, DeliveryState.FAILED
UNCERTAIN, SKIPPED = DeliveryState.UNCERTAIN, DeliveryState.SKIPPED
EARLIER = AT - timedelta(hours=1)


@pytest.fixture
def run_id(database: Database) -> int:
    """A run of an issue to seven people."""
    issue = queued(database, 7)
    with database.transaction() as connection:
        return runs.begin(connection, issue.id, at=AT)


def put(database: Database, subscriber_id: int, **values: Any) -> None:
    with database.transaction() as connection:
        this = update(Delivery).where(Delivery.c.subscriber_id == subscriber_id)
        connection.execute(this.values(values | {"state": values["state"].value}))


def stored(database: Database, subscriber_id: int) -> TableRow:
    with database.reading() as connection:
        return delivery(connection, 1, subscriber_id)


def test_claim_says_who_and_which_attempt_it_is(database: Database, run_id: int) -> None:
    put(database, 2, state=DEFERRED, due_at=AT, attempts=3, first_at=EARLIER)
    put(database, 3, state=DEFERRED, due_at=AT + timedelta(seconds=1), attempts=1, first_at=EARLIER)
    with database.transaction() as connection:
        tags = [(4, "b"), (4, "a"), (5, "c")]
        tagged = [{"subscriber_id": subscriber_id, "tag": tag} for subscriber_id, tag in tags]
        connection.execute(insert(SubscriberTag), tagged)
    with database.transaction() as connection:
        taken = queue.claim(connection, 1, run_id=run_id, limit=3, after=0, at=AT, resend_uncertain=False)
    assert [(one.recipient.subscriber_id, one.attempt, one.first_at) for one in taken.claimed] == [
        (2, 4, EARLIER),
        (1, 1, AT),
        (4, 1, AT),
    ]
    assert taken.claimed[2] == Claimed(
        Recipient(4, "s4@example.org", "Name 4", {}, ("a", "b")), "example.org", 1, AT, None
    )
    assert (taken.after, taken.skipped, taken.left) == (4, 0, Counter({"queued": 2, "deferred": 1}))
    with database.reading() as connection:
        assert queue.held(connection, 1, run_id) == {1, 2, 4}
    rows = [stored(database, n) for n in (1, 2)]
    assert [(row.state, row.attempts, row.run_id) for row in rows] == [
        ("sending", 1, run_id),
        ("sending", 4, run_id),
    ]
    assert [(row.first_at, row.changed_at) for row in rows] == [(AT, AT), (EARLIER, AT)]
    # Whoever finds nothing goes on from where they were.
    with database.transaction() as connection:
        taken = queue.claim(connection, 1, run_id=run_id, limit=3, after=7, at=AT, resend_uncertain=False)
    assert (taken.claimed, taken.after, taken.skipped, taken.left) == ([], 7, 0, Counter())


def test_claim_counts_those_who_may_no_longer_be_mailed(database: Database, run_id: int) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE subscribers SET status = 'unsubscribed' WHERE id = 2")
    with database.transaction() as connection:
        taken = queue.claim(connection, 1, run_id=run_id, limit=2, after=0, at=AT, resend_uncertain=False)
    assert [one.recipient.subscriber_id for one in taken.claimed] == [1]
    assert (taken.after, taken.skipped, taken.left) == (2, 1, Counter({"queued": 2}))
    gone = stored(database, 2)
    assert (gone.state, gone.reply, gone.changed_at, gone.due_at) == ("skipped", queue.OPTED_OUT, AT, None)


def test_settling_what_another_run_took_is_an_error(database: Database, run_id: int) -> None:
    for n, run in ((1, run_id), (2, run_id + 1)):
        put(database, n, state=SENDING, run_id=run)
    outcomes = [Settled(1, SENT), Settled(2, SENT), Settled(3, SENT)]
    with (
        pytest.raises(MailerError, match=r"^2 of 3 deliveries were taken by another run"),
        database.transaction() as connection,
    ):
        queue.settle(connection, 1, outcomes, run_id=run_id, at=AT)
    with database.transaction() as connection:
        queue.settle(connection, 1, outcomes[:1], run_id=run_id, at=AT)
        queue.settle(connection, 1, [], run_id=run_id, at=AT)


def test_late_outcomes_are_written_of_uncertain_deliveries_of_the_run(
    database: Database, run_id: int
) -> None:
    for n, state, run in (
        (1, UNCERTAIN, run_id), (2, UNCERTAIN, run_id + 1), (3, SENDING, run_id), (4, UNCERTAIN, run_id),
        (5, UNCERTAIN, run_id),
    ):  # fmt: skip
        put(database, n, state=state, run_id=run, due_at=AT)
    # Neither in order, nor all of them sent.
    outcomes = [Settled(n, SENT, code=250, reply="ok") for n in (4, 1, 2, 3)] + [Settled(5, DEFERRED)]
    with database.transaction() as connection:
        assert queue.settle_late(connection, 1, outcomes, run_id=run_id, at=AT) == 2
        assert queue.settle_late(connection, 1, outcomes[-1:], run_id=run_id, at=AT) == 0
    states = [stored(database, n).state for n in range(1, 6)]
    assert states == ["sent", "uncertain", "sending", "sent", "uncertain"]
    assert (stored(database, 1).code, stored(database, 1).due_at) == (250, None)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({}, QUEUED),
        ({"code": 451}, QUEUED),
        ({"due_at": AT}, UNCERTAIN),
        ({"due_at": AT, "code": 451}, DEFERRED),
        ({"due_at": AT, "bounce_class": "network"}, DEFERRED),
        ({"due_at": AT, "code": 451, "bounce_class": "other"}, DEFERRED),
    ],
)
@pytest.mark.parametrize(("attempts", "first_at"), [(1, None), (2, EARLIER)])
def test_released_delivery_is_what_it_was(
    database: Database,
    run_id: int,
    row: dict[str, Any],
    state: DeliveryState,
    attempts: int,
    first_at: object,
) -> None:
    put(database, 1, state=SENDING, run_id=run_id, attempts=attempts, first_at=EARLIER, **row)
    put(database, 2, state=SENDING, run_id=run_id, attempts=attempts, first_at=EARLIER)
    with database.transaction() as connection:
        assert queue.release(connection, 1, [1], run_id=run_id, at=AT) == Counter({state.value: 1})
        assert queue.release(connection, 1, [], run_id=run_id, at=AT) == Counter()
    one = stored(database, 1)
    assert (one.state, one.attempts, one.first_at, one.run_id) == (state.value, attempts - 1, first_at, None)
    assert stored(database, 2).state == "sending"


def test_refusals_that_are_decided_are_those_of_the_run(database: Database, run_id: int) -> None:
    for n, state, run in (
        (1, DEFERRED, run_id), (2, DEFERRED, run_id + 1), (3, FAILED, run_id), (4, DEFERRED, run_id),
    ):  # fmt: skip
        put(database, n, state=state, run_id=run, due_at=PENDING_UNTIL, first_at=EARLIER)
    with database.transaction() as connection:
        assert queue.fail_pending(connection, 1, [1, 2, 3], run_id=run_id, at=AT) == {1}
        assert queue.fail_pending(connection, 1, [], run_id=run_id, at=AT) == set()
        queue.retry_pending(connection, 1, [2, 3, 4], run_id=run_id, at=AT)
        queue.retry_pending(connection, 1, [], run_id=run_id, at=AT)
    found = [stored(database, n) for n in range(1, 5)]
    assert [one.state for one in found] == ["failed", "deferred", "failed", "deferred"]
    assert [one.due_at for one in found] == [None, PENDING_UNTIL, PENDING_UNTIL, AT]
    assert [one.first_at for one in found] == [EARLIER, EARLIER, EARLIER, None]


def test_recovered_delivery_is_due_now_or_when_it_is_said(database: Database, run_id: int) -> None:
    later = AT + timedelta(hours=1)
    put(database, 1, state=SENDING, run_id=run_id, code=451, enhanced="4.2.2", bounce_class="mailbox_full")
    put(database, 2, state=SENDING, run_id=run_id + 1)
    put(database, 3, state=DEFERRED, run_id=run_id, due_at=PENDING_UNTIL)
    put(database, 4, state=DEFERRED, run_id=run_id, due_at=EARLIER)
    with database.transaction() as connection:
        assert queue.recover(connection, 1, at=AT, run_id=run_id, due_at=later) == 1
        assert queue.recover(connection, 1, at=AT) == 1
    found = [stored(database, n) for n in range(1, 5)]
    assert [one.state for one in found] == ["uncertain", "uncertain", "deferred", "deferred"]
    assert [one.due_at for one in found] == [later, AT, AT, EARLIER]
    assert (found[0].code, found[0].enhanced, found[0].bounce_class) == (None, None, None)
    assert found[0].reply == "the run was interrupted after this delivery was claimed"
    assert [one.changed_at for one in found] == [AT, AT, AT, None]


def test_run_holds_what_it_claimed(database: Database, run_id: int) -> None:
    for n, state, run in ((1, SENDING, run_id), (2, SENDING, run_id + 1), (3, SENT, run_id)):
        put(database, n, state=state, run_id=run)
    with database.reading() as connection:
        assert [queue.held(connection, 1, run) for run in (run_id, run_id + 1, 99)] == [{1}, {2}, set()]
        assert queue.held(connection, 2, run_id) == set()
        asked: tuple[list[int], ...] = ([run_id], [99, run_id + 1], [99], [])
        assert [queue.holds_any(connection, 1, these) for these in asked] == [True, True, False, False]
        assert not queue.holds_any(connection, 2, [run_id])


@pytest.mark.parametrize(
    ("state", "code", "bounce_class", "reply", "again"),
    [
        (FAILED, None, None, "no name", True),
        (FAILED, 550, None, "no name", False),
        (FAILED, None, "network", "no name", False),
        (FAILED, None, None, None, False),
        (DEFERRED, None, None, "no name", False),
    ],
)
def test_uncomposed_is_what_failed_without_a_server(
    database: Database,
    run_id: int,
    state: DeliveryState,
    code: int | None,
    bounce_class: str | None,
    reply: str | None,
    again: bool,
) -> None:
    put(database, 1, state=state, code=code, bounce_class=bounce_class, reply=reply)
    with database.transaction() as connection:
        assert control.retry_uncomposed(connection, 1, at=AT) == int(again)
    assert stored(database, 1).state == (QUEUED if again else state).value


def test_what_other_processes_have_stored_means_the_same() -> None:
    assert datetime(9999, 1, 1, tzinfo=UTC) == PENDING_UNTIL


@pytest.mark.parametrize("kind", [Claimed, Decision, Findings, QueuedIssue, Settled, Taken])
def test_what_was_found_out_never_changes(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
