"""Brevo: HTTP Basic authentication in the webhook's URL, or a bearer token.

https://developers.brevo.com/docs/transactional-webhooks
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
    from_epoch,
    message_id,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, check_password
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_KINDS: Final = {
    "request": EventKind.QUEUED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "soft_bounce": EventKind.BOUNCED,
    "hard_bounce": EventKind.BOUNCED,
    "invalid_email": EventKind.REJECTED,  # Not an address at all.
    "blocked": EventKind.REJECTED,  # On a blocklist of the account; Brevo does not say since when or why.
    "error": EventKind.FAILED,  # Brevo could not build the message from our data.
    "spam": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,  # The API's name for the event …
    "unsubscribed": EventKind.UNSUBSCRIBED,  # … and the payload's.
    "opened": EventKind.OPENED,
    "unique_opened": EventKind.OPENED,
    "proxy_open": EventKind.OPENED,
    "unique_proxy_open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "list_addition": EventKind.SUBSCRIBED,
}


def _admit(headers: Headers, secrets: Secrets) -> None:
    check_password(headers, secrets.value("brevo"))


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _events(native: Native) -> Iterator[WebhookEvent]:
    word = text(native.get("event"))
    kind = _KINDS.get(word, EventKind.UNKNOWN)
    reason = Reason.NONE
    if kind is EventKind.REJECTED:
        reason = Reason.INVALID if word == "invalid_email" else Reason.OTHER
    # `ts` and `date` follow the account's time zone; `ts_epoch` is UTC, in milliseconds.
    milliseconds = native.get("ts_epoch")
    seconds = milliseconds / 1000 if isinstance(milliseconds, int) else native.get("ts_event")
    yield WebhookEvent(
        "brevo",
        kind,
        recipient=address(native.get("email")),
        message_id=message_id(native.get("message-id")),
        at=from_epoch(seconds),
        reply=text(native.get("reason")),
        reason=reason,
        cause=BounceClass.PROTOCOL if word == "error" else None,
        hard=word == "hard_bounce" if kind is EventKind.BOUNCED else None,
        payload=native,
    )


BREVO: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
