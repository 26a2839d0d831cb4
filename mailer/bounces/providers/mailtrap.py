"""Mailtrap: HMAC-SHA256 of the body in the header `Mailtrap-Signature`.

https://docs.mailtrap.io/email-api-smtp/advanced/webhooks
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
from mailer.bounces.providers.proofs import Headers, Secrets, check_hash, required
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_SIGNATURE: Final = "mailtrap-signature"
_KINDS: Final = {
    "delivery": EventKind.DELIVERED,
    "bounce": EventKind.BOUNCED,
    "soft bounce": EventKind.DEFERRED,  # Mailtrap keeps trying.
    "suspension": EventKind.DEFERRED,  # Our account or domain is suspended for now.
    "reject": EventKind.REJECTED,  # Mailtrap did not try; `reason` says why.
    "spam": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
}
_CAUSES: Final = {
    "spam": BounceClass.CONTENT,
    "blocklist": BounceClass.REPUTATION_BLOCK,
    "policy": BounceClass.POLICY_REJECT,
}
"""`bounce_category`, which counts only if the reply says nothing."""
_SUPPRESSED: Final = {
    "bounce": Reason.BOUNCED,
    "spam": Reason.SPAM,
    "complain": Reason.SPAM,
    "unsubscri": Reason.UNSUBSCRIBED,
}
"""Words after "Recipient in suppression list. Reason:"."""


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("mailtrap")
    required(headers, _SIGNATURE)


def _check(request: Request, secrets: Secrets) -> None:
    check_hash(required(request.headers, _SIGNATURE), secrets.value("mailtrap"), request.body)


def _natives(payload: object) -> list[object]:
    events = table(payload).get("events")
    return events if isinstance(events, list) else one_or_many(payload)


def _events(native: Native) -> Iterator[WebhookEvent]:
    kind = _KINDS.get(text(native.get("event")), EventKind.UNKNOWN)
    said = text(native.get("reason"))
    reason = Reason.NONE
    if kind is EventKind.REJECTED:
        words = said.lower() if "suppression list" in said.lower() else ""
        reason = next((one for part, one in _SUPPRESSED.items() if part in words), Reason.OTHER)
    yield WebhookEvent(
        "mailtrap",
        kind,
        recipient=address(native.get("email")),
        message_id=text(native.get("message_id")),
        event_id=text(native.get("event_id")),
        at=from_epoch(native.get("timestamp")),
        reply=text(native.get("response")) or said,
        code=code(native.get("response_code")),
        reason=reason,
        cause=_CAUSES.get(text(native.get("bounce_category"))),
        payload=native,
    )


MAILTRAP: Final = Provider(admit=_admit, check=_check, natives=_natives, events=_events)
