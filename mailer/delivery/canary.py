"""The canary: a part of the audience that gets an issue first, so that a mistake reaches few people.

Its state is kept with the issue and its members in a table of their own. Until the canary has passed,
the queue gives out only its members, no matter which process sends or how often it is killed.

`lead` takes a canary through its states: the operator's own addresses get the issue (seeding), the members
do (sending), reports come in (waiting), and then the rest may follow (passed) or the issue is paused with
the reason (stopped). An A/B test (`arms`) takes the same steps without seeds, and its decision comes before
the rest may follow.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    distinct,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from mailer.config import Canary as CanarySettings
from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    StoredIssue,
    StoredReport,
    Subscriber,
)
from mailer.delivery import arms, control, issues
from mailer.delivery.arms import Test
from mailer.delivery.books import books_of
from mailer.delivery.clock import now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition

_TRIED = [
    state.value
    for state in (DeliveryState.SENT, DeliveryState.DEFERRED, DeliveryState.FAILED, DeliveryState.UNCERTAIN)
]
_COMPLAINT = "complaint"
_HELD: Final = "the A/B test is over"
_SEEDING_SECONDS: Final = 1.0
"""How often to look whether another machine has sent to the seeds."""
_LOOK_SECONDS: Final = 10.0
"""How often a waiting canary reads reports and judges them."""


class Findings(Struct, frozen=True):
    """The outcomes of a canary's members so far."""

    members: int
    tried: int
    bounced: int
    """Refused for good, or returned since."""
    deferred: int
    complained: int

    def __str__(self) -> str:
        return (
            f"{self.tried:,} of {self.members:,} tried, {self.bounced:,} bounced,"
            f" {self.deferred:,} refused for now, {self.complained:,} complained"
        )


@dataclass(frozen=True, slots=True)
class Steps:
    """The actions that a canary needs."""

    send: Callable[[], Ended]
    """Send what the queue gives out, which is the members until the canary has passed."""
    send_to_seed: Callable[[Edition, str], None]
    """Send the issue to one of the operator's addresses, outside the queue."""
    fetch_reports: Callable[[], None]
    say: Callable[[str], None]
    """Report progress to the operator."""
    clock: Callable[[], datetime] = now
    sleep: Callable[[float], None] = time.sleep


def lead(database: Database, issue: QueuedIssue, settings: CanarySettings, steps: Steps) -> Ended | None:
    """Take a canary as far as it can go; return None when the rest of the audience may follow.

    Otherwise return how the run ended. Each step is committed before the next one begins, so a run that
    was killed continues where it was. Raises `RefusedError` when a limit is broken.
    """
    while True:
        with database.reading() as connection:
            issue, test = issues.get(connection, issue.id), arms.find(connection, issue.id)
        match issue.canary:
            case None | CanaryState.PASSED:
                return None
            case CanaryState.SEEDING:
                _seed(database, issue, settings, steps)
            case CanaryState.SENDING:
                ended = steps.send()
                if ended.ending is Ending.FINISHED:
                    _let_pass(database, issue, steps)
                if ended.ending is not Ending.WAITING:
                    return ended
                _judge(database, issue, settings)
                _wait_until(database, issue, steps.clock() + (test.wait if test else settings.wait))
            case CanaryState.WAITING:
                if (ended_early := _wait(database, issue, settings, steps, test)) is not None:
                    return ended_early
            case CanaryState.STOPPED:
                raise _refused(issue, test)
            case _:
                assert_never(issue.canary)


def _seed(database: Database, issue: QueuedIssue, settings: CanarySettings, steps: Steps) -> None:
    """Send the issue to the seeds that are not in the audience; repeat it if the last run was killed here."""
    with contextlib.ExitStack() as stack:
        if not (database.is_sqlite or _alone(stack.enter_context(database.transaction()), issue.id)):
            # Another machine is doing this.
            steps.sleep(_SEEDING_SECONDS)
            return
        with database.reading() as connection:
            outside = strangers(connection, issue.id, settings.seeds)
            edition = issues.edition(connection, issue.edition_digest)
        for seed in outside:
            steps.send_to_seed(edition, seed)
    with database.transaction() as connection:
        advance(connection, issue.id, CanaryState.SENDING, only_from=CanaryState.SEEDING)
    if outside:
        steps.say(f"canary: sent to {', '.join(outside)}")


def _alone(connection: Connection, issue_id: int) -> bool:
    """Lock an issue whose seeds have not got it yet; return False if another process has locked it."""
    seeding = select(StoredIssue.c.id).where(
        StoredIssue.c.id == issue_id, StoredIssue.c.canary == CanaryState.SEEDING.value
    )
    return connection.scalar(seeding.with_for_update(skip_locked=True)) is not None


