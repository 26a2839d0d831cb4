"""A/B tests: who gets which arm of an issue, and which arm everyone else gets.

The members of a test are those of the issue's canary, each with an arm. `mailer.delivery.canary` takes the
test through its states, so until it is decided no one else gets the issue, however often a process is
killed. A member keeps their arm for every attempt. The decision replaces the edition of the issue in the
transaction that releases it to everyone else.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, and_, exists, func, insert, select, update

from mailer.database.among import among
from mailer.database.rows import insert_rows
from mailer.database.tables import (
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    Event,
    IssueState,
    StoredArm,
    StoredEdition,
    StoredIssue,
    StoredTest,
    Subscriber,
)
from mailer.delivery.difference import NAMES, Count, Judgement, judge
from mailer.errors import RefusedError, SourceError
from mailer.rendering.edition import ABTest, Edition

_BATCH: Final = 10_000
_KINDS: Final = {"clicks": "click", "opens": "open"}
_VERBS: Final = {"click": "clicked", "open": "opened"}
_ARMS_OF: Final = select(CanaryMember.c.subscriber_id, CanaryMember.c.arm).where(
    among(CanaryMember.c.subscriber_id, "ids"), CanaryMember.c.arm.is_not(None)
)


class Test(Struct, frozen=True):
    """The A/B test of an issue."""

    __test__ = False

    issue_id: int
    kind: str
    wait: timedelta
    hold: bool
    winner: int | None
    decided_at: datetime | None
    said: str


class Arm(Struct, frozen=True):
    """One arm: its members, the messages sent, and the readers who clicked."""

    name: str
    subject: str
    members: int
    sent: int
    count: Count


def begin(connection: Connection, issue_id: int, digests: Sequence[str], test: ABTest, *, seed: str) -> None:
    """Begin a test of the arms with these editions, among the deliveries of an issue.

    The same seed and audience give the same draw on any machine.
    """
    connection.execute(
        insert(StoredTest).values(
            issue_id=issue_id, kind=_KINDS[test.by], wait_seconds=test.wait_seconds, hold=test.hold, said=""
        )
    )
    insert_rows(
        connection,
        StoredArm,
        [{"issue_id": issue_id, "arm": arm, "digest": digest} for arm, digest in enumerate(digests)],
    )
    audience = connection.scalar(select(func.count()).where(Delivery.c.issue_id == issue_id)) or 0
    number = min(audience, max(len(digests), math.ceil(audience * test.share)))
    members: list[dict[str, object]] = []
    drawn = draw(_ids(connection, issue_id), audience, number, len(digests), seed)
    for subscriber_id, arm in drawn:
        members.append({"issue_id": issue_id, "subscriber_id": subscriber_id, "arm": arm})
        if len(members) == _BATCH:
            insert_rows(connection, CanaryMember, members)
            members.clear()
    insert_rows(connection, CanaryMember, members)
    connection.execute(
        update(StoredIssue).where(StoredIssue.c.id == issue_id).values(canary=CanaryState.SENDING.value)
    )


def draw(ids: Iterator[int], audience: int, number: int, arms: int, seed: str) -> Iterator[tuple[int, int]]:
    """Yield `number` of the ids, each with an arm; the arms get the same number of people, give or take one.

    Selection sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S) needs no memory.
    """
    # Of this module, only the sequence of random() is the same in every version of Python.
    chance = random.Random(seed).random  # noqa: S311 - not a secret
    left, block = number, list[int]()
    for before, subscriber_id in enumerate(ids):
        if (audience - before) * chance() >= left:
            continue
        left -= 1
        block = block or list(range(arms))
        yield subscriber_id, block.pop(int(chance() * len(block)))


def _ids(connection: Connection, issue_id: int) -> Iterator[int]:
    """Yield the subscribers of an issue in the order of their ids, some thousands at a time."""
    after = 0
    wanted = select(Delivery.c.subscriber_id).where(Delivery.c.issue_id == issue_id)
    while True:
        found = connection.scalars(
            wanted.where(Delivery.c.subscriber_id > after).order_by(Delivery.c.subscriber_id).limit(_BATCH)
        ).all()
        if not found:
            return
        yield from found
        after = found[-1]


def hold(connection: Connection, issue_id: int) -> None:
    """Let a person decide the test of an issue."""
    connection.execute(update(StoredTest).where(StoredTest.c.issue_id == issue_id).values(hold=True))


def find(connection: Connection, issue_id: int) -> Test | None:
    """Return the A/B test of an issue, or None."""
    stored = connection.execute(select(StoredTest).where(StoredTest.c.issue_id == issue_id)).one_or_none()
    if stored is None:
        return None
    return Test(
        issue_id,
        stored.kind,
        timedelta(seconds=stored.wait_seconds),
        stored.hold,
        stored.winner,
        stored.decided_at,
        stored.said,
    )


def editions(connection: Connection, issue_id: int) -> list[Edition]:
    """Return the editions of the arms, A first; empty without a test."""
    stored = connection.scalars(
        select(StoredEdition.c.content)
        .join(StoredArm, StoredArm.c.digest == StoredEdition.c.digest)
        .where(StoredArm.c.issue_id == issue_id)
        .order_by(StoredArm.c.arm)
    )
    return [Edition.from_json(content) for content in stored]


def digests(connection: Connection, issue_id: int) -> list[str]:
    """Return the digests of the arms' editions, A first; empty without a test."""
    wanted = select(StoredArm.c.digest).where(StoredArm.c.issue_id == issue_id).order_by(StoredArm.c.arm)
    return list(connection.scalars(wanted))


