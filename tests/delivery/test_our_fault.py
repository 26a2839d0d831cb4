"""A refusal of us: nobody is suppressed, the run pauses or another relay takes over, and all get it later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, update

from mailer.bounces.refusals import learn_by
from mailer.cli.send import exit_code
from mailer.config import Bounces, DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Run, Subscriber, Suppression
from mailer.delivery import control, issues, queue, runs
from mailer.delivery.books import books_of, running_books
from mailer.delivery.clock import Clock, now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.queue import PENDING_UNTIL, Settled
from mailer.delivery.sender import Hooks, Sender
from mailer.errors import ExitCode
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import AT, books, delivery, make_composer, queued
from tests.smtp.scripted import Script, serving

PEOPLE = 200
ABOUT_US = {
    "null MX": b"550 5.7.27 <b@example.org>: Sender address rejected: Domain example.org does not accept"
    b" mail (nullMX)",
    "our DNS": b"550 Requested action not taken: mailbox unavailable: invalid DNS MX or A/AAAA resource"
    b" record",
    "sending failed": b"550 Requested action not taken: mailbox unavailable: Failure sending mail. Try again"
    b" later",
    "HELO": b"550 Helo command rejected: Host not found",
    "callback": b"550 Callback setup failed while verifying <b@bounce.example.org>",
    "unauthorized": b"550 5.1.1 <newsletter@example.org>: unauthorized sender",
    "From": b"550 5.2.0 From: Domain is invalid or not registered. IB506",
    "sender address": b"554 mail address invalid",
    "spam rate": b"550 5.7.1 Our system has detected unusual mail; to protect our users from spam, mail from"
    b" your address has been blocked",
    "account": b"550 Your account has been suspended",
    "first code": b"500 5.2.9 Not here",
}
NO_SUCH_USER = b"550 5.1.1 no such user"


@dataclass
class Scene:
    """Runs of one issue; every server gives the same reply until it is changed."""

    database: Database
    issue: QueuedIssue

    def send(self, *scripts: Script, relays: Sequence[Mapping[str, Any]] = ({}, {})) -> Ended:
        """Send through one relay for each script, learning by the policy of bounces."""

        async def main() -> Ended:
            async with AsyncExitStack() as stack:
                found = {}
                for place, script in enumerate(scripts):
                    relay = await stack.enter_async_context(serving(script))
                    changed = msgspec.structs.replace(relay, connections=4, **relays[place])
                    found[f"relay{place}"] = Access(changed)
                composer = make_composer(self.issue.id)
                sender = Sender(
                    self.database,
                    self.issue.id,
                    composer,
                    Network(found, client_name="here.example"),
                    DeliverySettings(window=50),
                    Hooks(learn_by(Bounces())),
                    Clock(jitter=lambda: 1.0),
                )
                return await sender.run()

        return asyncio.run(main())

    def resume(self) -> None:
        with self.database.transaction() as connection:
            assert control.resume(connection, self.issue.id)

    def suppressed(self) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(Suppression)) or 0

    def counted(self) -> int:
        """Return how many subscribers have soft bounces."""
        with self.database.reading() as connection:
            counted = select(func.count()).select_from(Subscriber).where(Subscriber.c.soft_points > 0)
            return connection.scalar(counted) or 0


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database, queued(database, PEOPLE))


def refusing(reply: bytes, verb: str = "RCPT") -> Script:
    return Script(answer=lambda said, n: reply + b"\r\n" if said == verb else None)


def received(*scripts: Script) -> int:
    """Return how many people the servers accepted a message for."""
    return len({line for script in scripts for body in script.accepted for line in body.split(b"\r\n")
                if line.startswith(b"To: ")})  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "verb"),
    [*((reply, "RCPT") for reply in ABOUT_US.values()), (ABOUT_US["account"], "BODY")],
    ids=[*ABOUT_US, "account, after the body"],
)
def test_refusal_of_us_suppresses_nobody_and_all_get_it_once_it_is_fixed(
    scene: Scene, reply: bytes, verb: str
) -> None:
    ended = scene.send(refusing(reply, verb))
    assert (ended.ending, exit_code(ended)) == (Ending.PAUSED, ExitCode.CONFIGURATION)
    assert reply.decode().split(" ", 1)[1][-30:] in ended.reason
    assert (scene.suppressed(), scene.counted()) == (0, 0)
    assert (ended.books.failed, ended.books.sent, ended.books.sending) == (0, 0, 0)
    scene.resume()
    well = Script()
    ended = scene.send(well)
    assert (ended.ending, ended.books.sent, received(well)) == (Ending.FINISHED, PEOPLE, PEOPLE)


def test_whoever_is_asked_to_come_back_later_is_refused_by_nobody(scene: Scene) -> None:
    ended = scene.send(refusing(b"451 4.3.0 Try again later"))
    assert (ended.ending, ended.books.deferred, ended.books.failed) == (Ending.WAITING, PEOPLE, 0)


def test_healthy_relay_that_knows_no_mailbox_any_more_costs_nobody_a_subscription(scene: Scene) -> None:
    # Word for word what a dead mailbox gives: only its being said to everybody tells it from one.
    ended = scene.send(refusing(NO_SUCH_USER))
    assert (ended.ending, exit_code(ended)) == (Ending.PAUSED, ExitCode.CONFIGURATION)
    assert "relay0 refused 18 of the last 18 messages with one reply" in ended.reason
    assert (scene.suppressed(), ended.books.failed) == (0, 0)
    with scene.database.reading() as connection:
        assert issues.get(connection, scene.issue.id).reason == ended.reason
    scene.resume()
    assert scene.send(Script()).books.sent == PEOPLE


def test_account_suspended_in_the_middle_costs_nobody(scene: Scene) -> None:
    script = Script(answer=lambda verb, n: NO_SUCH_USER + b"\r\n" if verb == "RCPT" and n > 100 else None)
    ended = scene.send(script)
    assert (ended.ending, scene.suppressed(), ended.books.failed) == (Ending.PAUSED, 0, 0)
    assert ended.books.sent == received(script) == 100
    scene.resume()
    rest = Script()
    assert scene.send(rest).books.sent == PEOPLE
    assert received(rest) == 100


def test_dead_addresses_among_others_are_suppressed_in_the_same_run(scene: Scene) -> None:
    script = Script(answer=lambda verb, n: NO_SUCH_USER + b"\r\n" if verb == "RCPT" and n % 4 == 0 else None)
    ended = scene.send(script)
    assert (ended.ending, ended.books.sent, ended.books.failed) == (Ending.FINISHED, 150, 50)
    assert scene.suppressed() == 50


def test_provider_that_refuses_everybody_pauses_while_others_accept(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        connection.execute(update(Subscriber).where(Subscriber.c.id % 2 == 0).values(domain="big.example"))

    def answer(verb: str, n: int) -> bytes | None:
        # Both halves are served in turn, so every second RCPT is the provider's, give or take a few.
        last = script.recipients()[-1] if verb == "RCPT" else ""
        number = int(last.partition("@")[0][1:]) if last else 1
        return NO_SUCH_USER + b"\r\n" if number % 2 == 0 else None

    script = Script(answer=answer)
    ended = scene.send(script)
    assert (ended.ending, scene.suppressed(), ended.books.failed) == (Ending.PAUSED, 0, 0)
    assert "provider big.example refused" in ended.reason


@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("RCPT", NO_SUCH_USER),
        ("BODY", b"550 Your account has been suspended"),
        ("MAIL", b"553 5.7.1 Sender address rejected: not owned by user"),
        ("RCPT", b"550 5.7.26 This mail is unauthenticated"),
    ],
)
def test_second_relay_takes_over_before_the_issue_pauses(
    scene: Scene, weight: int, verb: str, reply: bytes
) -> None:
    good = Script()
    ended = scene.send(refusing(reply, verb), good, relays=[{}, {"weight": weight}])
    assert (ended.ending, ended.books.sent, received(good)) == (Ending.FINISHED, PEOPLE, PEOPLE)
    assert ended.reason.startswith("relay relay0 was set aside: ")
    assert scene.suppressed() == 0


def test_two_relays_that_both_refuse_us_pause_with_both_reasons(scene: Scene) -> None:
    first = refusing(b"550 5.7.26 This mail is unauthenticated")
    second = refusing(b"550 5.7.23 SPF check failed")
    ended = scene.send(first, second)
    assert (ended.ending, ended.books.failed, scene.suppressed()) == (Ending.PAUSED, 0, 0)
    assert {"5.7.26", "5.7.23"} <= set(ended.reason.split())


def test_refusals_that_a_killed_run_had_not_judged_are_due_again(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        run_id = runs.begin(connection, scene.issue.id, at=AT)
        queue.claim(connection, scene.issue.id, run_id=run_id, limit=3, after=0, at=AT, resend_uncertain=True)
        pending = Settled(1, DeliveryState.DEFERRED, due_at=PENDING_UNTIL, code=550)
        queue.settle(connection, scene.issue.id, [pending], run_id=run_id, at=AT)
        # Its process is known to be gone. What one that may only be cut off had claimed is due later.
        gone = {"seen_at": AT, "pid": 2**22 + 1}
        connection.execute(update(Run).where(Run.c.id == run_id).values(gone))
    well = Script()
    ended = scene.send(well)
    assert (ended.ending, ended.books.sent, received(well)) == (Ending.FINISHED, PEOPLE, PEOPLE)


def test_pending_refusal_is_failed_only_by_its_own_run_and_only_once(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        mine = runs.begin(connection, scene.issue.id, at=AT)
        other = runs.begin(connection, scene.issue.id, at=AT)
        queue.claim(connection, scene.issue.id, run_id=mine, limit=3, after=0, at=AT, resend_uncertain=True)
        held = [queue.holds_any(connection, scene.issue.id, [run_id]) for run_id in (mine, other)]
        pending = [Settled(n, DeliveryState.DEFERRED, due_at=PENDING_UNTIL, code=550) for n in (1, 2, 3)]
        queue.settle(connection, scene.issue.id, pending, run_id=mine, at=AT)
        held.append(queue.holds_any(connection, scene.issue.id, [mine]))
        assert held == [True, False, False]
        assert queue.fail_pending(connection, scene.issue.id, [1, 2], run_id=other, at=AT) == set()
        assert queue.fail_pending(connection, scene.issue.id, [1, 2, 99], run_id=mine, at=AT) == {1, 2}
        assert queue.fail_pending(connection, scene.issue.id, [1, 2], run_id=mine, at=AT) == set()
        queue.retry_pending(connection, scene.issue.id, [1, 3], run_id=mine, at=AT)
    with scene.database.reading() as connection:
        assert running_books(connection, scene.issue.id) == books_of(connection, scene.issue.id)
        rows = [delivery(connection, scene.issue.id, n) for n in (1, 2, 3)]
        assert [(row.state, row.due_at, row.first_at) for row in rows] == [
            ("failed", None, AT), ("failed", None, AT), ("deferred", AT, None),
        ]  # fmt: skip
    assert books(scene.database, scene.issue).failed == 2


def test_operator_may_accept_refusals_that_are_true_after_all(scene: Scene) -> None:
    assert scene.send(refusing(NO_SUCH_USER)).ending is Ending.PAUSED
    scene.resume()
    assert scene.send(refusing(NO_SUCH_USER)).ending is Ending.PAUSED
    scene.resume()
    with scene.database.transaction() as connection:
        control.accept_refusals(connection, scene.issue.id, at=AT)
    ended = scene.send(refusing(NO_SUCH_USER))
    assert (ended.ending, ended.books.failed) == (Ending.FINISHED, PEOPLE)
    assert scene.suppressed() == PEOPLE


def test_give_up_time_begins_anew_after_a_fault_of_ours(scene: Scene) -> None:
    scene.send(refusing(b"550 5.7.26 This mail is unauthenticated"))
    with scene.database.reading() as connection:
        deferred = select(Delivery.c.first_at).where(Delivery.c.state == DeliveryState.DEFERRED.value)
        assert set(connection.scalars(deferred)) == {None}
        due = connection.scalar(select(func.max(Delivery.c.due_at, type_=Delivery.c.due_at.type)))
    assert due is not None
    assert due <= now() + timedelta(seconds=1)
