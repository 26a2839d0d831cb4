"""Postmark: HTTP Basic authentication in the webhook's URL.

https://postmarkapp.com/developer/webhooks/bounce-webhook
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailer.bounces.providers.events import EventKind, Native, Reason, WebhookEvent, address, from_iso, text
from mailer.bounces.providers.proofs import Headers, Secrets, check_password
from mailer.bounces.providers.requests import Provider, Request, one_or_many
from mailer.replies import BounceClass

_KINDS: Final = {
    "delivery": EventKind.DELIVERED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "bounce": EventKind.BOUNCED,  # `Type` says which of the kinds below.
    "spamcomplaint": EventKind.COMPLAINED,
    "inbound": EventKind.INBOUND,
}
_TYPES: Final = {
    "transient": EventKind.DEFERRED,
    "autoresponder": EventKind.AUTORESPONDED,
    "openrelaytest": EventKind.AUTORESPONDED,
    "addresschange": EventKind.AUTORESPONDED,
    "challengeverification": EventKind.AUTORESPONDED,
    "subscribe": EventKind.SUBSCRIBED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "spamcomplaint": EventKind.COMPLAINED,
    "inboundformatted": EventKind.INBOUND,
    "inbounderror": EventKind.INBOUND,  # About mail to our account at Postmark, not from us.
    "manuallydeactivated": EventKind.REJECTED,  # By somebody at the operator's own account.
    "smtpapierror": EventKind.REJECTED,
    "templaterenderingfailed": EventKind.REJECTED,
    "unconfirmed": EventKind.REJECTED,
}
"""Bounce types that are no bounces; every other type is one."""
_CAUSES: Final = {
    "hardbounce": BounceClass.INVALID_MAILBOX,
    "bademailaddress": BounceClass.INVALID_MAILBOX,
    "dnserror": BounceClass.NETWORK,
    "spamnotification": BounceClass.CONTENT,
    "virusnotification": BounceClass.CONTENT,
    "blocked": BounceClass.REPUTATION_BLOCK,
    "dmarcpolicy": BounceClass.AUTH_FAILURE,
    "smtpapierror": BounceClass.PROTOCOL,
    "templaterenderingfailed": BounceClass.PROTOCOL,
    "softbounce": BounceClass.UNDETERMINED,
    "unknown": BounceClass.UNDETERMINED,
}


def _admit(headers: Headers, secrets: Secrets) -> None:
    check_password(headers, secrets.value("postmark"))


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _events(native: Native) -> Iterator[WebhookEvent]:
    kind = _KINDS.get(text(native.get("RecordType")).lower(), EventKind.UNKNOWN)
    word = text(native.get("Type")).lower()
    if kind is EventKind.BOUNCED:
        kind = _TYPES.get(word, EventKind.BOUNCED)
    if native.get("RecordType") == "SubscriptionChange":
        kind = EventKind.UNSUBSCRIBED if native.get("SuppressSending") else EventKind.SUBSCRIBED
        # Postmark also suppresses after bounces and complaints, which it has reported already.
        if native.get("SuppressionReason") in ("HardBounce", "SpamComplaint"):
            kind = EventKind.UNKNOWN
    when = native.get("DeliveredAt") or native.get("BouncedAt") or native.get("ReceivedAt")
    yield WebhookEvent(
        "postmark",
        kind,
        recipient=address(native.get("Recipient") or native.get("Email")),
        message_id=text(native.get("MessageID")),
        event_id=text(native.get("ID")),
        at=from_iso(when or native.get("ChangedAt")),
        reply=text(native.get("Details")),
        reason=Reason.OTHER if kind is EventKind.REJECTED else Reason.NONE,
        cause=_CAUSES.get(word),
        hard=word in ("hardbounce", "bademailaddress") if kind is EventKind.BOUNCED else None,
        payload=native,
    )


POSTMARK: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
