"""What follows from an outcome: when the next try is due, when a delivery is given up, what pauses."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from mailer.config import DeliverySettings
from mailer.database.models import DeliveryState
from mailer.delivery.judging import decide, retry_delay
from mailer.delivery.queue import Claimed, Settled
from mailer.rendering.message import Recipient
from mailer.smtp.session import Attempt, Fate, Reply, Stage
from tests.delivery.scene import AT

SETTINGS = DeliverySettings(
    retry_base=timedelta(minutes=5), retry_ceiling=timedelta(hours=4), give_up_after=timedelta(hours=10)
)
LATER = Reply(451, "4.3.0", "Try again later")
SECOND = timedelta(seconds=1)


def claimed(attempt: int = 1) -> Claimed:
    return Claimed(Recipient(7, "s7@example.org", "", {}, ()), "example.org", attempt, AT)


def settled(outcome: Attempt, *, attempt: int = 1, after: timedelta = timedelta()) -> Settled:
    return decide(outcome, claimed(attempt), SETTINGS, at=AT + after).settled


@pytest.mark.parametrize(
    ("attempt", "minutes"), [(1, 5), (2, 10), (3, 20), (6, 160), (7, 240), (8, 240), (1_000, 240)]
)
def test_delay_doubles_up_to_the_ceiling(attempt: int, minutes: int) -> None:
    assert retry_delay(attempt) == minutes * 60.0


@pytest.mark.parametrize(
    "outcome",
    [
        Attempt(7, Fate.REFUSED, Stage.RCPT, LATER),
        Attempt(7, Fate.LOST, Stage.MAIL, problem="connection reset"),
    ],
    ids=["refused", "lost"],
)
@pytest.mark.parametrize(
    ("attempt", "after", "expected"),
    [
        # The next try would come at the very end of the ten hours; a second later it would be too late.
        (1, timedelta(hours=10) - timedelta(minutes=5), DeliveryState.DEFERRED),
        (1, timedelta(hours=10) - timedelta(minutes=5) + SECOND, DeliveryState.FAILED),
        (7, timedelta(hours=6), DeliveryState.DEFERRED),
        (7, timedelta(hours=6) + SECOND, DeliveryState.FAILED),
        (3, timedelta(hours=11), DeliveryState.FAILED),
    ],
)
def test_gives_up_when_the_next_try_would_come_too_late(
    outcome: Attempt, attempt: int, after: timedelta, expected: DeliveryState
) -> None:
    result = settled(outcome, attempt=attempt, after=after)
    assert result.state is expected
    if expected is DeliveryState.FAILED:
        assert (result.bounce_class, result.due_at) == ("expired", None)
    else:
        assert result.due_at == AT + after + timedelta(seconds=retry_delay(attempt))


def test_message_too_large_for_the_relay_pauses_the_issue_and_blames_nobody() -> None:
    too_large = Attempt(7, Fate.REFUSED, Stage.LOCAL, Reply(552, "5.3.4", "larger than the relay takes"))
    decision = decide(too_large, claimed(), SETTINGS, at=AT)
    assert (decision.our_fault, decision.verdict) == ("larger than the relay takes", None)
    assert (decision.settled.state, decision.settled.due_at) == (DeliveryState.DEFERRED, AT)


def test_address_that_the_relay_cannot_take_fails_alone() -> None:
    unfit = Attempt(7, Fate.REFUSED, Stage.LOCAL, Reply(553, "5.6.7", "needs SMTPUTF8"))
    decision = decide(unfit, claimed(), SETTINGS, at=AT)
    assert (decision.our_fault, decision.verdict, decision.settled.state) == ("", None, DeliveryState.FAILED)


def test_uncertain_delivery_is_tried_again_after_the_delay() -> None:
    result = settled(Attempt(7, Fate.UNCERTAIN, Stage.BODY, problem="timed out"), attempt=2)
    assert (result.state, result.due_at) == (DeliveryState.UNCERTAIN, AT + timedelta(minutes=10))


def test_problem_is_kept_as_far_as_it_has_room() -> None:
    lost = settled(Attempt(7, Fate.UNCERTAIN, Stage.BODY, problem="x" * 600))
    assert (lost.state, lost.reply) == (DeliveryState.UNCERTAIN, "x" * 512)


def test_reply_is_kept_as_far_as_it_has_room() -> None:
    refused = settled(Attempt(7, Fate.REFUSED, Stage.RCPT, Reply(451, "4.3.0" * 4, "x" * 600)))
    assert (refused.enhanced, refused.reply) == (("4.3.0" * 4)[:16], "x" * 512)


def test_delay_without_a_ceiling_doubles_for_as_long_as_anybody_waits() -> None:
    assert [retry_delay(attempt, ceiling_seconds=1e30) for attempt in (33, 40)] == [300.0 * 2.0**32] * 2


@pytest.mark.parametrize(
    ("server", "domain", "known"),
    [("", "example.org", False), ("mx.au.com", "example.org", True), ("", "au.com", True)],
)
def test_server_and_domain_tell_who_replied(server: str, domain: str, known: bool) -> None:
    # This provider looks recipients up after the body; of others, a filter says so.
    attempt = Attempt(7, Fate.REFUSED, Stage.BODY, Reply(550, "5.1.1", "<s7@example.org>: user unknown"))
    one = msgspec.structs.replace(claimed(), domain=domain)
    verdict = decide(attempt, one, SETTINGS, at=AT, server=server).verdict
    assert verdict is not None
    assert verdict.hard is known


@pytest.mark.parametrize(
    ("stage", "our_fault"), [(Stage.MAIL, True), (Stage.RCPT, False), (Stage.BODY, False)]
)
def test_stage_tells_whom_a_refusal_is_about(stage: Stage, our_fault: bool) -> None:
    attempt = Attempt(7, Fate.REFUSED, stage, Reply(550, "5.1.1", "no such user"))
    decision = decide(attempt, claimed(), SETTINGS, at=AT)
    assert bool(decision.our_fault) is our_fault
    assert (decision.verdict is not None and decision.verdict.hard) is (stage is Stage.RCPT)
