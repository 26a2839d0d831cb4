"""Whatever is done to an issue changes only rows of its own, and the running totals follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from mailer.database.models import (
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    ReplacedEdition,
    Run,
    ScheduledIssue,
    StoredIssue,
    StoredTest,
    Subscriber,
)
from mailer.database.session import Database
from mailer.delivery import amending, arms, canary, control, issues, newcomers, queue, runs, schedule
from mailer.delivery.backups import findings
from mailer.delivery.books import books_of, running_books
from mailer.delivery.queue import PENDING_UNTIL, Settled
from mailer.delivery.waiting import next_due, waiting
from mailer.rendering.edition import ABTest
from tests.changes import Changes, changes
from tests.databases import recount
from tests.delivery.scene import AT, EDITION, subscribe

EARLIER, LATER = AT - timedelta(hours=1), AT + timedelta(hours=1)
FIRST, SECOND, THIRD = (f"{number}-neighbour" for number in range(3))
QUEUED, SENDING, SENT = DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.SENT
DEFERRED, FAILED = DeliveryState.DEFERRED, DeliveryState.FAILED
UNCERTAIN, SKIPPED = DeliveryState.UNCERTAIN, DeliveryState.SKIPPED
ROWS: Mapping[int, dict[str, Any]] = {
    1: {"state": QUEUED},
    2: {"state": SENDING},
    3: {"state": SENT, "code": 250},
    4: {"state": DEFERRED, "due_at": AT, "code": 451},
    5: {"state": FAILED, "code": 550, "bounce_class": "other"},
    6: {"state": UNCERTAIN, "due_at": AT, "reply": "lost"},
    7: {"state": SKIPPED},
    8: {"state": FAILED, "reply": "no name"},
    9: {"state": DEFERRED, "due_at": PENDING_UNTIL, "code": 550},
    10: {"state": SENDING, "due_at": AT, "code": 451, "enhanced": "4.2.2", "bounce_class": "mailbox_full"},
    11: {"state": SENDING, "due_at": AT},
}
"""What each issue has for each subscriber; two more subscribers are newcomers."""
OF_RIVAL = (4, 11)
"""Those that another run of the issue holds, or held."""


@dataclass(frozen=True)
class Scene:
    """Two issues that are alike, each with a run, a schedule, a canary and a replaced edition."""

    issue: int
    other: int
    run: int


Act = Callable[[Session, Scene], object]


@pytest.fixture
def scene(database: Database) -> Scene:
    subscribe(database, len(ROWS) + 2)
    with database.transaction() as session:
        made = [_issue(session, slug) for slug in (FIRST, SECOND)]
        _schedule(session, THIRD)
        recount(session)
    (issue, run_id), (other, _) = made
    return Scene(issue, other, run_id)


def _issue(session: Session, slug: str) -> tuple[int, int]:
    edition = replace(EDITION, slug=slug)
    old = replace(edition, title="Old")
    these = Subscriber.id <= len(ROWS)
    issue, _ = issues.enqueue(session, edition, source_path="", at=AT, condition=these)
    run_id, rival = (runs.begin(session, issue.id, at=AT) for _ in range(2))
    for n, values in ROWS.items():
        row = {
            "attempts": 1,
            "first_at": AT,
            "changed_at": AT,
            "run_id": rival if n in OF_RIVAL else run_id,
            **values,
        }
        if values["state"] is QUEUED:
            row = values
        this = update(Delivery).where(Delivery.issue_id == issue.id, Delivery.subscriber_id == n)
        session.execute(this.values({**row, "state": values["state"].value}))
    session.add_all(CanaryMember(issue_id=issue.id, subscriber_id=n) for n in (1, 3))
    digest = issues.freeze(session, old, at=AT)
    session.add(ReplacedEdition(issue_id=issue.id, number=1, digest=digest, replaced_at=AT))
    _schedule(session, slug)
    return issue.id, run_id


def _schedule(session: Session, slug: str) -> None:
    session.add(
        ScheduledIssue(
            slug=slug, source_path="", edition=replace(EDITION, slug=slug).to_json(), due_at=AT, created_at=AT
        )
    )


def _canary(session: Session, state: CanaryState, issue_state: IssueState = IssueState.SENDING) -> None:
    session.execute(
        update(StoredIssue).values(canary=state.value, canary_until=AT, state=issue_state.value, reason="x")
    )


def _sent(session: Session) -> None:
    """Settle everything, and remove the schedules."""
    session.execute(delete(ScheduledIssue))
    session.execute(update(Delivery).values(state=SENT.value))
    recount(session)


def _unsent(session: Session) -> None:
    session.execute(update(Delivery).values(state=QUEUED.value))
    recount(session)


def _begin_test(session: Session, issue_id: int) -> None:
    replaced = select(ReplacedEdition.digest).where(ReplacedEdition.issue_id == issue_id)
    digests = [issues.get(session, issue_id).edition_digest, *session.scalars(replaced)]
    arms.begin(session, issue_id, digests, ABTest(share=0.5), seed="x")


def _tested(session: Session) -> None:
    session.execute(delete(CanaryMember))
    for issue_id in session.scalars(select(StoredIssue.id)).all():
        _begin_test(session, issue_id)
    _canary(session, CanaryState.WAITING)


def _tested_and_stopped(session: Session) -> None:
    _tested(session)
    _canary(session, CanaryState.STOPPED, IssueState.PAUSED)


def _tested_and_held(session: Session) -> None:
    _tested(session)
    session.execute(update(StoredTest).values(hold=True))


def _tested_and_unsent(session: Session) -> None:
    _tested(session)
    _unsent(session)


def _queue_fifth(session: Session) -> None:
    """Queue a delivery that is not the canary's, to another domain than all others."""
    queued = {"state": QUEUED.value, "first_at": None, "run_id": None}
    session.execute(update(Delivery).where(Delivery.subscriber_id == 5).values(queued))
    session.execute(update(Subscriber).where(Subscriber.id == 5).values(domain="example.net"))
    recount(session)


