"""Twilio SendGrid: signed event webhook (ECDSA over timestamp and body).

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailer.bounces.providers.events import (
    EventKind,
    Native,
    Reason,
    WebhookEvent,
    address,
    from_epoch,
    message_id,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, check_age, required
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
_SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
_KINDS: Final = {
    "processed": EventKind.QUEUED,
    "dropped": EventKind.REJECTED,  # SendGrid did not try; `reason` says why.
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "bounce": EventKind.BOUNCED,
    "blocked": EventKind.BOUNCED,  # Older accounts; newer ones send `bounce` with type `blocked`.
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "spamreport": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "group_unsubscribe": EventKind.UNSUBSCRIBED,
    "group_resubscribe": EventKind.SUBSCRIBED,
}
_DROPPED: Final = {
    "invalid": Reason.INVALID,
    "unsubscribed address": Reason.UNSUBSCRIBED,
    "bounced address": Reason.BOUNCED,
    "spam reporting address": Reason.SPAM,
}
"""Reasons that SendGrid suppresses an address; for the other reasons see `_OUR_FAULT`."""
_OUR_FAULT: Final = {
    "invalid smtpapi header": BounceClass.PROTOCOL,
    "spam content": BounceClass.CONTENT,  # The full text goes on "(if Spam Checker app is enabled)".
    "recipient list over package quota": BounceClass.RATE_LIMITED,
}
_CLASSIFICATIONS: Final = {
    "invalid address": BounceClass.INVALID_MAILBOX,
    "mailbox unavailable": BounceClass.MAILBOX_DISABLED,
    "technical": BounceClass.TRANSIENT_SYSTEM,
    "technical failure": BounceClass.TRANSIENT_SYSTEM,
    "content": BounceClass.CONTENT,
    "reputation": BounceClass.REPUTATION_BLOCK,
    "frequency or volume too high": BounceClass.RATE_LIMITED,
    "unclassified": BounceClass.UNDETERMINED,
}


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("sendgrid")
    required(headers, _TIMESTAMP)
    required(headers, _SIGNATURE)


def _check(request: Request, secrets: Secrets) -> None:
    timestamp = required(request.headers, _TIMESTAMP)
    signature = required(request.headers, _SIGNATURE)
    try:
        public = load_der_public_key(base64.b64decode(secrets.value("sendgrid")))
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise WebhookError(401, "webhooks.sendgrid_public_key is not an ECDSA key")
        public.verify(base64.b64decode(signature), timestamp.encode() + request.body, ec.ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise WebhookError(401, "the signature is wrong") from error
    check_age(from_epoch(timestamp), request.now)


def _events(native: Native) -> Iterator[WebhookEvent]:
    kind = _KINDS.get(text(native.get("event")), EventKind.UNKNOWN)
    said = text(native.get("reason"))
    reason, cause = Reason.NONE, _CLASSIFICATIONS.get(text(native.get("bounce_classification")).lower())
    if kind is EventKind.REJECTED:
        reason = _DROPPED.get(said.lower(), Reason.OTHER)
        cause = next((one for words, one in _OUR_FAULT.items() if said.lower().startswith(words)), None)
    yield WebhookEvent(
        "sendgrid",
        kind,
        recipient=address(native.get("email")),
        message_id=message_id(native.get("smtp-id")),
        event_id=text(native.get("sg_event_id")),
        at=from_epoch(native.get("timestamp")),
        reply=text(native.get("response")) or said,
        status=text(native.get("status")),
        reason=reason,
        cause=cause,
        hard=False if native.get("type") == "blocked" else None,
        payload=native,
    )


SENDGRID: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
