"""Whatever is done to an issue changes only rows of its own, and the running totals follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from mailer.database.engine import Database
from mailer.database.tables import (
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


Act = Callable[[Connection, Scene], object]


@pytest.fixture
def scene(database: Database) -> Scene:
    subscribe(database, len(ROWS) + 2)
    with database.transaction() as connection:
        made = [_issue(connection, slug) for slug in (FIRST, SECOND)]
        _schedule(connection, THIRD)
        recount(connection)
    (issue, run_id), (other, _) = made
    return Scene(issue, other, run_id)


def _issue(connection: Connection, slug: str) -> tuple[int, int]:
    edition = replace(EDITION, slug=slug)
    old = replace(edition, title="Old")
    these = Subscriber.c.id <= len(ROWS)
    issue, _ = issues.enqueue(connection, edition, source_path="", at=AT, condition=these)
    run_id, rival = (runs.begin(connection, issue.id, at=AT) for _ in range(2))
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
        this = update(Delivery).where(Delivery.c.issue_id == issue.id, Delivery.c.subscriber_id == n)
        connection.execute(this.values({**row, "state": values["state"].value}))
    members = [{"issue_id": issue.id, "subscriber_id": n} for n in (1, 3)]
    connection.execute(insert(CanaryMember), members)
    digest = issues.freeze(connection, old, at=AT)
    connection.execute(
        insert(ReplacedEdition).values(issue_id=issue.id, number=1, digest=digest, replaced_at=AT)
    )
    _schedule(connection, slug)
    return issue.id, run_id


def _schedule(connection: Connection, slug: str) -> None:
    connection.execute(
        insert(ScheduledIssue).values(
            slug=slug, source_path="", edition=replace(EDITION, slug=slug).to_json(), due_at=AT, created_at=AT
        )
    )


def _canary(connection: Connection, state: CanaryState, issue_state: IssueState = IssueState.SENDING) -> None:
    connection.execute(
        update(StoredIssue).values(canary=state.value, canary_until=AT, state=issue_state.value, reason="x")
    )


def _sent(connection: Connection) -> None:
    """Settle everything, and remove the schedules."""
    connection.execute(delete(ScheduledIssue))
    connection.execute(update(Delivery).values(state=SENT.value))
    recount(connection)


def _unsent(connection: Connection) -> None:
    connection.execute(update(Delivery).values(state=QUEUED.value))
    recount(connection)


def _begin_test(connection: Connection, issue_id: int) -> None:
    replaced = select(ReplacedEdition.c.digest).where(ReplacedEdition.c.issue_id == issue_id)
    digests = [issues.get(connection, issue_id).edition_digest, *connection.scalars(replaced)]
    arms.begin(connection, issue_id, digests, ABTest(share=0.5), seed="x")


def _tested(connection: Connection) -> None:
    connection.execute(delete(CanaryMember))
    for issue_id in connection.scalars(select(StoredIssue.c.id)).all():
        _begin_test(connection, issue_id)
    _canary(connection, CanaryState.WAITING)


def _tested_and_stopped(connection: Connection) -> None:
    _tested(connection)
    _canary(connection, CanaryState.STOPPED, IssueState.PAUSED)


def _tested_and_held(connection: Connection) -> None:
    _tested(connection)
    connection.execute(update(StoredTest).values(hold=True))


def _tested_and_unsent(connection: Connection) -> None:
    _tested(connection)
    _unsent(connection)


def _queue_fifth(connection: Connection) -> None:
    """Queue a delivery that is not the canary's, to another domain than all others."""
    queued = {"state": QUEUED.value, "first_at": None, "run_id": None}
    connection.execute(update(Delivery).where(Delivery.c.subscriber_id == 5).values(queued))
    connection.execute(update(Subscriber).where(Subscriber.c.id == 5).values(domain="example.net"))
    recount(connection)


