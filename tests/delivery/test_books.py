"""Whatever is done to a queue and in which order: the books balance, the running totals are what counting
finds, and each row is where it must be."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

import mailer
from mailer.bounces.effects import fail_delivery
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, Subscriber, SubscriberStatus
from mailer.delivery import control, issues, newcomers, queue, runs
from mailer.delivery.books import books_of, newest_books, running_books
from mailer.delivery.queue import Settled
from mailer.delivery.waiting import waiting
from mailer.errors import RefusedError
from mailer.replies import judge
from tests.delivery.scene import AT, EDITION, books, queued, subscribe

PEOPLE = 12
FIRST = 10
"""How many of them the issue is queued for; the others are newcomers."""
QUEUED, SENDING, SENT = DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.SENT
DEFERRED, FAILED = DeliveryState.DEFERRED, DeliveryState.FAILED
UNCERTAIN, SKIPPED = DeliveryState.UNCERTAIN, DeliveryState.SKIPPED
NUMBERS = count(1)
SOME = st.sets(st.integers(1, PEOPLE), min_size=1)
RUNS = st.integers(0, 1)


class Ledger(RuleBasedStateMachine):
    """Two runs, an operator and subscribers at one issue, beside what each row should say."""

    balanced: ClassVar[int] = 0
    """How many times the books were checked."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.at = AT
        self.state = IssueState.SENDING
        self.rows = dict.fromkeys(range(1, FIRST + 1), QUEUED)
        self.due: dict[int, datetime] = {}
        self.held: dict[int, tuple[int, DeliveryState]] = {}
        self.owner: dict[int, int] = {}
        """The run that a row names."""
        self.left: set[int] = set()
        with database.transaction() as connection:
            connection.execute(update(Subscriber).values(status=SubscriberStatus.ACTIVE.value))
            edition = replace(EDITION, slug=f"{next(NUMBERS)}-one")
            first = Subscriber.c.id <= FIRST
            issue, new = issues.enqueue(connection, edition, source_path="one.md", at=AT, condition=first)
            again, second = issues.enqueue(connection, edition, source_path="one.md", at=AT)
            assert (new, second, again) == (True, False, issue)
            self.issue = issue.id
            self.runs = [runs.begin(connection, issue.id, at=AT) for _ in range(2)]

    @precondition(lambda self: self.state is IssueState.SENDING)
    @rule(run=RUNS, limit=st.integers(1, 8), resend=st.booleans())
    def claim(self, run: int, limit: int, resend: bool) -> None:
        kinds = (DEFERRED, UNCERTAIN) if resend else (DEFERRED,)
        due = [n for n, state in self.rows.items() if state in kinds and self.due[n] <= self.at]
        due.sort(key=lambda n: (self.rows[n], self.due[n], n))
        next_ones = [*due, *(n for n, state in self.rows.items() if state is QUEUED)][:limit]
        with self.database.transaction() as connection:
            taken = queue.claim(
                connection, self.issue, run_id=self.runs[run], limit=limit, after=0, at=self.at,
                resend_uncertain=resend,
            )  # fmt: skip
        claimed = {one.recipient.subscriber_id for one in taken.claimed}
        assert claimed == {n for n in next_ones if n not in self.left}
        assert taken.skipped == len(next_ones) - len(claimed)
        for n in next_ones:
            if n in claimed:
                self.held[n] = run, self.rows[n]
                self.owner[n] = run
            self.rows[n] = SENDING if n in claimed else SKIPPED

    @rule(run=RUNS, some=SOME, state=st.sampled_from([SENT, DEFERRED, FAILED, UNCERTAIN, SKIPPED]))
    def settle(self, run: int, some: set[int], state: DeliveryState) -> None:
        mine = [n for n in sorted(some) if n in self.held and self.held[n][0] == run]
        due_at = self.at + timedelta(minutes=5) if state in (DEFERRED, UNCERTAIN) else None
        code = 451 if state is DEFERRED else None
        with self.database.transaction() as connection:
            outcomes = [Settled(n, state, due_at=due_at, code=code) for n in mine]
            queue.settle(connection, self.issue, outcomes, run_id=self.runs[run], at=self.at)
        for n in mine:
            self.move(n, state, due_at)

    @rule(run=RUNS, some=SOME)
    def release(self, run: int, some: set[int]) -> None:
        mine = [n for n in some if n in self.held and self.held[n][0] == run]
        with self.database.transaction() as connection:
            # What is another's, or nobody's, is not given back.
            given = queue.release(connection, self.issue, some, run_id=self.runs[run], at=self.at)
        assert given.total() == len(mine)
        for n in mine:
            self.move(n, self.held[n][1], self.due.get(n))
            del self.owner[n]

    @rule(run=RUNS, some=SOME)
    def settle_late(self, run: int, some: set[int]) -> None:
        mine = [n for n in some if self.rows.get(n) is UNCERTAIN and self.owner.get(n) == run]
        outcomes = [Settled(n, SENT) for n in some]
        with self.database.transaction() as connection:
            wrote = queue.settle_late(connection, self.issue, outcomes, run_id=self.runs[run], at=self.at)
        assert wrote == len(mine)
        for n in mine:
            self.move(n, SENT, None)

    @rule(run=RUNS, some=SOME)
    def fail_pending(self, run: int, some: set[int]) -> None:
        mine = {n for n in some if self.rows.get(n) is DEFERRED and self.owner.get(n) == run}
        with self.database.transaction() as connection:
            wanted = sorted(some)
            run_id = self.runs[run]
            assert queue.fail_pending(connection, self.issue, wanted, run_id=run_id, at=self.at) == mine
        for n in mine:
            self.move(n, FAILED, None)

    @rule(n=st.integers(1, PEOPLE))
    def bounce(self, n: int) -> None:
        arrived = self.rows.get(n) in (SENT, UNCERTAIN)
        with self.database.transaction() as connection:
            verdict = judge(550, "5.1.1", "no such user")
            assert fail_delivery(connection, self.issue, n, verdict, at=self.at) is arrived
        if arrived:
            self.move(n, FAILED, None)

    @rule()
    def join(self) -> None:
        new = [n for n in range(1, PEOPLE + 1) if n not in self.rows and n not in self.left]
        with self.database.transaction() as connection:
            assert newcomers.add(connection, self.issue, None, at=self.at) == len(new)
        self.rows |= dict.fromkeys(new, QUEUED)

    @rule(some=SOME)
    def skip_deferred(self, some: set[int]) -> None:
        chosen = [n for n in some if self.rows.get(n) is DEFERRED]
        with self.database.transaction() as connection:
            these = Subscriber.c.id.in_(some)
            assert control.skip_deferred(connection, self.issue, these, "gone", at=self.at) == len(chosen)
        for n in chosen:
            self.move(n, SKIPPED, None)

    @rule(run=st.sampled_from([None, 0, 1]))
    def recover(self, run: int | None) -> None:
        # On PostgreSQL, both runs may live on other machines: what they hold stays theirs.
        everyone = run is None and self.database.is_sqlite
        lost = [n for n, (owner, _) in self.held.items() if everyone or run == owner]
        with self.database.transaction() as connection:
            run_id = None if run is None else self.runs[run]
            assert queue.recover(connection, self.issue, at=self.at, run_id=run_id) == len(lost)
        for n in lost:
            self.move(n, UNCERTAIN, self.at)

    @rule(minutes=st.integers(1, 10))
    def later(self, minutes: int) -> None:
        self.at += timedelta(minutes=minutes)

    @rule(n=st.integers(1, PEOPLE))
    def opt_out(self, n: int) -> None:
        self.left.add(n)
        with self.database.transaction() as connection:
            leave = update(Subscriber).values(status=SubscriberStatus.UNSUBSCRIBED.value)
            connection.execute(leave.where(Subscriber.c.id == n))

    @rule()
    def pause(self) -> None:
        with self.database.transaction() as connection:
            assert control.pause(connection, self.issue, "a rest") is (self.state is IssueState.SENDING)
        self.state = IssueState.PAUSED if self.state is IssueState.SENDING else self.state

    @rule()
    def resume(self) -> None:
        with self.database.transaction() as connection:
            assert control.resume(connection, self.issue) is (self.state is IssueState.PAUSED)
        self.state = IssueState.SENDING if self.state is IssueState.PAUSED else self.state

    @rule(really=st.integers(0, 3))
    def cancel(self, really: int) -> None:
        if really:
            return
        if self.state is IssueState.FINISHED:
            with pytest.raises(RefusedError), self.database.transaction() as connection:
                control.cancel(connection, self.issue, at=self.at)
            return
        with self.database.transaction() as connection:
            assert control.cancel(connection, self.issue, at=self.at) == self.skip_waiting()
        self.state = IssueState.CANCELLED

    @rule(state=st.sampled_from([FAILED, DEFERRED, UNCERTAIN]))
    def retry(self, state: DeliveryState) -> None:
        chosen = [n for n, now in self.rows.items() if now is state]
        with self.database.transaction() as connection:
            assert control.retry(connection, self.issue, state, at=self.at) == len(chosen)
        for n in chosen:
            self.move(n, QUEUED, None)
        if chosen and self.state is not IssueState.PAUSED:
            self.state = IssueState.SENDING

    @rule()
    def finish(self) -> None:
        if self.state is IssueState.CANCELLED:
            self.skip_waiting()
        done = not {QUEUED, SENDING, DEFERRED, UNCERTAIN} & set(self.rows.values())
        with self.database.transaction() as connection:
            assert control.finish(connection, self.issue, at=self.at) is done
        if done and self.state is IssueState.SENDING:
            self.state = IssueState.FINISHED

    @invariant()
    def balance(self) -> None:
        with self.database.reading() as connection:
            known = books_of(connection, self.issue)
            stored = select(Delivery.c.subscriber_id, Delivery.c.state).where(
                Delivery.c.issue_id == self.issue
            )
            rows = {n: DeliveryState(state) for n, state in connection.execute(stored)}
            state = issues.get(connection, self.issue).state
            running = running_books(connection, self.issue)
        assert known.balanced
        assert known.audience == len(self.rows)
        assert running == known
        assert newest_books(self.database, self.issue) == (state, known)
        assert (state, rows) == (self.state, self.rows)
        type(self).balanced += 1

    def move(self, n: int, state: DeliveryState, due_at: datetime | None) -> None:
        self.held.pop(n, None)
        self.rows[n] = state
        self.due.pop(n, None)
        if due_at is not None:
            self.due[n] = due_at

    def skip_waiting(self) -> int:
        waiting = [n for n, state in self.rows.items() if state in (QUEUED, DEFERRED)]
        for n in waiting:
            self.move(n, SKIPPED, None)
        return len(waiting)


