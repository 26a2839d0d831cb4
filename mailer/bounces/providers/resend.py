"""Resend: signed by Svix (HMAC-SHA256 over id, timestamp and body). Bounces use the types of SES.

https://resend.com/docs/webhooks/event-types and https://docs.svix.com/receiving/verifying-payloads/how-manual
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator
from typing import Final

from mailer.bounces.providers.events import (
    EventKind,
    Native,
    Reason,
    WebhookEvent,
    address,
    from_epoch,
    from_iso,
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, check_age, required
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.bounces.reading.ses import cause_of
from mailer.replies import BounceClass

_KINDS: Final = {
    "email.sent": EventKind.SENT,
    "email.scheduled": EventKind.QUEUED,
    "email.delivered": EventKind.DELIVERED,
    "email.delivery_delayed": EventKind.DEFERRED,
    "email.bounced": EventKind.BOUNCED,
    "email.suppressed": EventKind.REJECTED,  # The address bounced or complained before.
    "email.failed": EventKind.FAILED,  # Resend could not send: our quota, domain or template.
    "email.complained": EventKind.COMPLAINED,
    "email.opened": EventKind.OPENED,
    "email.clicked": EventKind.CLICKED,
    "email.received": EventKind.INBOUND,
}


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("resend")
    for name in ("svix-id", "svix-timestamp", "svix-signature"):
        required(headers, name)


def _check(request: Request, secrets: Secrets) -> None:
    identifier, timestamp, given = (
        required(request.headers, name) for name in ("svix-id", "svix-timestamp", "svix-signature")
    )
    try:
        key = base64.b64decode(secrets.value("resend").removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookError(401, "webhooks.resend_signing_secret is not whsec_ and base64") from error
    signed = f"{identifier}.{timestamp}.".encode() + request.body
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, "sha256").digest())
    # Several signatures while the secret is being changed.
    if not any(hmac.compare_digest(expected, one.encode()) for one in given.split(" ")[:10]):
        raise WebhookError(401, "the signature is wrong")
    check_age(from_epoch(timestamp), request.now)


def _events(native: Native) -> Iterator[WebhookEvent]:
    kind = _KINDS.get(text(native.get("type")), EventKind.UNKNOWN)
    data = table(native.get("data"))
    bounce = table(data.get("bounce"))
    subtype, permanent = text(bounce.get("subType")), bounce.get("type") == "Permanent"
    reason, cause = Reason.NONE, cause_of("bounce", subtype)
    if kind is EventKind.REJECTED or (
        kind is EventKind.BOUNCED and subtype in ("Suppressed", "OnAccountSuppressionList")
    ):
        reason = Reason.BOUNCED
    if kind is EventKind.FAILED:
        cause = BounceClass.PROTOCOL
    yield WebhookEvent(
        "resend",
        kind,
        recipient=address(_first(data.get("to"))),
        message_id=_message_id(data),
        event_id=text(data.get("email_id")),
        at=from_iso(native.get("created_at")),
        # `bounce.message` is Resend's explanation, not the receiving system's reply.
        reply=text(_first(bounce.get("diagnosticCode"))),
        reason=reason,
        cause=cause,
        hard=permanent if kind is EventKind.BOUNCED else None,
        payload=native,
    )


def _message_id(data: Native) -> str:
    """Return our Message-ID if the headers are there, else Resend's number of the email."""
    headers = data.get("headers")
    for header in headers if isinstance(headers, list) else []:
        if text(table(header).get("name")).lower() == "message-id":
            return text(table(header).get("value")).strip(" <>")
    return text(data.get("message_id")).strip(" <>") or text(data.get("email_id"))


def _first(value: object) -> object:
    """Return the first of a list; our emails have one recipient."""
    return value[0] if isinstance(value, list) and value else value


RESEND: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
