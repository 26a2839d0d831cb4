"""Mailjet: HTTP Basic authentication in the webhook's URL.

https://dev.mailjet.com/email/guides/webhooks/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailer.bounces.providers.events import EventKind, Native, Reason, WebhookEvent, address, from_epoch, text
from mailer.bounces.providers.proofs import Headers, Secrets, check_password
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_KINDS: Final = {
    "sent": EventKind.DELIVERED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "spam": EventKind.COMPLAINED,
    "unsub": EventKind.UNSUBSCRIBED,
    "blocked": EventKind.REJECTED,
    "bounce": EventKind.BOUNCED,
}
_ERRORS: Final = {
    # Related to the recipient.
    "user unknown": BounceClass.INVALID_MAILBOX,
    "mailbox inactive": BounceClass.MAILBOX_DISABLED,
    "quota exceeded": BounceClass.MAILBOX_FULL,
    # Related to the domain.
    "invalid domain": BounceClass.INVALID_DOMAIN,
    "no mail host": BounceClass.INVALID_DOMAIN,
    "relay/access denied": BounceClass.POLICY_REJECT,
    "greylisted": BounceClass.TRANSIENT_SYSTEM,
    "typofix": BounceClass.INVALID_DOMAIN,  # The domain looks like a typing error.
    # Related to our content or our reputation.
    "sender blocked": BounceClass.REPUTATION_BLOCK,
    "content blocked": BounceClass.CONTENT,
    "policy issue": BounceClass.POLICY_REJECT,
    "bad or empty template": BounceClass.PROTOCOL,
    # Related to a system.
    "system issue": BounceClass.TRANSIENT_SYSTEM,
    "protocol issue": BounceClass.PROTOCOL,
    "connection issue": BounceClass.NETWORK,
    # Related to Mailjet.
    "duplicate in campaign": BounceClass.PROTOCOL,
}
"""Mailjet's errors; https://dev.mailjet.com/email/guides/webhooks/#possible-values-for-errors"""
_BLOCKED: Final = {
    "preblocked": Reason.BOUNCED,  # The address bounced before, so Mailjet did not try.
    "user unknown": Reason.INVALID,
    "spam reporter": Reason.SPAM,
    "blacklisted": Reason.OTHER,
}
_CALLED_PERMANENT: Final = ("user unknown", "invalid domain", "no mail host")


def _admit(headers: Headers, secrets: Secrets) -> None:
    check_password(headers, secrets.value("mailjet"))


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _events(native: Native) -> Iterator[WebhookEvent]:
    kind = _KINDS.get(text(native.get("event")), EventKind.UNKNOWN)
    error = text(native.get("error"))
    hard = bool(native.get("hard_bounce"))
    if kind is EventKind.BOUNCED and not hard and error not in _CALLED_PERMANENT:
        kind = EventKind.DEFERRED
    yield WebhookEvent(
        "mailjet",
        kind,
        recipient=address(native.get("email")),
        message_id=text(native.get("MessageID")),
        at=from_epoch(native.get("time")),
        reply=text(native.get("smtp_reply") or native.get("comment")),
        reason=_BLOCKED.get(error, Reason.OTHER) if kind is EventKind.REJECTED else Reason.NONE,
        cause=_ERRORS.get(error),
        hard=hard if kind is EventKind.BOUNCED else None,
        payload=native,
    )


MAILJET: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
