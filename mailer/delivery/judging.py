"""Decide what happens to a delivery after an attempt. Pure functions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from mailer.config import DeliverySettings
from mailer.database.tables import DeliveryState
from mailer.delivery.queue import Claimed, Settled
from mailer.replies import BounceClass, ReplyClass, Verdict, judge
from mailer.smtp.session import Attempt, Fate, Reply, Stage


class Decision(Struct, frozen=True):
    """The outcome to record for a delivery, and its other consequences."""

    settled: Settled
    verdict: Verdict | None = None
    """The meaning of the reply, if any; it may change the provider's pace or the subscriber's status."""
    our_fault: str = ""
    """Why nothing more should be sent through this relay until the operator acts; empty when it may."""


def retry_delay(attempt: int, *, base_seconds: float = 300.0, ceiling_seconds: float = 14_400.0) -> float:
    """Return the seconds to wait before trying a deferred delivery again.

    `attempt` counts the tries already made, from 1. The delay doubles up to the ceiling; the caller adds
    jitter. RFC 5321 section 4.5.4.1 recommends growing intervals and two tries in the first hour.
    """
    doublings = min(attempt - 1, 32)
    return min(ceiling_seconds, base_seconds * 2.0**doublings)


def accepted(subscriber_id: int, reply: Reply | None) -> Settled:
    """Return the outcome to record for a message that the relay accepted."""
    return _settled(subscriber_id, DeliveryState.SENT, reply)


def decide(
    attempt: Attempt,
    claimed: Claimed,
    settings: DeliverySettings,
    *,
    at: datetime,
    server: str = "",
    spread: float = 1.0,
) -> Decision:
    """Return the consequences of an attempt.

    `server` holds the names of the server that answered, for the judge. `spread` multiplies the delay
    before the next try: the caller's jitter.
    """
    subscriber_id = claimed.recipient.subscriber_id
    if attempt.fate is Fate.ACCEPTED:
        return Decision(accepted(subscriber_id, attempt.reply))
    delay = spread * retry_delay(
        claimed.attempt,
        base_seconds=settings.retry_base.total_seconds(),
        ceiling_seconds=settings.retry_ceiling.total_seconds(),
    )
    match attempt.fate:
        case Fate.UNCERTAIN:
            due = at + timedelta(seconds=delay)
            return Decision(
                Settled(
                    subscriber_id, DeliveryState.UNCERTAIN, due_at=due, reply=attempt.problem[:512] or None
                )
            )
        case Fate.LOST | Fate.UNSENT:
            lost = Reply(0, "", attempt.problem or "the connection was lost")
            return _later(claimed, lost, BounceClass.NETWORK, delay, settings, at)
        case Fate.REFUSED:
            assert attempt.reply is not None
            return _refused(attempt.stage, attempt.reply, server, claimed, delay, settings, at)
        case _:
            assert_never(attempt.fate)


def _refused(
    stage: Stage,
    reply: Reply,
    server: str,
    claimed: Claimed,
    delay: float,
    settings: DeliverySettings,
    at: datetime,
) -> Decision:
    subscriber_id = claimed.recipient.subscriber_id
    if stage is Stage.LOCAL:
        # Our own check, before the dialogue. "Too large" is a fault of the issue; an address that the
        # relay cannot take concerns this delivery alone. Neither says anything about the mailbox.
        if reply.code == 552:
            return Decision(
                _deferred(subscriber_id, reply, BounceClass.MESSAGE_TOO_LARGE, at), our_fault=reply.text
            )
        return Decision(_settled(subscriber_id, DeliveryState.FAILED, reply, BounceClass.PROTOCOL))
    verdict = judge(
        reply.code,
        reply.enhanced,
        reply.text,
        provider=f"{server} {claimed.domain}",
        command=stage.upper(),
    )
    said = f"{reply.code} {reply.enhanced} {verdict.text}".replace("  ", " ")
    if verdict.reply_class in (ReplyClass.AUTH, ReplyClass.CONFIG):
        return Decision(
            _deferred(subscriber_id, reply, verdict.bounce_class, at),
            our_fault=f"the receiving server refuses our configuration: {said}",
        )
    if stage is Stage.MAIL and not verdict.again:
        # MAIL FROM does not name the recipient: a permanent refusal there is about us.
        return Decision(
            _deferred(subscriber_id, reply, BounceClass.POLICY_REJECT, at),
            our_fault=f"the relay refuses our envelope sender: {said}",
        )
    if verdict.again:
        wait = delay if verdict.retry_after_seconds is None else max(verdict.retry_after_seconds, 1.0)
        return replace(_later(claimed, reply, verdict.bounce_class, wait, settings, at), verdict=verdict)
    return Decision(_settled(subscriber_id, DeliveryState.FAILED, reply, verdict.bounce_class), verdict)


def _later(
    claimed: Claimed,
    reply: Reply,
    bounce_class: BounceClass | None,
    delay: float,
    settings: DeliverySettings,
    at: datetime,
) -> Decision:
    due = at + timedelta(seconds=delay)
    subscriber_id = claimed.recipient.subscriber_id
    if due - claimed.first_at > settings.give_up_after:
        return Decision(_settled(subscriber_id, DeliveryState.FAILED, reply, BounceClass.EXPIRED))
    return Decision(_deferred(subscriber_id, reply, bounce_class, due))


def _deferred(
    subscriber_id: int, reply: Reply, bounce_class: BounceClass | None, due_at: datetime
) -> Settled:
    return _settled(subscriber_id, DeliveryState.DEFERRED, reply, bounce_class, due_at)


def _settled(
    subscriber_id: int,
    state: DeliveryState,
    reply: Reply | None,
    bounce_class: BounceClass | None = None,
    due_at: datetime | None = None,
) -> Settled:
    return Settled(
        subscriber_id,
        state,
        due_at=due_at,
        code=reply.code or None if reply else None,
        enhanced=reply.enhanced[:16] or None if reply else None,
        reply=reply.text[:512] if reply else None,
        bounce_class=bounce_class.value if bounce_class else None,
    )
