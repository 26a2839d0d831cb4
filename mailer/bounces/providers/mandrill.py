"""Mailchimp Transactional (Mandrill): HMAC-SHA1 over the webhook's URL and the form's fields.

The URL that Mandrill signs must be the one the operator entered there: `PUBLIC_URL/hooks/mandrill`.
https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/
"""

from __future__ import annotations

import base64
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
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, required
from mailer.bounces.providers.requests import Provider, Request, load_json
from mailer.replies import BounceClass

# A thousand events of a kilobyte, percent-encoded.
_MAX_OCTETS: Final = 3 * 1_048_576
_SIGNATURE: Final = "x-mandrill-signature"
_SIGNATURE_LENGTH: Final = 28
_KINDS: Final = {
    "send": EventKind.SENT,
    "delivered": EventKind.DELIVERED,
    "deferral": EventKind.DEFERRED,
    "hard_bounce": EventKind.BOUNCED,
    "soft_bounce": EventKind.BOUNCED,
    "reject": EventKind.REJECTED,
    "spam": EventKind.COMPLAINED,
    "unsub": EventKind.UNSUBSCRIBED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "inbound": EventKind.INBOUND,
}
"""Changes to the allowlist and denylist have a `type` instead of an `event`; they are about our account."""
_CAUSES: Final = {
    "bad_mailbox": BounceClass.INVALID_MAILBOX,
    "invalid_domain": BounceClass.INVALID_DOMAIN,
    "mailbox_full": BounceClass.MAILBOX_FULL,
    "general": BounceClass.UNDETERMINED,
}
"""`bounce_description`."""
_REJECTED: Final = {
    "hard-bounce": Reason.BOUNCED,
    "spam": Reason.SPAM,
    "unsub": Reason.UNSUBSCRIBED,
    "invalid": Reason.INVALID,
    "soft-bounce": Reason.OTHER,
    "custom": Reason.OTHER,  # On the operator's own denylist.
    "invalid-sender": Reason.OTHER,
    "test-mode-limit": Reason.OTHER,
    "unsigned": Reason.OTHER,
    "rule": Reason.OTHER,
}


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("mandrill")
    if len(required(headers, _SIGNATURE)) != _SIGNATURE_LENGTH:
        raise WebhookError(401, "the signature is wrong")


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise WebhookError(400, "the body is not what the provider sends")


def _verify(request: Request, payload: object, secrets: Secrets) -> None:
    """Check the signature: it covers the decoded fields, so a bounded form has been decoded before."""
    signed = secrets.url + "mandrill"
    for name, values in sorted(table(payload).items()):
        signed += name + values[0]
    digest = hmac.new(secrets.value("mandrill").encode(), signed.encode("utf-8", "surrogatepass"), "sha1")
    given = required(request.headers, _SIGNATURE).encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(base64.b64encode(digest.digest()), given):
        raise WebhookError(401, "the signature is wrong")


def _natives(payload: object) -> list[object]:
    """Return the events: a JSON list in the form's only field."""
    fields = table(payload).get("mandrill_events")
    found = load_json(fields[0]) if isinstance(fields, list) and fields else []
    return found if isinstance(found, list) else [found]


def _events(native: Native) -> Iterator[WebhookEvent]:
    word, message = text(native.get("event")), table(native.get("msg"))
    kind = _KINDS.get(word, EventKind.UNKNOWN)
    why = message.get("reject")
    rejected = text(table(why).get("reason") or why)
    headers = table(message.get("headers"))
    yield WebhookEvent(
        "mandrill",
        kind,
        recipient=address(message.get("email")),
        message_id=text(headers.get("Message-Id")).strip(" <>")
        or text(message.get("_id") or native.get("_id")),
        event_id=text(native.get("_id")),
        at=from_epoch(native.get("ts")),
        reply=text(message.get("diag")),
        reason=_REJECTED.get(rejected, Reason.OTHER) if kind is EventKind.REJECTED else Reason.NONE,
        cause=_CAUSES.get(text(message.get("bounce_description"))),
        hard=word == "hard_bounce" if kind is EventKind.BOUNCED else None,
        payload=native,
    )


MANDRILL: Final = Provider(
    admit=_admit, check=_check, natives=_natives, events=_events, verify=_verify, max_octets=_MAX_OCTETS
)
