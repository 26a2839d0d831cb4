"""What follows from an outcome: when the next try is due, when a delivery is given up, what pauses."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from mailer.config import DeliverySettings
from mailer.database.tables import DeliveryState
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


def test_own_delays_and_their_spread_count() -> None:
    settings = DeliverySettings(
        retry_base=timedelta(minutes=1), retry_ceiling=timedelta(minutes=3), give_up_after=timedelta(hours=10)
    )
    lost = Attempt(7, Fate.LOST, Stage.MAIL, problem="connection reset")

    def minutes(attempt: int, spread: float | None = None) -> float:
        usual = decide(lost, claimed(attempt), settings, at=AT)
        spread_out = decide(lost, claimed(attempt), settings, at=AT, spread=spread or 1.0)
        due_at = (usual if spread is None else spread_out).settled.due_at
        assert due_at is not None
        return (due_at - AT) / timedelta(minutes=1)

    assert [minutes(attempt) for attempt in (1, 2, 3)] == [1, 2, 3]
    assert [minutes(attempt, spread=1.5) for attempt in (1, 2, 3)] == [1.5, 3, 4.5]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (
            Attempt(7, Fate.ACCEPTED, Stage.BODY, Reply(250, "2.0.0", "ok")),
            Settled(7, DeliveryState.SENT, None, 250, "2.0.0", "ok", None),
        ),
        (Attempt(7, Fate.ACCEPTED, Stage.BODY, None), Settled(7, DeliveryState.SENT)),
        (
            Attempt(7, Fate.LOST, Stage.MAIL, problem="connection reset"),
            Settled(7, DeliveryState.DEFERRED, AT + 300 * SECOND, None, None, "connection reset", "network"),
        ),
        (
            Attempt(7, Fate.LOST, Stage.MAIL),
            Settled(
                7, DeliveryState.DEFERRED, AT + 300 * SECOND, None, None, "the connection was lost", "network"
            ),
        ),
        (
            Attempt(7, Fate.UNSENT, Stage.MAIL),
            Settled(
                7, DeliveryState.DEFERRED, AT + 300 * SECOND, None, None, "the connection was lost", "network"
            ),
        ),
        (
            Attempt(7, Fate.UNCERTAIN, Stage.BODY, problem="timed out"),
            Settled(7, DeliveryState.UNCERTAIN, AT + 300 * SECOND, reply="timed out"),
        ),
        (
            Attempt(7, Fate.UNCERTAIN, Stage.BODY),
            Settled(7, DeliveryState.UNCERTAIN, AT + 300 * SECOND),
        ),
        (
            Attempt(7, Fate.REFUSED, Stage.RCPT, Reply(550, "", "no such user")),
            Settled(7, DeliveryState.FAILED, None, 550, None, "no such user", "invalid_mailbox"),
        ),
        (
            Attempt(7, Fate.REFUSED, Stage.RCPT, Reply(451, "4.7.1", "try again in 60 seconds")),
            Settled(
                7, DeliveryState.DEFERRED, AT + 60 * SECOND, 451, "4.7.1", "try again in 60 seconds",
                "reputation_block",
            ),
        ),
        (
            Attempt(7, Fate.REFUSED, Stage.LOCAL, Reply(552, "5.3.4", "too large")),
            Settled(7, DeliveryState.DEFERRED, AT, 552, "5.3.4", "too large", "message_too_large"),
        ),
        (
            Attempt(7, Fate.REFUSED, Stage.LOCAL, Reply(553, "5.6.7", "needs SMTPUTF8")),
            Settled(7, DeliveryState.FAILED, None, 553, "5.6.7", "needs SMTPUTF8", "protocol"),
        ),
        (
            Attempt(7, Fate.REFUSED, Stage.MAIL, Reply(550, "5.1.8", "who are you")),
            Settled(7, DeliveryState.DEFERRED, AT, 550, "5.1.8", "who are you", "policy_reject"),
        ),
    ],
)  # fmt: skip
def test_outcome_is_settled_with_what_was_said(outcome: Attempt, expected: Settled) -> None:
    assert settled(outcome) == expected


@pytest.mark.parametrize(
    ("reply", "stage", "fault", "judged"),
    [
        (Reply(550, "5.7.26", "DMARC failed"), Stage.BODY,
         "the receiving server refuses our configuration: 550 5.7.26 DMARC failed", False),
        (Reply(530, "", "log in first"), Stage.MAIL,
         "the receiving server refuses our configuration: 530 log in first", False),
        (Reply(550, "5.7.1", "not you"), Stage.MAIL,
         "the relay refuses our envelope sender: 550 5.7.1 not you", False),
        (Reply(451, "4.3.0", "not now"), Stage.MAIL, "", True),
        (Reply(451, "4.3.0", "not now"), Stage.RCPT, "", True),
        (Reply(550, "5.1.1", "no such user"), Stage.RCPT, "", True),
    ],
)  # fmt: skip
def test_our_fault_is_said_and_no_verdict_on_the_subscriber(
    reply: Reply, stage: Stage, fault: str, judged: bool
) -> None:
    decision = decide(Attempt(7, Fate.REFUSED, stage, reply), claimed(), SETTINGS, at=AT)
    assert (decision.our_fault, decision.verdict is not None) == (fault, judged)
    if fault:
        assert (decision.settled.state, decision.settled.due_at) == (DeliveryState.DEFERRED, AT)


@pytest.mark.parametrize(("seconds", "waited"), [(0, 300), (1, 1), (2, 2)])
def test_next_try_comes_when_the_reply_asks_for_it(seconds: int, waited: int) -> None:
    asked = Reply(451, "4.7.0", f"try again in {seconds} seconds")
    assert settled(Attempt(7, Fate.REFUSED, Stage.RCPT, asked)).due_at == AT + waited * SECOND