def _wait(
    database: Database, issue: QueuedIssue, settings: CanarySettings, steps: Steps, test: Test | None
) -> Ended | None:
    """Judge reports until the wait is over; return how the run ended if the issue was stopped meanwhile."""
    assert issue.canary_until is not None
    name = "A/B test" if test else "canary"
    steps.say(f"{name}: waiting for reports until {issue.canary_until.astimezone():%Y-%m-%d %H:%M:%S}")
    while True:
        steps.fetch_reports()
        _judge(database, issue, settings)
        with database.reading() as connection:
            current, found = issues.get(connection, issue.id), findings(connection, issue.id)
            books, test = books_of(connection, issue.id), arms.find(connection, issue.id)
        if current.canary is CanaryState.STOPPED:
            raise _refused(current, test)
        if current.state is IssueState.PAUSED:
            return Ended(Ending.PAUSED, books, current.reason)
        if current.state is IssueState.CANCELLED:
            return Ended(Ending.CANCELLED, books)
        if current.canary is not CanaryState.WAITING:
            return None
        # An operator may have ended the wait early.
        left = (current.canary_until or issue.canary_until) - steps.clock()
        if left > timedelta():
            steps.sleep(min(_LOOK_SECONDS, left.total_seconds()))
        elif _let_pass(database, issue, steps):
            steps.say(f"{name}: passed ({found}); sending to everyone else")
            if test is not None:
                with database.reading() as connection:
                    test = arms.find(connection, issue.id)
                steps.say(f"A/B test: {test.said if test else ''}")
            return None


def _wait_until(database: Database, issue: QueuedIssue, until: datetime) -> None:
    with database.transaction() as connection:
        advance(connection, issue.id, CanaryState.WAITING, until=until, only_from=CanaryState.SENDING)


def _let_pass(database: Database, issue: QueuedIssue, steps: Steps) -> bool:
    with database.transaction() as connection:
        return conclude(connection, issue.id, at=steps.clock())


def _judge(database: Database, issue: QueuedIssue, settings: CanarySettings) -> None:
    """Stop the issue if a limit is broken; the next look at its canary says so."""
    with database.transaction() as connection:
        if reason := broken(findings(connection, issue.id), settings):
            stop(connection, issue.id, reason)


def _refused(issue: QueuedIssue, test: Test | None) -> RefusedError:
    slug = issue.slug
    if test is not None and issue.reason.startswith(_HELD):
        return RefusedError(
            f"{slug} waits for your choice: {issue.reason}",
            remedy=f"choose an arm and send it, as in: mailer ab choose {slug} A && mailer send {slug}",
        )
    return RefusedError(
        f"{slug} was stopped after its first part: {issue.reason}",
        remedy=f"send it to everyone else anyway with: mailer resume {slug} && mailer send {slug}",
    )


def begin(connection: Connection, issue_id: int, share: float, seeds: Collection[str]) -> int:
    """Choose members at random among an issue's deliveries, at least one; return how many there are.

    Any `seeds` (addresses) in the audience become members too.
    """
    audience = select(func.count()).select_from(Delivery).where(Delivery.c.issue_id == issue_id)
    number = max(1, math.ceil((connection.scalar(audience) or 0) * share))
    chosen = (
        select(literal(issue_id), Delivery.c.subscriber_id)
        .where(Delivery.c.issue_id == issue_id)
        .order_by(func.random())
        .limit(number)
    )
    member = ["issue_id", "subscriber_id"]
    connection.execute(insert(CanaryMember).from_select(member, chosen))
    if seeds:
        asked_for = (
            select(literal(issue_id), Delivery.c.subscriber_id)
            .join(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id)
            .where(
                Delivery.c.issue_id == issue_id,
                Subscriber.c.address_key.in_([seed.lower() for seed in seeds]),
                ~exists().where(
                    CanaryMember.c.issue_id == issue_id,
                    CanaryMember.c.subscriber_id == Delivery.c.subscriber_id,
                ),
            )
        )
        connection.execute(insert(CanaryMember).from_select(member, asked_for))
    advance(connection, issue_id, CanaryState.SEEDING)
    return findings(connection, issue_id).members


def strangers(connection: Connection, issue_id: int, seeds: Collection[str]) -> list[str]:
    """Return the seeds that are not in the audience: they get the issue outside the queue."""
    members = (
        select(Subscriber.c.address_key)
        .join(CanaryMember, CanaryMember.c.subscriber_id == Subscriber.c.id)
        .where(CanaryMember.c.issue_id == issue_id)
    )
    known = set(connection.scalars(members))
    return [seed for seed in seeds if seed.lower() not in known]


def advance(
    connection: Connection,
    issue_id: int,
    state: CanaryState,
    *,
    until: datetime | None = None,
    only_from: CanaryState | None = None,
) -> None:
    """Write a canary's state; `until` is the end of its wait.

    With `only_from`, do nothing if another process has changed that state.
    """
    changed = update(StoredIssue).where(StoredIssue.c.id == issue_id)
    if only_from is not None:
        changed = changed.where(StoredIssue.c.canary == only_from.value)
    connection.execute(changed.values(canary=state.value, canary_until=until))


