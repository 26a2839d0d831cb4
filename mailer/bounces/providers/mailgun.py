"""Mailgun: the signature is part of the body, so a bounded body is decoded before it is checked.

https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks
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
    message_id,
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, check_age, check_hash
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_MAX_OCTETS: Final = 262_144
_TYPES: Final = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
_KINDS: Final = {
    "accepted": EventKind.QUEUED,
    "delivered": EventKind.DELIVERED,
    "dropped": EventKind.REJECTED,  # Old form: Mailgun suppresses the address.
    "rejected": EventKind.REJECTED,  # Mailgun refused our message or account.
    "bounced": EventKind.BOUNCED,
    "complained": EventKind.COMPLAINED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
}
"""`failed` depends on `severity`: temporary is deferred, permanent is a bounce."""
_SUPPRESSED_CODES: Final = {605: Reason.BOUNCED, 606: Reason.UNSUBSCRIBED, 607: Reason.SPAM}
"""Mailgun's own codes for addresses that it suppresses."""
_SUPPRESSED: Final = {
    "suppress-bounce": Reason.BOUNCED,
    "suppress-unsubscribe": Reason.UNSUBSCRIBED,
    "suppress-complaint": Reason.SPAM,
}
_CAUSES: Final = {
    "old": BounceClass.EXPIRED,  # Retried for too long.
    "espblock": BounceClass.REPUTATION_BLOCK,
    "greylisted": BounceClass.TRANSIENT_SYSTEM,
}
"""Reasons of `failed` that the reply need not repeat. `bounce`, `generic` and `hardfail` say nothing more."""


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("mailgun")
    if headers.get("content-type", "").partition(";")[0].strip().lower() not in _TYPES:
        raise WebhookError(400, "the body is not what the provider sends")


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _verify(request: Request, payload: object, secrets: Secrets) -> None:
    fields = table(payload)
    signed = fields.get("signature")
    if isinstance(signed, dict):
        timestamp, token, signature = (text(signed.get(name)) for name in ("timestamp", "token", "signature"))
    else:
        timestamp, token, signature = (_last(fields, name) for name in ("timestamp", "token", "signature"))
    if not token:
        raise WebhookError(401, "the signature is missing")
    signed_text = f"{timestamp}{token}".encode("utf-8", "surrogatepass")
    check_hash(signature.encode("ascii", "replace").decode(), secrets.value("mailgun"), signed_text)
    check_age(from_epoch(timestamp), request.now)


def _events(native: Native) -> Iterator[WebhookEvent]:
    yield _event(native) if "event-data" in native else _form_event(native)


def _event(native: Native) -> WebhookEvent:
    data = table(native["event-data"])
    word, why = text(data.get("event")), text(data.get("reason"))
    kind = _KINDS.get(word, EventKind.UNKNOWN)
    if word == "failed":
        kind = EventKind.DEFERRED if data.get("severity") == "temporary" else EventKind.BOUNCED
    reason = _SUPPRESSED.get(why, Reason.NONE)
    if reason is not Reason.NONE:
        kind = EventKind.REJECTED
    headers = table(table(data.get("message")).get("headers"))
    status = table(data.get("delivery-status"))
    return WebhookEvent(
        "mailgun",
        kind,
        recipient=address(data.get("recipient") or headers.get("to")),
        message_id=message_id(headers.get("message-id")),
        event_id=text(table(native.get("signature")).get("token")),
        at=from_epoch(data.get("timestamp")),
        reply=text(status.get("message") or table(data.get("reject")).get("reason")),
        status=text(status.get("enhanced-code")),
        code=code(status.get("code")),
        reason=reason,
        cause=_CAUSES.get(why),
        payload=native,
    )


def _form_event(native: Native) -> WebhookEvent:
    """Return the event of an old webhook: form fields, which the operator's own variables may repeat."""
    kind = _KINDS.get(_first(native, "event"), EventKind.UNKNOWN)
    number = code(_first(native, "code"))
    return WebhookEvent(
        "mailgun",
        kind,
        recipient=address(_first(native, "recipient")),
        message_id=message_id(_first(native, "Message-Id")),
        event_id=_last(native, "token"),
        at=from_epoch(_last(native, "timestamp")),
        reply=_first(native, "error") or _first(native, "notification"),
        code=number if number and number < 600 else None,
        reason=_SUPPRESSED_CODES.get(number or 0, Reason.OTHER)
        if kind is EventKind.REJECTED
        else Reason.NONE,
        cause=_CAUSES.get(_first(native, "reason")),
        payload=native,
    )


def _first(native: Native, name: str) -> str:
    values = native.get(name)
    return text(values[0] if isinstance(values, list) and values else values)


def _last(native: Native, name: str) -> str:
    values = native.get(name)
    return text(values[-1] if isinstance(values, list) and values else values)


MAILGUN: Final = Provider(
    admit=_admit, check=_check, natives=one_or_many, events=_events, verify=_verify, max_octets=_MAX_OCTETS
)
