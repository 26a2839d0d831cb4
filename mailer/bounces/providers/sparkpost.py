"""SparkPost: HTTP Basic authentication of the webhook's target.

https://developers.sparkpost.com/api/webhooks/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailer.bounces.providers.events import (
    EventKind,
    Native,
    Reason,
    WebhookEvent,
    address,
    code,
    from_epoch,
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, check_password
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_KINDS: Final = {
    "injection": EventKind.QUEUED,
    "delivery": EventKind.DELIVERED,
    "delay": EventKind.DEFERRED,
    "bounce": EventKind.BOUNCED,
    "out_of_band": EventKind.BOUNCED,  # A bounce that came back as mail.
    "policy_rejection": EventKind.REJECTED,  # SparkPost refused to send.
    "generation_rejection": EventKind.REJECTED,
    "generation_failure": EventKind.FAILED,  # One of our templates has an error.
    "spam_complaint": EventKind.COMPLAINED,
    "open": EventKind.OPENED,
    "amp_open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "amp_click": EventKind.CLICKED,
    "list_unsubscribe": EventKind.UNSUBSCRIBED,
    "link_unsubscribe": EventKind.UNSUBSCRIBED,
}
"""`initial_open` is left out on purpose: SparkPost sends `open` for the same opening."""
_CLASS_KINDS: Final = {
    "60": EventKind.AUTORESPONDED,
    "80": EventKind.SUBSCRIBED,
    "90": EventKind.UNSUBSCRIBED,
    "100": EventKind.AUTORESPONDED,  # Challenge and response.
}
_CLASSES: Final = {
    "1": BounceClass.UNDETERMINED,
    "10": BounceClass.INVALID_MAILBOX,
    "20": BounceClass.UNDETERMINED,  # Soft bounce.
    "21": BounceClass.NETWORK,  # DNS failure.
    "22": BounceClass.MAILBOX_FULL,
    "23": BounceClass.MESSAGE_TOO_LARGE,
    "24": BounceClass.NETWORK,  # Timeout.
    "25": BounceClass.PROTOCOL,  # The administrator's settings at SparkPost.
    "26": BounceClass.TRANSIENT_SYSTEM,  # SparkPost suppressed it on a guess.
    "30": BounceClass.INVALID_MAILBOX,  # No RCPT.
    "40": BounceClass.UNDETERMINED,  # Generic bounce.
    "50": BounceClass.REPUTATION_BLOCK,  # Mail block.
    "51": BounceClass.REPUTATION_BLOCK,  # Spam block.
    "52": BounceClass.CONTENT,
    "53": BounceClass.CONTENT,  # A forbidden attachment.
    "54": BounceClass.PROTOCOL,  # Relaying denied.
    "70": BounceClass.TRANSIENT_SYSTEM,
}
"""Bounce classification codes; https://support.sparkpost.com/docs/deliverability/bounce-classification-codes"""


def _admit(headers: Headers, secrets: Secrets) -> None:
    check_password(headers, secrets.value("sparkpost"))


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _events(native: Native) -> Iterator[WebhookEvent]:
    event = next((table(one) for one in table(native.get("msys")).values()), {})
    word = text(event.get("type"))
    kind = _KINDS.get(word, EventKind.UNKNOWN)
    bounce_class = text(event.get("bounce_class"))
    if kind is EventKind.BOUNCED:
        kind = _CLASS_KINDS.get(bounce_class, kind)
    cause = BounceClass.PROTOCOL if word.startswith("generation") else _CLASSES.get(bounce_class)
    yield WebhookEvent(
        "sparkpost",
        kind,
        recipient=address(event.get("raw_rcpt_to") or event.get("rcpt_to")),
        message_id=text(event.get("transmission_id")),
        event_id=text(event.get("event_id")),
        at=from_epoch(event.get("timestamp")),
        reply=text(event.get("raw_reason") or event.get("reason")),
        code=code(event.get("error_code")),
        reason=Reason.OTHER if kind is EventKind.REJECTED else Reason.NONE,
        cause=cause,
        hard=bounce_class in ("10", "30") if kind is EventKind.BOUNCED else None,
        payload=native,
    )


SPARKPOST: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
