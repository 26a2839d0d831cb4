"""A run: nobody lost, nobody twice, nobody after opting out, and books that balance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, select, update

from mailer.audience.ledger import unsubscribe
from mailer.audience.transitions import Origin
from mailer.config import DeliverySettings, section
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, StoredIssue
from mailer.delivery import control, issues
from mailer.delivery.books import Books
from mailer.delivery.ending import Ending
from mailer.delivery.queue import PENDING_UNTIL
from mailer.delivery.sender import Sender
from mailer.delivery.waiting import next_due
from mailer.rehearsal.script import Script
from mailer.replies import Refusal, ReplyClass
from tests.delivery.scene import AT, books, delivery, queued, recipients, run, subscribe


def everyone(number: int) -> list[str]:
    return sorted(f"s{n}@example.org" for n in range(1, number + 1))


def test_everybody_gets_it_once(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 130)
    ended = run(database, issue, tmp_path / "out")
    assert ended.ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == everyone(130)
    assert books(database, issue) == Books(130, 0, 0, 130, 0, 0, 0, 0) == ended.books


def test_second_run_emails_nobody(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 30)
    run(database, issue, tmp_path / "out")
    assert run(database, issue, tmp_path / "out").ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == everyone(30)


def test_later_subscribers_are_not_in_the_audience(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 5)
    subscribe(database, 5, first=6)
    run(database, issue, tmp_path / "out")
    assert recipients(tmp_path / "out") == everyone(5)


@pytest.mark.parametrize("window", [1, 3, 20])
def test_never_more_than_a_window_is_on_its_way(database: Database, tmp_path: Path, window: int) -> None:
    # With a small window there are more connections than it has room for.
    issue = queued(database, 200 if window == 20 else 40)
    seen: list[int] = []

    def look(known: Books, sender: Sender) -> None:
        seen.append(books(database, issue).sending)
        assert known.balanced

    settings = DeliverySettings(window=window)
    ended = run(database, issue, tmp_path / "out", settings=settings, meanwhile=look)
    assert ended.ending is Ending.FINISHED
    assert 0 < max(seen) <= window


def test_each_claim_takes_half_a_window(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 1_000)
    claims: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "UPDATE deliveries SET state=" in statement and "attempts + " in statement:
            claims.append(statement)

    ended = run(database, issue, tmp_path / "out", settings=DeliverySettings(window=100))
    assert ended.books.sent == 1_000
    # Fewer and larger claims cost less, and the connections don't run dry during one. Now and then the
    # window has less room.
    assert 20 <= len(claims) <= 23


def test_opt_out_in_the_middle_is_not_mailed_after_that_commit(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 200)
    left: set[str] = set()

    def opt_out(known: Books, sender: Sender) -> None:
        if known.sent < 20 or left:
            return
        had = set(recipients(tmp_path / "out"))
        with database.transaction() as connection:
            for n in range(1, 201):
                # Also those that are claimed already but have not left yet; what was handed to a
                # connection (one being sent and one ahead, on each of four) had begun before.
                if f"s{n}@example.org" not in had:
                    unsubscribe(connection, n, origin=Origin("one-click"), at=AT)
                    left.add(f"s{n}@example.org")

    run(database, issue, tmp_path / "out", meanwhile=opt_out)
    assert len(left) > 100
    mailed_after = left & set(recipients(tmp_path / "out"))
    # On PostgreSQL, those claimed before (a window is 20) may leave until the next look, in 0.2 seconds.
    assert len(mailed_after) <= (8 if database.is_sqlite else 20)
    assert books(database, issue).skipped == len(left) - len(mailed_after)


def test_refusals_are_failed_or_deferred_and_hard_ones_learnt(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 40)
    script = Script(
        always={"s3": "550 5.1.1 No such user here"}, at_first={"s5": "451 4.3.0 Try again later"}
    )
    learnt: list[Refusal] = []

    def learn(connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
        learnt.extend(refusals)

    pending: set[datetime | None] = set()

    def look(books: Books, sender: Sender) -> None:
        with database.reading() as connection:
            row = delivery(connection, issue.id, 3)
            if row.state == DeliveryState.DEFERRED:
                pending.add(row.due_at)

    ended = run(database, issue, tmp_path / "out", answer=script, learn=learn, meanwhile=look)
    assert pending == {PENDING_UNTIL}
    assert ended.ending is Ending.WAITING
    assert (ended.books.sent, ended.books.failed, ended.books.deferred) == (38, 1, 1)
    assert [(r.subscriber_id, r.verdict.reply_class) for r in learnt] == [(3, ReplyClass.HARD)]
    with database.reading() as connection:
        row = delivery(connection, issue.id, 5)
        assert (row.code, row.enhanced, row.attempts) == (451, "4.3.0", 1)
        due = next_due(connection, issue.id, resend_uncertain=True)
    assert due is not None
    later = run(database, issue, tmp_path / "out", answer=script, clock=lambda: due + timedelta(seconds=1))
    assert later.ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == [
        address for address in everyone(40) if address != "s3@example.org"
    ]


def test_run_can_wait_for_its_retries(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 10)
    script = Script(always={}, at_first={"s5": "451 4.3.0 Try again later"})
    settings = DeliverySettings(window=20, retry_base=timedelta(seconds=0.3), wait_for_retries=True)
    ended = run(database, issue, tmp_path / "out", answer=script, settings=settings)
    assert ended.ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == everyone(10)


def test_retries_are_spread(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 1)
    refuse = lambda recipient: "451 4.3.0 Not now"  # noqa: E731
    run(database, issue, tmp_path / "out", answer=refuse, clock=lambda: AT, jitter=1.5)
    with database.reading() as connection:
        due = next_due(connection, issue.id, resend_uncertain=False)
    assert due == AT + 1.5 * DeliverySettings().retry_base


def test_gives_up_after_the_configured_time(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 1)
    refuse = lambda recipient: "451 4.3.0 Not now"  # noqa: E731
    clock = AT
    for _ in range(40):
        ended = run(database, issue, tmp_path / "out", answer=refuse, clock=lambda now=clock: now)  # type: ignore[misc]
        clock += timedelta(hours=5)
        if ended.books.failed:
            break
    assert ended.books.failed == 1
    assert timedelta(hours=43) < clock - AT < timedelta(hours=60)
    with database.reading() as connection:
        assert delivery(connection, issue.id, 1).bounce_class == "expired"


def test_our_own_misconfiguration_pauses_and_blames_nobody(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 60)
    learnt: list[Refusal] = []

    def learn(connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
        learnt.extend(refusals)

    unauthenticated = "550 5.7.26 This mail has been blocked because the sender is unauthenticated"
    ended = run(database, issue, tmp_path / "out", answer=lambda to: unauthenticated, learn=learn)
    assert ended.ending is Ending.PAUSED
    assert "5.7.26" in ended.reason
    assert learnt == []
    assert (ended.books.failed, ended.books.sent) == (0, 0)
    with database.transaction() as connection:
        assert control.resume(connection, issue.id)
        assert issues.get(connection, issue.id).reason == ""
    assert run(database, issue, tmp_path / "out").ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == everyone(60)


def test_stop_settles_messages_in_flight_and_requeues_the_rest(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 200)

    def stop(known: Books, sender: Sender) -> None:
        if known.sent >= 20:
            sender.stop()

    ended = run(database, issue, tmp_path / "out", meanwhile=stop)
    assert ended.ending is Ending.STOPPED
    assert (ended.books.sending, ended.books.uncertain) == (0, 0)
    assert len(recipients(tmp_path / "out")) == ended.books.sent < 200
    assert run(database, issue, tmp_path / "out").ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == everyone(200)


def test_pause_by_another_process_stops_the_run_to_the_row(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 200)

    def pause(known: Books, sender: Sender) -> None:
        if known.sent >= 20:
            with database.transaction() as connection:
                control.pause(connection, issue.id, "by the operator")

    ended = run(database, issue, tmp_path / "out", meanwhile=pause)
    assert ended.ending is Ending.PAUSED
    assert len(recipients(tmp_path / "out")) == ended.books.sent < 200
    assert run(database, issue, tmp_path / "out").ending is Ending.PAUSED
    assert len(recipients(tmp_path / "out")) == ended.books.sent


def test_cancel_skips_what_waits(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 30)
    with database.transaction() as connection:
        assert control.cancel(connection, issue.id, at=AT) == 30
    assert run(database, issue, tmp_path / "out").ending is Ending.CANCELLED
    assert recipients(tmp_path / "out") == []
    assert books(database, issue).skipped == 30


def test_cancel_in_the_middle_leaves_nothing_waiting(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 200)

    def cancel(known: Books, sender: Sender) -> None:
        if known.sent >= 20:
            with database.transaction() as connection:
                control.cancel(connection, issue.id, at=AT)

    def answer(recipient: str) -> str | None:
        return "451 4.3.0 Try again later" if recipient.startswith("s1") else None

    ended = run(database, issue, tmp_path / "out", answer=answer, meanwhile=cancel)
    assert ended.ending is Ending.CANCELLED
    # What the run gave back and what it put off included: a later retry of others would send it.
    assert ended.books.sent + ended.books.skipped == 200
    assert len(recipients(tmp_path / "out")) == ended.books.sent
    assert books(database, issue) == ended.books


@pytest.mark.parametrize(("policy", "copies"), [("resend", 2), ("hold", 1)])
def test_interrupted_window_becomes_uncertain_and_follows_the_policy(
    database: Database, tmp_path: Path, policy: str, copies: int
) -> None:
    issue = queued(database, 10)
    run(database, issue, tmp_path / "out")
    with database.transaction() as connection:
        connection.execute(
            update(Delivery)
            .where(Delivery.c.issue_id == issue.id, Delivery.c.subscriber_id <= 4)
            .values(state=DeliveryState.SENDING.value)
        )
        connection.execute(update(StoredIssue).values(state=IssueState.SENDING.value))
    settings = section(DeliverySettings, {"window": 20, "uncertain": policy})
    ended = run(database, issue, tmp_path / "out", settings=settings)
    assert recipients(tmp_path / "out").count("s4@example.org") == copies
    assert recipients(tmp_path / "out").count("s5@example.org") == 1
    assert ended.books.uncertain == (4 if policy == "hold" else 0)
    names = {
        path.read_bytes().split(b"Message-ID: ")[1].split(b"\r\n")[0]
        for path in (tmp_path / "out/new").iterdir()
    }
    assert len(names) == 10


def test_unreachable_relay_leaves_everything_queued(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 30)
    with database.reading() as connection:
        before = connection.execute(select(Delivery.c.state, Delivery.c.attempts)).all()
    ended = run(database, issue, tmp_path / "out", answer=None, port=1)
    assert ended.ending is Ending.UNREACHABLE
    with database.reading() as connection:
        assert connection.execute(select(Delivery.c.state, Delivery.c.attempts)).all() == before


def test_retry_queues_exactly_the_failed_again(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 10)
    run(database, issue, tmp_path / "out", answer=Script(always={"s3": "550 5.1.1 No"}, at_first={}))
    with database.transaction() as connection:
        assert control.retry(connection, issue.id, DeliveryState.FAILED, at=AT) == 1
    assert run(database, issue, tmp_path / "out").ending is Ending.FINISHED
    assert recipients(tmp_path / "out") == everyone(10)