def arms_of(connection: Connection, issue_id: int, subscriber_ids: Collection[int]) -> dict[int, int]:
    """Return the arm of each of these subscribers who takes part in the test of an issue."""
    rows = connection.execute(
        _ARMS_OF.where(CanaryMember.c.issue_id == issue_id), {"ids": list(subscriber_ids)}
    )
    return {subscriber_id: arm for subscriber_id, arm in rows if arm is not None}


def results(connection: Connection, issue_id: int) -> list[Arm]:
    """Return the arms with their numbers so far, A first.

    Only readers who have agreed to tracking count, and only what people did, not machines.
    """
    test = find(connection, issue_id)
    assert test is not None
    ours = and_(
        Delivery.c.issue_id == CanaryMember.c.issue_id,
        Delivery.c.subscriber_id == CanaryMember.c.subscriber_id,
    )
    did = exists().where(
        Event.c.issue_id == issue_id,
        Event.c.kind == test.kind,
        Event.c.subscriber_id == CanaryMember.c.subscriber_id,
        Event.c.details["machine"].as_string().is_(None),
    )
    sent = Delivery.c.state == DeliveryState.SENT.value
    seen = and_(sent, Subscriber.c.tracking_consent.is_(True))
    rows = connection.execute(
        select(
            CanaryMember.c.arm,
            func.count(),
            func.count().filter(sent),
            func.count().filter(seen),
            func.count().filter(and_(seen, did)),
        )
        .join(Delivery, ours)
        .outerjoin(Subscriber, Subscriber.c.id == CanaryMember.c.subscriber_id)
        .where(CanaryMember.c.issue_id == issue_id)
        .group_by(CanaryMember.c.arm)
    )
    counted = {row[0]: row[1:] for row in rows}
    found = []
    for number, edition in enumerate(editions(connection, issue_id)):
        members, messages, readers, clicked = counted.get(number, (0, 0, 0, 0))
        found.append(Arm(NAMES[number], edition.subject, members, messages, Count(readers, clicked)))
    return found


def judged(connection: Connection, test: Test) -> Judgement:
    """Return the arm that has won so far."""
    return judge([arm.count for arm in results(connection, test.issue_id)], _VERBS[test.kind])


def award(connection: Connection, issue_id: int, winner: int, said: str, *, at: datetime) -> None:
    """Make an arm the edition of the issue, so that everyone else gets it."""
    digest, content = connection.execute(
        select(StoredEdition.c.digest, StoredEdition.c.content)
        .join(StoredArm, StoredArm.c.digest == StoredEdition.c.digest)
        .where(StoredArm.c.issue_id == issue_id, StoredArm.c.arm == winner)
    ).one()
    connection.execute(
        update(StoredIssue)
        .where(StoredIssue.c.id == issue_id)
        .values(edition_digest=digest, title=Edition.from_json(content).title)
    )
    connection.execute(
        update(StoredTest)
        .where(StoredTest.c.issue_id == issue_id)
        .values(winner=winner, decided_at=at, said=said)
    )


def choose(connection: Connection, issue_id: int, name: str, *, at: datetime) -> None:
    """Send everyone else the arm that a person has chosen, before or after the end of the test.

    An issue that was paused for this choice resumes. Raises `SourceError` if there is no such arm, and
    `RefusedError` if there is no test or it is decided.
    """
    # The lock makes a process that decides at the same moment wait.
    wanted = select(StoredIssue.c.slug, StoredIssue.c.state, StoredIssue.c.canary)
    issue = connection.execute(wanted.where(StoredIssue.c.id == issue_id).with_for_update()).one()
    test = find(connection, issue_id)
    names = NAMES[: len(editions(connection, issue_id))]
    if test is None:
        raise RefusedError(f"{issue.slug} has no A/B test")
    if name.upper() not in list(names):
        raise SourceError(f"there is no arm '{name}'", remedy=f"the arms are: {', '.join(names)}")
    if test.winner is not None or issue.canary == CanaryState.PASSED.value:
        raise RefusedError(
            f"{issue.slug} was decided: {NAMES[test.winner or 0]} is sent to everyone",
            remedy=f"see the result with: mailer ab show {issue.slug}",
        )
    if issue.state == IssueState.CANCELLED.value:
        raise RefusedError(f"{issue.slug} is cancelled: nobody else will get it")
    award(connection, issue_id, names.index(name.upper()), "chosen by the operator", at=at)