def _claim(session: Session, scene: Scene, at: datetime, **but: Any) -> None:
    usual = {"limit": 9, "after": 0, "resend_uncertain": True}
    queue.claim(session, scene.issue, run_id=scene.run, at=at, **(usual | but))


def _as_it_is(session: Session) -> None:
    """Change nothing beforehand."""


ACTS: dict[str, tuple[Callable[[Session], object], Act, Changes]] = {
    "enqueue": (
        _as_it_is,
        lambda s, x: issues.enqueue(s, replace(EDITION, slug=THIRD), source_path="", at=LATER),
        {
            "deliveries: added": [*ROWS, 12, 13],
            "editions: added": [0],
            "issues: added": [3],
            "schedules: removed": [3],
            "webhook_events: added issue.queued": [0],
        },
    ),
    "retry": (
        _as_it_is,
        lambda s, x: control.retry(s, x.issue, FAILED, at=LATER),
        {"deliveries: changed_at first_at state=queued": [5, 8]},
    ),
    "retry after the end": (
        lambda s: s.execute(
            update(StoredIssue).values(state=IssueState.FINISHED.value, finished_at=AT, reason="x")
        ),
        lambda s, x: control.retry(s, x.issue, FAILED, at=LATER),
        {
            "deliveries: changed_at first_at state=queued": [5, 8],
            "issues: finished_at reason state=sending": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "retry deferred": (
        _as_it_is,
        lambda s, x: control.retry(s, x.issue, DEFERRED, at=LATER),
        {"deliveries: changed_at due_at first_at state=queued": [4, 9]},
    ),
    "retry uncomposed": (
        _as_it_is,
        lambda s, x: control.retry_uncomposed(s, x.issue, at=LATER),
        {"deliveries: changed_at first_at state=queued": [8]},
    ),
    "pause": (
        _as_it_is,
        lambda s, x: control.pause(s, x.issue, "a rest"),
        {
            "issues: reason state=paused": [1],
            "webhook_events: added issue.paused": [0],
        },
    ),
    "resume": (
        lambda s: _canary(s, CanaryState.STOPPED, IssueState.PAUSED),
        lambda s, x: control.resume(s, x.issue),
        {
            "issues: canary=passed reason state=sending": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "resume, not stopped": (
        lambda s: _canary(s, CanaryState.WAITING, IssueState.PAUSED),
        lambda s, x: canary.resume(s, x.issue),
        {
            "issues: reason state=sending": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "accept refusals": (
        _as_it_is,
        lambda s, x: control.accept_refusals(s, x.issue, at=LATER),
        {"events: added": [1]},
    ),
    "cancel": (
        _as_it_is,
        lambda s, x: control.cancel(s, x.issue, at=LATER),
        {
            "deliveries: changed_at due_at reply state=skipped": [4, 9],
            "deliveries: changed_at reply state=skipped": [1],
            "issues: reason state=cancelled": [1],
            "schedules: removed": [1],
            "webhook_events: added issue.cancelled": [0],
        },
    ),
    "withdraw": (
        _unsent,
        lambda s, x: control.withdraw(s, x.issue),
        {
            "canary_members: removed": [1, 3],
            "deliveries: removed": [*ROWS],
            "editions: removed": [0, 0],
            "issues: removed": [1],
            "replaced_editions: removed": [1],
            "runs: removed": [1, 2],
            "schedules: removed": [1],
        },
    ),
    "skip deferred": (
        _as_it_is,
        lambda s, x: control.skip_deferred(s, x.issue, Subscriber.id < 9, "gone", at=LATER),
        {"deliveries: changed_at due_at reply state=skipped": [4]},
    ),
    "finish": (
        _sent,
        lambda s, x: control.finish(s, x.issue, at=LATER),
        {
            "issues: finished_at state=finished": [1],
            "webhook_events: added issue.finished": [0],
        },
    ),
    "finish a cancelled one": (
        lambda s: s.execute(update(StoredIssue).values(state=IssueState.CANCELLED.value)),
        lambda s, x: control.finish(s, x.issue, at=LATER),
        {
            "deliveries: changed_at due_at reply state=skipped": [4, 9],
            "deliveries: changed_at reply state=skipped": [1],
        },
    ),
    "publish": (_as_it_is, lambda s, x: control.publish(s, x.issue, at=LATER), {"issues: published_at": [1]}),
    "begin a canary": (
        lambda s: s.execute(delete(CanaryMember)),
        lambda s, x: canary.begin(s, x.issue, 1.0, ("s3@example.org",)),
        {"canary_members: added": [*ROWS], "issues: canary=seeding": [1]},
    ),
    "advance a canary": (
        lambda s: _canary(s, CanaryState.SENDING),
        lambda s, x: canary.advance(
            s, x.issue, CanaryState.WAITING, until=LATER, only_from=CanaryState.SENDING
        ),
        {"issues: canary=waiting canary_until": [1]},
    ),
    "advance a canary that was advanced": (
        lambda s: _canary(s, CanaryState.STOPPED),
        lambda s, x: canary.advance(
            s, x.issue, CanaryState.WAITING, until=LATER, only_from=CanaryState.SENDING
        ),
        {},
    ),
    "let a canary pass": (
        lambda s: _canary(s, CanaryState.WAITING),
        lambda s, x: canary.conclude(s, x.issue, at=LATER),
        {"issues: canary=passed canary_until published_at": [1]},
    ),
    "stop a canary": (
        lambda s: _canary(s, CanaryState.WAITING),
        lambda s, x: canary.stop(s, x.issue, "bounces"),
        {
            "issues: canary=stopped canary_until reason state=paused": [1],
            "webhook_events: added issue.paused": [0],
        },
    ),
    "let a paused canary pass": (
        lambda s: _canary(s, CanaryState.WAITING, IssueState.PAUSED),
        lambda s, x: canary.conclude(s, x.issue, at=LATER),
        {},
    ),
    "let the canary of a finished issue pass": (
        lambda s: _canary(s, CanaryState.WAITING, IssueState.FINISHED),
        lambda s, x: canary.conclude(s, x.issue, at=LATER),
        {"issues: canary=passed canary_until published_at": [1]},
    ),
    "stop the canary of a paused issue": (
        lambda s: _canary(s, CanaryState.WAITING, IssueState.PAUSED),
        lambda s, x: canary.stop(s, x.issue, "bounces"),
        {},
    ),
    "hurry a paused canary": (
        lambda s: _canary(s, CanaryState.WAITING, IssueState.PAUSED),
        lambda s, x: canary.hurry(s, x.issue),
        {},
    ),
    "hurry a canary that is sent": (
        lambda s: _canary(s, CanaryState.SENDING),
        lambda s, x: canary.hurry(s, x.issue),
        {},
    ),
    "hurry a canary": (
        lambda s: _canary(s, CanaryState.WAITING),
        lambda s, x: canary.hurry(s, x.issue),
        {"issues: canary=passed canary_until": [1]},
    ),
    "recover": (
        _as_it_is,
        lambda s, x: queue.recover(s, x.issue, at=LATER),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=uncertain": [10],
            "deliveries: changed_at due_at": [9],
            "deliveries: changed_at due_at reply state=uncertain": [2, 11],
        },
    ),
    "recover a run": (
        _as_it_is,
        lambda s, x: queue.recover(s, x.issue, at=LATER, run_id=x.run, due_at=LATER),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=uncertain": [10],
            "deliveries: changed_at due_at": [9],
            "deliveries: changed_at due_at reply state=uncertain": [2],
        },
    ),
    "claim": (
        lambda s: s.execute(update(Subscriber).where(Subscriber.id == 4).values(status="unsubscribed")),
        lambda s, x: queue.claim(s, x.issue, run_id=x.run, limit=9, after=0, at=LATER, resend_uncertain=True),
        {
            "deliveries: attempts changed_at first_at run_id state=sending": [1],
            "deliveries: attempts changed_at state=sending": [6],
            "deliveries: changed_at due_at reply state=skipped": [4],
        },
    ),
    "claim what is queued": (
        _queue_fifth,
        lambda s, x: _claim(s, x, EARLIER),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1, 5]},
    ),
    "claim one": (
        _queue_fifth,
        lambda s, x: _claim(s, x, EARLIER, limit=1),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1]},
    ),
    "claim after another": (
        _queue_fifth,
        lambda s, x: _claim(s, x, EARLIER, after=1),
        {"deliveries: attempts changed_at first_at run_id state=sending": [5]},
    ),
    "claim the canary": (
        _queue_fifth,
        lambda s, x: _claim(s, x, EARLIER, members_only=True),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1]},
    ),
    "claim but for a domain": (
        _queue_fifth,
        lambda s, x: _claim(s, x, EARLIER, except_domains=["example.net"]),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1]},
    ),
    "claim what is due": (
        _queue_fifth,
        lambda s, x: _claim(s, x, AT, after=11),
        {"deliveries: attempts run_id state=sending": [4], "deliveries: attempts state=sending": [6]},
    ),
    "claim what is certain": (
        _queue_fifth,
        lambda s, x: _claim(s, x, AT, after=11, resend_uncertain=False),
        {"deliveries: attempts run_id state=sending": [4]},
    ),
    "settle": (
        _as_it_is,
        lambda s, x: queue.settle(
            s,
            x.issue,
            [
                Settled(2, SENT, code=250, enhanced="2.0.0", reply="ok"),
                Settled(10, FAILED, code=550, enhanced="5.1.1", reply="no", bounce_class="other"),
            ],
            run_id=x.run,
            at=LATER,
        ),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=failed": [10],
            "deliveries: changed_at code enhanced reply state=sent": [2],
        },
    ),
    "settle late": (
        _as_it_is,
        lambda s, x: queue.settle_late(
            s, x.issue, [Settled(6, SENT), Settled(9, SENT)], run_id=x.run, at=LATER
        ),
        {"deliveries: changed_at due_at reply state=sent": [6]},
    ),
    "release": (
        _as_it_is,
        lambda s, x: queue.release(s, x.issue, [2, 10, 11], run_id=x.run, at=LATER),
        {
            "deliveries: attempts changed_at first_at run_id state=deferred": [10],
            "deliveries: attempts changed_at first_at run_id state=queued": [2],
        },
    ),
    "fail pending": (
        _as_it_is,
        lambda s, x: queue.fail_pending(s, x.issue, [4, 9], run_id=x.run, at=LATER),
        {"deliveries: changed_at due_at state=failed": [9]},
    ),
    "retry pending": (
        _as_it_is,
        lambda s, x: queue.retry_pending(s, x.issue, [4, 9], run_id=x.run, at=LATER),
        {"deliveries: changed_at due_at first_at": [9]},
    ),
    "queue newcomers": (
        lambda s: s.execute(update(StoredIssue).values(state=IssueState.FINISHED.value, finished_at=AT)),
        lambda s, x: newcomers.queue_newcomers(s, x.issue, None, at=LATER),
        {
            "deliveries: added": [12, 13],
            "issues: audience finished_at state=sending": [1],
            "schedules: removed": [1],
        },
    ),
    "amend": (
        _as_it_is,
        lambda s, x: amending.amend(
            s, x.issue, replace(EDITION, slug=FIRST, title="New"), source_path="new.md", at=LATER
        ),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=uncertain": [10],
            "deliveries: changed_at due_at": [9],
            "deliveries: changed_at due_at reply state=uncertain": [2, 11],
            "deliveries: changed_at first_at state=queued": [8],
            "editions: added": [0],
            "issues: edition_digest source_path title": [1],
            "replaced_editions: added": [2],
        },
    ),
    "end a schedule": (_as_it_is, lambda s, x: schedule.end(s, FIRST, at=LATER), {"schedules: removed": [1]}),
    "miss a schedule": (
        _as_it_is,
        lambda s, x: schedule.miss(s, FIRST, at=LATER),
        {"events: added": [1], "schedules: missed_at": [1]},
    ),
    "schedule again": (
        _as_it_is,
        lambda s, x: schedule.add(
            s, replace(EDITION, slug=THIRD), source_path="", segment="", due_at=LATER, zone="", at=AT
        ),
        {"schedules: due_at": [3]},
    ),
    "end a run": (
        _as_it_is,
        lambda s, x: runs.end(s, x.run, at=LATER, reason="no relay"),
        {"runs: ended_at reason": [1]},
    ),
    "begin an A/B test": (
        lambda s: s.execute(delete(CanaryMember)),
        lambda s, x: _begin_test(s, x.issue),
        {
            "ab_tests: added": [1],
            "arms: added": [0, 1],
            "canary_members: added": [2, 4, 5, 7, 9, 11],
            "issues: canary=sending": [1],
        },
    ),
    "choose an arm": (
        _tested,
        lambda s, x: canary.choose(s, x.issue, "b", at=LATER),
        {
            "ab_tests: decided_at said winner": [1],
            "issues: canary=passed canary_until edition_digest published_at title": [1],
        },
    ),
    "choose an arm of one that waits for it": (
        _tested_and_stopped,
        lambda s, x: canary.choose(s, x.issue, "b", at=LATER),
        {
            "ab_tests: decided_at said winner": [1],
            "issues: canary=passed canary_until edition_digest published_at reason state=sending title": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "let an A/B test pass that a person decides": (
        _tested_and_held,
        lambda s, x: canary.conclude(s, x.issue, at=LATER),
        {
            "issues: canary=stopped canary_until reason state=paused": [1],
            "webhook_events: added issue.paused": [0],
        },
    ),
    "let an A/B test pass": (
        _tested,
        lambda s, x: canary.conclude(s, x.issue, at=LATER),
        {"ab_tests: decided_at said winner": [1], "issues: canary=passed canary_until published_at": [1]},
    ),
    "hold an A/B test": (_tested, lambda s, x: arms.hold(s, x.issue), {"ab_tests: hold": [1]}),
    "hurry an A/B test": (_tested, lambda s, x: canary.hurry(s, x.issue), {"issues: canary_until": [1]}),
    "withdraw an A/B test": (
        _tested_and_unsent,
        lambda s, x: control.withdraw(s, x.issue),
        {
            "ab_tests: removed": [1],
            "arms: removed": [0, 1],
            "canary_members: removed": [2, 4, 5, 7, 9, 11],
            "deliveries: removed": [*ROWS],
            "editions: removed": [0, 0],
            "issues: removed": [1],
            "replaced_editions: removed": [1],
            "runs: removed": [1, 2],
            "schedules: removed": [1],
        },
    ),
}


@pytest.mark.parametrize("name", ACTS)
def test_act_changes_only_its_own_rows(database: Database, scene: Scene, name: str) -> None:
    before, act, expected = ACTS[name]
    with database.transaction() as session:
        before(session)
    assert changes(database, lambda session: act(session, scene), kept=scene.other) == expected
    assert findings(database) == []


LOOKS: dict[str, Callable[[Session, int], object]] = {
    "issue": issues.get,
    "queued at": issues.queued_at,
    "progress": issues.progress,
    "edition number": issues.edition_number,
    "books": books_of,
    "running totals": running_books,
    "refusals accepted": control.refusals_accepted,
    "settled": control.is_settled,
    "canary": canary.findings,
    "strangers": lambda s, issue: canary.strangers(s, issue, ["s1@example.org", "s5@example.org"]),
    "test": arms.find,
    "arms": arms.editions,
    "arms of": lambda s, issue: arms.arms_of(s, issue, list(ROWS)),
    "editions": amending.digests,
    "waiting": waiting,
    "next due": lambda s, issue: next_due(s, issue, resend_uncertain=True),
    "last run": runs.last_ended,
    "sending": runs.is_sending,
    "schedule": lambda s, issue: schedule.find(s, issues.get(s, issue).slug),
    "held": lambda s, issue: [sorted(queue.held(s, issue, run_id)) for run_id in range(1, 5)],
    "holds any": lambda s, issue: [queue.holds_any(s, issue, [run_id]) for run_id in range(1, 5)],
}


@pytest.mark.parametrize("which", [0, 1])
def test_look_at_an_issue_sees_nothing_of_another(database: Database, scene: Scene, which: int) -> None:
    seen, other = (scene.issue, scene.other) if which else (scene.other, scene.issue)

    def look() -> dict[str, object]:
        with database.reading() as session:
            return {name: one(session, seen) for name, one in LOOKS.items()}

    before = look()
    with database.transaction() as session:
        # The other has everything that can be had, and all of its rows are different.
        session.execute(delete(CanaryMember).where(CanaryMember.issue_id == other))
        _begin_test(session, other)
        control.accept_refusals(session, other, at=LATER)
        digest = issues.get(session, other).edition_digest
        session.add(ReplacedEdition(issue_id=other, number=2, digest=digest, replaced_at=AT))
        ours = StoredIssue.id == other
        session.execute(
            update(StoredIssue)
            .where(ours)
            .values(created_at=LATER, published_at=LATER, state=IssueState.PAUSED.value, reason="other")
        )
        session.execute(
            update(Delivery)
            .where(Delivery.issue_id == other)
            .values(state=UNCERTAIN.value, due_at=EARLIER, reply="other", code=None, attempts=7)
        )
        session.execute(update(Run).where(Run.issue_id == other).values(ended_at=LATER, reason="other"))
        recount(session)
    assert look() == before
