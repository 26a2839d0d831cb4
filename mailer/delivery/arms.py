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
from sqlalchemy import and_, exists, func, select, update
from sqlalchemy.orm import Session

from mailer.database.among import among
from mailer.database.models import (
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
from mailer.database.rows import insert_rows
from mailer.delivery.difference import NAMES, Count, Judgement, judge
from mailer.errors import RefusedError, SourceError
from mailer.rendering.edition import ABTest, Edition

_BATCH: Final = 10_000
_KINDS: Final = {"clicks": "click", "opens": "open"}
_VERBS: Final = {"click": "clicked", "open": "opened"}
_ARMS_OF: Final = select(CanaryMember.subscriber_id, CanaryMember.arm).where(
    among(CanaryMember.subscriber_id, "ids"), CanaryMember.arm.is_not(None)
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


def begin(session: Session, issue_id: int, digests: Sequence[str], test: ABTest, *, seed: str) -> None:
    """Begin a test of the arms with these editions, among the deliveries of an issue.

    The same seed and audience give the same draw on any machine.
    """
    session.add(
        StoredTest(
            issue_id=issue_id, kind=_KINDS[test.by], wait_seconds=test.wait_seconds, hold=test.hold, said=""
        )
    )
    session.add_all(
        StoredArm(issue_id=issue_id, arm=arm, digest=digest) for arm, digest in enumerate(digests)
    )
    audience = session.scalar(select(func.count()).where(Delivery.issue_id == issue_id)) or 0
    number = min(audience, max(len(digests), math.ceil(audience * test.share)))
    members: list[dict[str, object]] = []
    drawn = draw(_ids(session, issue_id), audience, number, len(digests), seed)
    for subscriber_id, arm in drawn:
        members.append({"issue_id": issue_id, "subscriber_id": subscriber_id, "arm": arm})
        if len(members) == _BATCH:
            insert_rows(session, CanaryMember, members)
            members.clear()
    insert_rows(session, CanaryMember, members)
    session.execute(
        update(StoredIssue).where(StoredIssue.id == issue_id).values(canary=CanaryState.SENDING.value)
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


def _ids(session: Session, issue_id: int) -> Iterator[int]:
    """Yield the subscribers of an issue in the order of their ids, some thousands at a time."""
    after = 0
    wanted = select(Delivery.subscriber_id).where(Delivery.issue_id == issue_id)
    while True:
        found = session.scalars(
            wanted.where(Delivery.subscriber_id > after).order_by(Delivery.subscriber_id).limit(_BATCH)
        ).all()
        if not found:
            return
        yield from found
        after = found[-1]


def hold(session: Session, issue_id: int) -> None:
    """Let a person decide the test of an issue."""
    session.execute(update(StoredTest).where(StoredTest.issue_id == issue_id).values(hold=True))


def find(session: Session, issue_id: int) -> Test | None:
    """Return the A/B test of an issue, or None."""
    # Read again: another process may have decided since.
    wanted = select(StoredTest).where(StoredTest.issue_id == issue_id)
    stored = session.scalar(wanted, execution_options={"populate_existing": True})
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


def editions(session: Session, issue_id: int) -> list[Edition]:
    """Return the editions of the arms, A first; empty without a test."""
    stored = session.scalars(
        select(StoredEdition.content)
        .join(StoredArm, StoredArm.digest == StoredEdition.digest)
        .where(StoredArm.issue_id == issue_id)
        .order_by(StoredArm.arm)
    )
    return [Edition.from_json(content) for content in stored]


def digests(session: Session, issue_id: int) -> list[str]:
    """Return the digests of the arms' editions, A first; empty without a test."""
    wanted = select(StoredArm.digest).where(StoredArm.issue_id == issue_id).order_by(StoredArm.arm)
    return list(session.scalars(wanted))


def arms_of(session: Session, issue_id: int, subscriber_ids: Collection[int]) -> dict[int, int]:
    """Return the arm of each of these subscribers who takes part in the test of an issue."""
    rows = session.execute(_ARMS_OF.where(CanaryMember.issue_id == issue_id), {"ids": list(subscriber_ids)})
    return {subscriber_id: arm for subscriber_id, arm in rows if arm is not None}


def results(session: Session, issue_id: int) -> list[Arm]:
    """Return the arms with their numbers so far, A first.

    Only readers who have agreed to tracking count, and only what people did, not machines.
    """
    test = find(session, issue_id)
    assert test is not None
    ours = and_(
        Delivery.issue_id == CanaryMember.issue_id, Delivery.subscriber_id == CanaryMember.subscriber_id
    )
    did = exists().where(
        Event.issue_id == issue_id,
        Event.kind == test.kind,
        Event.subscriber_id == CanaryMember.subscriber_id,
        Event.details["machine"].as_string().is_(None),
    )
    sent = Delivery.state == DeliveryState.SENT.value
    seen = and_(sent, Subscriber.tracking_consent.is_(True))
    rows = session.execute(
        select(
            CanaryMember.arm,
            func.count(),
            func.count().filter(sent),
            func.count().filter(seen),
            func.count().filter(and_(seen, did)),
        )
        .join(Delivery, ours)
        .outerjoin(Subscriber, Subscriber.id == CanaryMember.subscriber_id)
        .where(CanaryMember.issue_id == issue_id)
        .group_by(CanaryMember.arm)
    )
    counted = {row[0]: row[1:] for row in rows}
    found = []
    for number, edition in enumerate(editions(session, issue_id)):
        members, messages, readers, clicked = counted.get(number, (0, 0, 0, 0))
        found.append(Arm(NAMES[number], edition.subject, members, messages, Count(readers, clicked)))
    return found


def judged(session: Session, test: Test) -> Judgement:
    """Return the arm that has won so far."""
    return judge([arm.count for arm in results(session, test.issue_id)], _VERBS[test.kind])


def award(session: Session, issue_id: int, winner: int, said: str, *, at: datetime) -> None:
    """Make an arm the edition of the issue, so that everyone else gets it."""
    arm = session.get_one(StoredArm, (issue_id, winner))
    content = session.get_one(StoredEdition, arm.digest).content
    session.execute(
        update(StoredIssue)
        .where(StoredIssue.id == issue_id)
        .values(edition_digest=arm.digest, title=Edition.from_json(content).title)
    )
    session.execute(
        update(StoredTest)
        .where(StoredTest.issue_id == issue_id)
        .values(winner=winner, decided_at=at, said=said)
    )


def choose(session: Session, issue_id: int, name: str, *, at: datetime) -> None:
    """Send everyone else the arm that a person has chosen, before or after the end of the test.

    An issue that was paused for this choice resumes. Raises `SourceError` if there is no such arm, and
    `RefusedError` if there is no test or it is decided.
    """
    # The lock makes a process that decides at the same moment wait.
    locked = select(StoredIssue).where(StoredIssue.id == issue_id).with_for_update()
    issue, test = session.scalars(locked).one(), find(session, issue_id)
    names = NAMES[: len(editions(session, issue_id))]
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
    award(session, issue_id, names.index(name.upper()), "chosen by the operator", at=at)