def conclude(connection: Connection, issue_id: int, *, at: datetime) -> bool:
    """Decide the A/B test, if there is one, and release the issue to the rest of the audience.

    Returns False if it is stopped, or if a person is to decide: then it is paused.
    """
    test = arms.find(connection, issue_id)
    asks = test is not None and test.hold and test.winner is None
    # An issue that nobody else would get is finished; it needs no choice and cannot be stopped.
    if test and asks and stop(connection, issue_id, f"{_HELD}: {arms.judged(connection, test).said}"):
        return False
    if not let_pass(connection, issue_id, at=at):
        return False
    # That has locked the issue, so only one process decides.
    test = arms.find(connection, issue_id)
    if test is not None and test.winner is None:
        judged = arms.judged(connection, test)
        arms.award(connection, issue_id, judged.arm, judged.said, at=at)
    return True


def choose(connection: Connection, issue_id: int, arm: str, *, at: datetime) -> None:
    """Send everyone else the arm of an A/B test that a person has chosen.

    An issue that waits for the choice resumes. Raises errors as `arms.choose` does.
    """
    arms.choose(connection, issue_id, arm, at=at)
    if issues.get(connection, issue_id).canary is CanaryState.STOPPED:
        control.resume(connection, issue_id)
    advance(connection, issue_id, CanaryState.PASSED)
    control.publish(connection, issue_id, at=at)


def let_pass(connection: Connection, issue_id: int, *, at: datetime) -> bool:
    """Release the issue to the rest of the audience and publish it; return False if it is stopped."""
    passed = update(StoredIssue).where(
        StoredIssue.c.id == issue_id,
        StoredIssue.c.state.in_([IssueState.SENDING.value, IssueState.FINISHED.value]),
    )
    values = {"canary": CanaryState.PASSED.value, "canary_until": None}
    if not connection.execute(passed.values(values)).rowcount:
        return False
    control.publish(connection, issue_id, at=at)
    return True


def stop(connection: Connection, issue_id: int, reason: str) -> bool:
    """Pause the issue because its canary broke a limit; return whether that changed anything.

    An issue that is paused already keeps its reason; its canary is judged again once it is resumed.
    """
    stopped = control.pause(connection, issue_id, reason)
    if stopped:
        advance(connection, issue_id, CanaryState.STOPPED)
    return stopped


def hurry(connection: Connection, issue_id: int) -> bool:
    """End a canary's wait at the operator's request; return whether it was waiting.

    An A/B test is then decided by what has come so far.
    """
    values: dict[str, object] = {"canary": CanaryState.PASSED.value, "canary_until": None}
    if arms.find(connection, issue_id) is not None:
        values = {"canary_until": now()}
    waited = update(StoredIssue).where(
        StoredIssue.c.id == issue_id,
        StoredIssue.c.canary == CanaryState.WAITING.value,
        StoredIssue.c.state == IssueState.SENDING.value,
    )
    return bool(connection.execute(waited.values(values)).rowcount)


def resume(connection: Connection, issue_id: int) -> bool:
    """Let a paused issue be sent again, or end its canary's wait; return whether that changed anything."""
    return control.resume(connection, issue_id) or hurry(connection, issue_id)


def findings(connection: Connection, issue_id: int) -> Findings:
    """Count the outcomes of the members, including bounces and complaints that came back."""

    def number(*states: str) -> ColumnElement[int]:
        return func.count().filter(Delivery.c.state.in_(states))

    ours = and_(
        CanaryMember.c.issue_id == Delivery.c.issue_id,
        CanaryMember.c.subscriber_id == Delivery.c.subscriber_id,
    )
    counted = connection.execute(
        select(
            func.count(),
            number(*_TRIED),
            number(DeliveryState.FAILED.value),
            number(DeliveryState.DEFERRED.value),
        )
        .select_from(CanaryMember)
        .join(Delivery, ours)
        .where(CanaryMember.c.issue_id == issue_id)
    ).one()
    complained = connection.scalar(
        select(func.count(distinct(StoredReport.c.subscriber_id)))
        .join(CanaryMember, CanaryMember.c.subscriber_id == StoredReport.c.subscriber_id)
        .where(
            CanaryMember.c.issue_id == issue_id,
            StoredReport.c.issue_id == issue_id,
            StoredReport.c.kind == _COMPLAINT,
        )
    )
    members, tried, bounced, deferred = (int(value) for value in counted)
    return Findings(members, tried, bounced, deferred, complained or 0)


def broken(found: Findings, limits: CanarySettings) -> str:
    """Return which limits a canary broke, in words; empty if none.

    A single bounce or complaint never breaks a limit: among ten members it would be 10 %.
    """
    told = []
    for what, number, limit in (
        ("bounced", found.bounced, limits.max_bounced),
        ("were refused for now", found.deferred, limits.max_deferred),
        ("complained", found.complained, limits.max_complained),
    ):
        if number > max(1, limit * found.tried):
            share = number / found.tried
            told.append(f"{number:,} of {found.tried:,} {what} ({share:.1%}, the limit is {limit:.1%})")
    return "canary: " + "; ".join(told) if told else ""