def _claim(connection: Connection, scene: Scene, at: datetime, **but: Any) -> None:
    usual = {"limit": 9, "after": 0, "resend_uncertain": True}
    queue.claim(connection, scene.issue, run_id=scene.run, at=at, **(usual | but))


def _as_it_is(connection: Connection) -> None:
    """Change nothing beforehand."""


ACTS: dict[str, tuple[Callable[[Connection], object], Act, Changes]] = {
    "enqueue": (
        _as_it_is,
        lambda c, x: issues.enqueue(c, replace(EDITION, slug=THIRD), source_path="", at=LATER),
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
        lambda c, x: control.retry(c, x.issue, FAILED, at=LATER),
        {"deliveries: changed_at first_at state=queued": [5, 8]},
    ),
    "retry after the end": (
        lambda c: c.execute(
            update(StoredIssue).values(state=IssueState.FINISHED.value, finished_at=AT, reason="x")
        ),
        lambda c, x: control.retry(c, x.issue, FAILED, at=LATER),
        {
            "deliveries: changed_at first_at state=queued": [5, 8],
            "issues: finished_at reason state=sending": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "retry deferred": (
        _as_it_is,
        lambda c, x: control.retry(c, x.issue, DEFERRED, at=LATER),
        {"deliveries: changed_at due_at first_at state=queued": [4, 9]},
    ),
    "retry uncomposed": (
        _as_it_is,
        lambda c, x: control.retry_uncomposed(c, x.issue, at=LATER),
        {"deliveries: changed_at first_at state=queued": [8]},
    ),
    "pause": (
        _as_it_is,
        lambda c, x: control.pause(c, x.issue, "a rest"),
        {
            "issues: reason state=paused": [1],
            "webhook_events: added issue.paused": [0],
        },
    ),
    "resume": (
        lambda c: _canary(c, CanaryState.STOPPED, IssueState.PAUSED),
        lambda c, x: control.resume(c, x.issue),
        {
            "issues: canary=passed reason state=sending": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "resume, not stopped": (
        lambda c: _canary(c, CanaryState.WAITING, IssueState.PAUSED),
        lambda c, x: canary.resume(c, x.issue),
        {
            "issues: reason state=sending": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "accept refusals": (
        _as_it_is,
        lambda c, x: control.accept_refusals(c, x.issue, at=LATER),
        {"events: added": [1]},
    ),
    "cancel": (
        _as_it_is,
        lambda c, x: control.cancel(c, x.issue, at=LATER),
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
        lambda c, x: control.withdraw(c, x.issue),
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
        lambda c, x: control.skip_deferred(c, x.issue, Subscriber.c.id < 9, "gone", at=LATER),
        {"deliveries: changed_at due_at reply state=skipped": [4]},
    ),
    "finish": (
        _sent,
        lambda c, x: control.finish(c, x.issue, at=LATER),
        {
            "issues: finished_at state=finished": [1],
            "webhook_events: added issue.finished": [0],
        },
    ),
    "finish a cancelled one": (
        lambda c: c.execute(update(StoredIssue).values(state=IssueState.CANCELLED.value)),
        lambda c, x: control.finish(c, x.issue, at=LATER),
        {
            "deliveries: changed_at due_at reply state=skipped": [4, 9],
            "deliveries: changed_at reply state=skipped": [1],
        },
    ),
    "publish": (_as_it_is, lambda c, x: control.publish(c, x.issue, at=LATER), {"issues: published_at": [1]}),
    "begin a canary": (
        lambda c: c.execute(delete(CanaryMember)),
        lambda c, x: canary.begin(c, x.issue, 1.0, ("s3@example.org",)),
        {"canary_members: added": [*ROWS], "issues: canary=seeding": [1]},
    ),
    "advance a canary": (
        lambda c: _canary(c, CanaryState.SENDING),
        lambda c, x: canary.advance(
            c, x.issue, CanaryState.WAITING, until=LATER, only_from=CanaryState.SENDING
        ),
        {"issues: canary=waiting canary_until": [1]},
    ),
    "advance a canary that was advanced": (
        lambda c: _canary(c, CanaryState.STOPPED),
        lambda c, x: canary.advance(
            c, x.issue, CanaryState.WAITING, until=LATER, only_from=CanaryState.SENDING
        ),
        {},
    ),
    "let a canary pass": (
        lambda c: _canary(c, CanaryState.WAITING),
        lambda c, x: canary.conclude(c, x.issue, at=LATER),
        {"issues: canary=passed canary_until published_at": [1]},
    ),
    "stop a canary": (
        lambda c: _canary(c, CanaryState.WAITING),
        lambda c, x: canary.stop(c, x.issue, "bounces"),
        {
            "issues: canary=stopped canary_until reason state=paused": [1],
            "webhook_events: added issue.paused": [0],
        },
    ),
    "let a paused canary pass": (
        lambda c: _canary(c, CanaryState.WAITING, IssueState.PAUSED),
        lambda c, x: canary.conclude(c, x.issue, at=LATER),
        {},
    ),
    "let the canary of a finished issue pass": (
        lambda c: _canary(c, CanaryState.WAITING, IssueState.FINISHED),
        lambda c, x: canary.conclude(c, x.issue, at=LATER),
        {"issues: canary=passed canary_until published_at": [1]},
    ),
    "stop the canary of a paused issue": (
        lambda c: _canary(c, CanaryState.WAITING, IssueState.PAUSED),
        lambda c, x: canary.stop(c, x.issue, "bounces"),
        {},
    ),
    "hurry a paused canary": (
        lambda c: _canary(c, CanaryState.WAITING, IssueState.PAUSED),
        lambda c, x: canary.hurry(c, x.issue),
        {},
    ),
    "hurry a canary that is sent": (
        lambda c: _canary(c, CanaryState.SENDING),
        lambda c, x: canary.hurry(c, x.issue),
        {},
    ),
    "hurry a canary": (
        lambda c: _canary(c, CanaryState.WAITING),
        lambda c, x: canary.hurry(c, x.issue),
        {"issues: canary=passed canary_until": [1]},
    ),
    "recover": (
        _as_it_is,
        lambda c, x: queue.recover(c, x.issue, at=LATER),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=uncertain": [10],
            "deliveries: changed_at due_at": [9],
            "deliveries: changed_at due_at reply state=uncertain": [2, 11],
        },
    ),
    "recover a run": (
        _as_it_is,
        lambda c, x: queue.recover(c, x.issue, at=LATER, run_id=x.run, due_at=LATER),
        {
            "deliveries: bounce_class changed_at code due_at enhanced reply state=uncertain": [10],
            "deliveries: changed_at due_at": [9],
            "deliveries: changed_at due_at reply state=uncertain": [2],
        },
    ),
    "claim": (
        lambda c: c.execute(update(Subscriber).where(Subscriber.c.id == 4).values(status="unsubscribed")),
        lambda c, x: queue.claim(c, x.issue, run_id=x.run, limit=9, after=0, at=LATER, resend_uncertain=True),
        {
            "deliveries: attempts changed_at first_at run_id state=sending": [1],
            "deliveries: attempts changed_at state=sending": [6],
            "deliveries: changed_at due_at reply state=skipped": [4],
        },
    ),
    "claim what is queued": (
        _queue_fifth,
        lambda c, x: _claim(c, x, EARLIER),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1, 5]},
    ),
    "claim one": (
        _queue_fifth,
        lambda c, x: _claim(c, x, EARLIER, limit=1),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1]},
    ),
    "claim after another": (
        _queue_fifth,
        lambda c, x: _claim(c, x, EARLIER, after=1),
        {"deliveries: attempts changed_at first_at run_id state=sending": [5]},
    ),
    "claim the canary": (
        _queue_fifth,
        lambda c, x: _claim(c, x, EARLIER, members_only=True),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1]},
    ),
    "claim but for a domain": (
        _queue_fifth,
        lambda c, x: _claim(c, x, EARLIER, except_domains=["example.net"]),
        {"deliveries: attempts changed_at first_at run_id state=sending": [1]},
    ),
    "claim what is due": (
        _queue_fifth,
        lambda c, x: _claim(c, x, AT, after=11),
        {"deliveries: attempts run_id state=sending": [4], "deliveries: attempts state=sending": [6]},
    ),
    "claim what is certain": (
        _queue_fifth,
        lambda c, x: _claim(c, x, AT, after=11, resend_uncertain=False),
        {"deliveries: attempts run_id state=sending": [4]},
    ),
    "settle": (
        _as_it_is,
        lambda c, x: queue.settle(
            c,
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
        lambda c, x: queue.settle_late(
            c, x.issue, [Settled(6, SENT), Settled(9, SENT)], run_id=x.run, at=LATER
        ),
        {"deliveries: changed_at due_at reply state=sent": [6]},
    ),
    "release": (
        _as_it_is,
        lambda c, x: queue.release(c, x.issue, [2, 10, 11], run_id=x.run, at=LATER),
        {
            "deliveries: attempts changed_at first_at run_id state=deferred": [10],
            "deliveries: attempts changed_at first_at run_id state=queued": [2],
        },
    ),
    "fail pending": (
        _as_it_is,
        lambda c, x: queue.fail_pending(c, x.issue, [4, 9], run_id=x.run, at=LATER),
        {"deliveries: changed_at due_at state=failed": [9]},
    ),
    "retry pending": (
        _as_it_is,
        lambda c, x: queue.retry_pending(c, x.issue, [4, 9], run_id=x.run, at=LATER),
        {"deliveries: changed_at due_at first_at": [9]},
    ),
    "queue newcomers": (
        lambda c: c.execute(update(StoredIssue).values(state=IssueState.FINISHED.value, finished_at=AT)),
        lambda c, x: newcomers.queue_newcomers(c, x.issue, None, at=LATER),
        {
            "deliveries: added": [12, 13],
            "issues: audience finished_at state=sending": [1],
            "schedules: removed": [1],
        },
    ),
    "amend": (
        _as_it_is,
        lambda c, x: amending.amend(
            c, x.issue, replace(EDITION, slug=FIRST, title="New"), source_path="new.md", at=LATER
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
    "end a schedule": (_as_it_is, lambda c, x: schedule.end(c, FIRST, at=LATER), {"schedules: removed": [1]}),
    "miss a schedule": (
        _as_it_is,
        lambda c, x: schedule.miss(c, FIRST, at=LATER),
        {"events: added": [1], "schedules: missed_at": [1]},
    ),
    "schedule again": (
        _as_it_is,
        lambda c, x: schedule.add(
            c, replace(EDITION, slug=THIRD), source_path="", segment="", due_at=LATER, zone="", at=AT
        ),
        {"schedules: due_at": [3]},
    ),
    "end a run": (
        _as_it_is,
        lambda c, x: runs.end(c, x.run, at=LATER, reason="no relay"),
        {"runs: ended_at reason": [1]},
    ),
    "begin an A/B test": (
        lambda c: c.execute(delete(CanaryMember)),
        lambda c, x: _begin_test(c, x.issue),
        {
            "ab_tests: added": [1],
            "arms: added": [0, 1],
            "canary_members: added": [2, 4, 5, 7, 9, 11],
            "issues: canary=sending": [1],
        },
    ),
    "choose an arm": (
        _tested,
        lambda c, x: canary.choose(c, x.issue, "b", at=LATER),
        {
            "ab_tests: decided_at said winner": [1],
            "issues: canary=passed canary_until edition_digest published_at title": [1],
        },
    ),
    "choose an arm of one that waits for it": (
        _tested_and_stopped,
        lambda c, x: canary.choose(c, x.issue, "b", at=LATER),
        {
            "ab_tests: decided_at said winner": [1],
            "issues: canary=passed canary_until edition_digest published_at reason state=sending title": [1],
            "webhook_events: added issue.resumed": [0],
        },
    ),
    "let an A/B test pass that a person decides": (
        _tested_and_held,
        lambda c, x: canary.conclude(c, x.issue, at=LATER),
        {
            "issues: canary=stopped canary_until reason state=paused": [1],
            "webhook_events: added issue.paused": [0],
        },
    ),
    "let an A/B test pass": (
        _tested,
        lambda c, x: canary.conclude(c, x.issue, at=LATER),
        {"ab_tests: decided_at said winner": [1], "issues: canary=passed canary_until published_at": [1]},
    ),
    "hold an A/B test": (_tested, lambda c, x: arms.hold(c, x.issue), {"ab_tests: hold": [1]}),
    "hurry an A/B test": (_tested, lambda c, x: canary.hurry(c, x.issue), {"issues: canary_until": [1]}),
    "withdraw an A/B test": (
        _tested_and_unsent,
        lambda c, x: control.withdraw(c, x.issue),
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
    with database.transaction() as connection:
        before(connection)
    assert changes(database, lambda connection: act(connection, scene), kept=scene.other) == expected
    assert findings(database) == []


LOOKS: dict[str, Callable[[Connection, int], object]] = {
    "issue": issues.get,
    "queued at": issues.queued_at,
    "progress": issues.progress,
    "edition number": issues.edition_number,
    "books": books_of,
    "running totals": running_books,
    "refusals accepted": control.refusals_accepted,
    "settled": control.is_settled,
    "canary": canary.findings,
    "strangers": lambda c, issue: canary.strangers(c, issue, ["s1@example.org", "s5@example.org"]),
    "test": arms.find,
    "arms": arms.editions,
    "arms of": lambda c, issue: arms.arms_of(c, issue, list(ROWS)),
    "editions": amending.digests,
    "waiting": waiting,
    "next due": lambda c, issue: next_due(c, issue, resend_uncertain=True),
    "last run": runs.last_ended,
    "sending": runs.is_sending,
    "schedule": lambda c, issue: schedule.find(c, issues.get(c, issue).slug),
    "held": lambda c, issue: [sorted(queue.held(c, issue, run_id)) for run_id in range(1, 5)],
    "holds any": lambda c, issue: [queue.holds_any(c, issue, [run_id]) for run_id in range(1, 5)],
}


@pytest.mark.parametrize("which", [0, 1])
def test_look_at_an_issue_sees_nothing_of_another(database: Database, scene: Scene, which: int) -> None:
    seen, other = (scene.issue, scene.other) if which else (scene.other, scene.issue)

    def look() -> dict[str, object]:
        with database.reading() as connection:
            return {name: one(connection, seen) for name, one in LOOKS.items()}

    before = look()
    with database.transaction() as connection:
        # The other has everything that can be had, and all of its rows are different.
        connection.execute(delete(CanaryMember).where(CanaryMember.c.issue_id == other))
        _begin_test(connection, other)
        control.accept_refusals(connection, other, at=LATER)
        digest = issues.get(connection, other).edition_digest
        connection.execute(
            insert(ReplacedEdition).values(issue_id=other, number=2, digest=digest, replaced_at=AT)
        )
        ours = StoredIssue.c.id == other
        connection.execute(
            update(StoredIssue)
            .where(ours)
            .values(created_at=LATER, published_at=LATER, state=IssueState.PAUSED.value, reason="other")
        )
        connection.execute(
            update(Delivery)
            .where(Delivery.c.issue_id == other)
            .values(state=UNCERTAIN.value, due_at=EARLIER, reply="other", code=None, attempts=7)
        )
        connection.execute(update(Run).where(Run.c.issue_id == other).values(ended_at=LATER, reason="other"))
        recount(connection)
    assert look() == before
