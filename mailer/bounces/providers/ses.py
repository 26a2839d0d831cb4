"""Amazon SES: notifications by SNS (signed or raw) and by EventBridge.

A signed notification proves itself. Raw deliveries and EventBridge have no signature and need the
password in `webhooks.ses`, as `https://user:password@…` in the subscription or as the connection's
Basic authentication.
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailer.bounces.providers import sns
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
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, check_password
from mailer.bounces.providers.requests import Provider, Request, load_json, one_or_many
from mailer.bounces.reading.ses import SesEvent, SesRecipient, parse_event

# SNS delivers at most 256 KiB, as a string within JSON.
_MAX_OCTETS: Final = 1_048_576
_KINDS: Final = {
    "send": EventKind.SENT,
    "delivery": EventKind.DELIVERED,
    "bounce": EventKind.BOUNCED,
    "complaint": EventKind.COMPLAINED,
    "reject": EventKind.REJECTED,  # SES found a virus and did not send.
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "rendering failure": EventKind.FAILED,  # One of our templates lacks a variable.
    "deliverydelay": EventKind.DEFERRED,
    "subscription": EventKind.UNSUBSCRIBED,  # Through SES's own subscription management.
    "received": EventKind.INBOUND,
}


def _has_password(headers: Headers, secrets: Secrets) -> bool:
    """Return whether a password is the proof; in every other case SNS must have signed the body."""
    is_signed = "x-amz-sns-topic-arn" in headers and "x-amz-sns-rawdelivery" not in headers
    return bool(secrets.values.get("ses")) and not is_signed


def _admit(headers: Headers, secrets: Secrets) -> None:
    if _has_password(headers, secrets):
        check_password(headers, secrets.value("ses"))
    elif secrets.ses_topics:
        sns.check_topic(headers, secrets.ses_topics)
    else:
        raise WebhookError(404, "this provider is not configured")


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _verify(request: Request, payload: object, secrets: Secrets) -> None:
    if not _has_password(request.headers, secrets):
        sns.verify(request, payload, secrets)


def _events(native: Native) -> Iterator[WebhookEvent]:
    if native.get("Type") == "SubscriptionConfirmation":
        yield WebhookEvent("ses", EventKind.CONFIRM, url=text(native.get("SubscribeURL")), payload=native)
        return
    event = parse_event(_document(native))
    if event is None:
        yield WebhookEvent("ses", EventKind.UNKNOWN, payload=native)
        return
    for recipient in event.recipients or (SesRecipient(""),):
        yield _event(native, event, recipient)


def _document(native: Native) -> object:
    """Return the event document: SNS sends it as a string, EventBridge as `detail`, raw delivery bare."""
    if isinstance(native.get("Message"), str):
        try:
            return load_json(native["Message"])
        except WebhookError:
            return None
    return table(native.get("detail")) or native


def _event(native: Native, event: SesEvent, recipient: SesRecipient) -> WebhookEvent:
    kind, reason = _KINDS[event.name], Reason.NONE
    if kind is EventKind.COMPLAINED and not event.is_complaint:
        kind = EventKind.FEEDBACK
    if kind is EventKind.BOUNCED and event.suppressed:
        reason = Reason.BOUNCED
    if kind is EventKind.BOUNCED and event.unsubscribed:
        kind, reason = EventKind.REJECTED, Reason.UNSUBSCRIBED
    return WebhookEvent(
        "ses",
        kind,
        recipient=address(recipient.address),
        message_id=event.message_id,
        event_id=text(native.get("MessageId") or native.get("id")),
        at=from_iso(native.get("Timestamp") or native.get("time")),
        reply=recipient.diagnostic,
        status=recipient.status,
        reason=reason,
        cause=event.cause,
        hard=event.permanent if kind is EventKind.BOUNCED else None,
        payload=native,
    )


SES: Final = Provider(
    admit=_admit, check=_check, natives=one_or_many, events=_events, verify=_verify, max_octets=_MAX_OCTETS
)