def test_books_balance_and_every_row_is_where_it_must_be(database: Database) -> None:
    subscribe(database, PEOPLE)

    class Here(Ledger):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=8,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Here.balanced >= 30


def test_only_three_modules_change_the_state_of_a_delivery() -> None:
    root = Path(mailer.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "values"
                and "state" in [keyword.arg for keyword in node.keywords]
                and re.search(r"update\(\s*Delivery\b", ast.unparse(node.func))
            ):
                found.add(str(path.relative_to(root)))
    assert found == {"delivery/queue.py", "delivery/control.py", "bounces/effects.py"}


def test_interrupted_retry_no_longer_shows_the_answer_of_before(database: Database) -> None:
    issue = queued(database, 1)
    with database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        for outcome in (
            Settled(1, DEFERRED, due_at=AT, code=451, reply="Greylisted", bounce_class="other"),
            None,
        ):
            queue.claim(connection, issue.id, run_id=run_id, limit=1, after=0, at=AT, resend_uncertain=True)
            if outcome:
                queue.settle(connection, issue.id, [outcome], run_id=run_id, at=AT)
        assert queue.recover(connection, issue.id, at=AT, run_id=run_id) == 1
        (group,) = waiting(connection, issue.id)
    assert (group.state, group.reason) == (
        UNCERTAIN,
        "the run was interrupted after this delivery was claimed",
    )


