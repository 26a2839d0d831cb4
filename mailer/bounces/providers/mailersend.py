"""MailerSend: HMAC-SHA256 of the body in the header `Signature`.

Two forms of payload: `data.email` with a nested recipient (version 1) and flat fields (version 2).
https://developers.mailersend.com/api/v1/webhooks.html
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
    from_iso,
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, check_hash, required
from mailer.bounces.providers.requests import Provider, Request, one_or_many

_KINDS: Final = {
    "sent": EventKind.SENT,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "soft_bounced": EventKind.BOUNCED,
    "hard_bounced": EventKind.BOUNCED,
    "suppressed": EventKind.REJECTED,
    "opened": EventKind.OPENED,
    "opened_unique": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "clicked_unique": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "spam_complaint": EventKind.COMPLAINED,  # Version 1 …
    "spam_complaints": EventKind.COMPLAINED,  # … and version 2.
}
_SUPPRESSED: Final = {
    "bounce": Reason.BOUNCED,
    "spam": Reason.SPAM,
    "complain": Reason.SPAM,
    "unsubscri": Reason.UNSUBSCRIBED,
}
"""Words in the reason for a suppression, which MailerSend does not list."""


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("mailersend")
    required(headers, "signature")


def _check(request: Request, secrets: Secrets) -> None:
    check_hash(required(request.headers, "signature"), secrets.value("mailersend"), request.body)


def _events(native: Native) -> Iterator[WebhookEvent]:
    data = table(native.get("data"))
    email, meta, morph = table(data.get("email")), table(data.get("meta")), table(data.get("morph"))
    word = text(data.get("type")) or text(native.get("type")).removeprefix("activity.")
    kind = _KINDS.get(word, EventKind.UNKNOWN)
    said = meta.get("bounce_reason") or meta.get("reject_reason") or morph.get("reason")
    reason = Reason.NONE
    if kind is EventKind.REJECTED:
        said = meta.get("suppression_reason") or said
        words = text(said).lower()
        reason = next((one for part, one in _SUPPRESSED.items() if part in words), Reason.OTHER)
    yield WebhookEvent(
        "mailersend",
        kind,
        recipient=address(data.get("recipient") or table(email.get("recipient")).get("email")),
        message_id=text(data.get("message_id") or table(email.get("message")).get("id")),
        event_id=text(data.get("id")),
        at=from_iso(native.get("created_at") or data.get("created_at")),
        reply=" ".join(part for part in (text(meta.get("bounce_code")), text(said)) if part),
        reason=reason,
        hard=word == "hard_bounced" if kind is EventKind.BOUNCED else None,
        payload=native,
    )


MAILERSEND: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