def test_what_was_uncertain_stays_so_when_it_is_given_back(database: Database) -> None:
    issue = queued(database, 3)
    with database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        queue.claim(connection, issue.id, run_id=run_id, limit=1, after=0, at=AT, resend_uncertain=True)
        queue.recover(connection, issue.id, at=AT, run_id=run_id)
        queue.claim(connection, issue.id, run_id=run_id, limit=2, after=0, at=AT, resend_uncertain=True)
        assert queue.release(connection, issue.id, [1, 2], run_id=run_id, at=AT) == {
            "uncertain": 1,
            "queued": 1,
        }
        # Nobody knows whether it arrived, so cancelling cannot say that it was not sent.
        assert control.cancel(connection, issue.id, at=AT) == 2
    known = books(database, issue)
    assert (known.uncertain, known.skipped) == (1, 2)


@pytest.mark.parametrize("state", list(DeliveryState))
def test_retry_requeues_exactly_the_chosen_state(database: Database, state: DeliveryState) -> None:
    issue = queued(database, len(DeliveryState))
    before = dict(enumerate(DeliveryState, 1))
    with database.transaction() as connection:
        for n, each in before.items():
            connection.execute(update(Delivery).where(Delivery.c.subscriber_id == n).values(state=each.value))
        control.pause(connection, issue.id, "by the operator")
    if state in (FAILED, DEFERRED, UNCERTAIN):
        with database.transaction() as connection:
            assert control.retry(connection, issue.id, state, at=AT) == 1
    else:
        with pytest.raises(ValueError, match="are not retried"), database.transaction() as connection:
            control.retry(connection, issue.id, state, at=AT)
    retried = {n: QUEUED if each is state and state in (FAILED, DEFERRED, UNCERTAIN) else each
               for n, each in before.items()}  # fmt: skip
    with database.reading() as connection:
        rows = connection.execute(select(Delivery.c.subscriber_id, Delivery.c.state))
        assert {n: DeliveryState(each) for n, each in rows} == retried
        # Only `resume` lifts a pause.
        assert issues.get(connection, issue.id).state is IssueState.PAUSED
