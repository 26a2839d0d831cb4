"""Each provider's events in one vocabulary, by table: native payload → `WebhookEvent`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from enum import StrEnum
from typing import Any, Final


class EventKind(StrEnum):
    """What a provider says has happened."""

    QUEUED = "queued"
    SENT = "sent"
    REJECTED = "rejected"
    """The provider did not try: it suppresses the address itself, or refused the message."""
    FAILED = "failed"
    BOUNCED = "bounced"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    AUTORESPONDED = "autoresponded"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    INBOUND = "inbound"
    CONFIRM = "confirm"
    """The provider wants us to fetch a URL before it sends anything (SNS)."""
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a provider gave up or never tried; what the reply itself says goes before it."""

    NONE = ""
    INVALID = "invalid"
    BOUNCED = "bounced"
    UNSUBSCRIBED = "unsubscribed"
    SPAM = "spam"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event about one recipient, with the payload it comes from."""

    provider: str
    kind: EventKind
    recipient: str = ""
    message_id: str = ""
    """Our Message-ID where the provider gives it, else the provider's own; without brackets."""
    event_id: str = ""
    at: datetime | None = None
    reply: str = ""
    """The receiving system's words, where the provider quotes them."""
    status: str = ""
    """RFC 3463 status, where the provider gives it apart."""
    code: int | None = None
    reason: Reason = Reason.NONE
    hard: bool | None = None
    """What the provider thinks; heard only where the reply says nothing."""
    url: str = ""
    """What to fetch, of `CONFIRM`."""
    payload: Any = None


Native = Mapping[str, Any]
_K = EventKind
_SES: Final = {
    "send": _K.SENT, "delivery": _K.DELIVERED, "bounce": _K.BOUNCED, "complaint": _K.COMPLAINED,
    "reject": _K.REJECTED, "open": _K.OPENED, "click": _K.CLICKED, "rendering failure": _K.FAILED,
    "deliverydelay": _K.DEFERRED, "subscription": _K.UNSUBSCRIBED, "received": _K.INBOUND,
}  # fmt: skip
_SENDGRID: Final = {
    "processed": _K.QUEUED, "dropped": _K.REJECTED, "delivered": _K.DELIVERED, "deferred": _K.DEFERRED,
    "bounce": _K.BOUNCED, "blocked": _K.BOUNCED, "open": _K.OPENED, "click": _K.CLICKED,
    "spamreport": _K.COMPLAINED, "unsubscribe": _K.UNSUBSCRIBED, "group_unsubscribe": _K.UNSUBSCRIBED,
    "group_resubscribe": _K.SUBSCRIBED,
}  # fmt: skip
_SENDGRID_REASON: Final = {
    "invalid": Reason.INVALID, "unsubscribed address": Reason.UNSUBSCRIBED,
    "bounced address": Reason.BOUNCED, "spam reporting address": Reason.SPAM,
}  # fmt: skip
_MAILGUN: Final = {
    "accepted": _K.QUEUED, "delivered": _K.DELIVERED, "dropped": _K.REJECTED, "rejected": _K.REJECTED,
    "bounced": _K.BOUNCED, "complained": _K.COMPLAINED, "unsubscribed": _K.UNSUBSCRIBED,
    "opened": _K.OPENED, "clicked": _K.CLICKED,
}  # fmt: skip
# Mailgun's own codes for addresses that it suppresses.
_MAILGUN_REASON: Final = {605: Reason.BOUNCED, 606: Reason.UNSUBSCRIBED, 607: Reason.SPAM}
_MAILGUN_SUPPRESSED: Final = {
    "suppress-bounce": Reason.BOUNCED, "suppress-unsubscribe": Reason.UNSUBSCRIBED,
    "suppress-complaint": Reason.SPAM,
}  # fmt: skip
_POSTMARK: Final = {
    "delivery": _K.DELIVERED, "open": _K.OPENED, "click": _K.CLICKED, "bounce": _K.BOUNCED,
    "spamcomplaint": _K.COMPLAINED, "inbound": _K.INBOUND,
}  # fmt: skip
_POSTMARK_BOUNCE: Final = {
    "transient": _K.DEFERRED, "softbounce": _K.BOUNCED, "dnserror": _K.BOUNCED,
    "autoresponder": _K.AUTORESPONDED, "openrelaytest": _K.AUTORESPONDED, "unknown": _K.BOUNCED,
    "subscribe": _K.SUBSCRIBED, "unsubscribe": _K.UNSUBSCRIBED, "addresschange": _K.AUTORESPONDED,
    "spamcomplaint": _K.COMPLAINED, "spamnotification": _K.BOUNCED, "virusnotification": _K.BOUNCED,
    "challengeverification": _K.AUTORESPONDED, "manuallydeactivated": _K.REJECTED,
    "inboundformatted": _K.INBOUND,
}  # fmt: skip
_SPARKPOST: Final = {
    "injection": _K.QUEUED, "delivery": _K.DELIVERED, "delay": _K.DEFERRED, "bounce": _K.BOUNCED,
    "out_of_band": _K.BOUNCED, "policy_rejection": _K.REJECTED, "generation_rejection": _K.REJECTED,
    "generation_failure": _K.FAILED, "spam_complaint": _K.COMPLAINED, "open": _K.OPENED,
    "amp_open": _K.OPENED, "click": _K.CLICKED, "amp_click": _K.CLICKED,
    "list_unsubscribe": _K.UNSUBSCRIBED, "link_unsubscribe": _K.UNSUBSCRIBED,
}  # fmt: skip
"""`initial_open` is unknown on purpose: SparkPost sends `open` for the same opening."""
_SPARKPOST_CLASS: Final = {"60": _K.AUTORESPONDED, "80": _K.SUBSCRIBED, "90": _K.UNSUBSCRIBED}
_MAILJET: Final = {
    "sent": _K.DELIVERED, "open": _K.OPENED, "click": _K.CLICKED, "spam": _K.COMPLAINED,
    "unsub": _K.UNSUBSCRIBED, "blocked": _K.REJECTED, "bounce": _K.BOUNCED,
}  # fmt: skip
# Mailjet's words for why, and whether the address itself is meant.
_MAILJET_HARD: Final = frozenset({"user unknown", "invalid domain", "no mail host"})


def ses(payload: Native) -> Iterator[WebhookEvent]:
    """Yield the events of an SNS notification, one for each recipient."""
    if payload.get("Type") == "SubscriptionConfirmation":
        yield WebhookEvent("ses", _K.CONFIRM, url=_text(payload.get("SubscribeURL")), payload=payload)
        return
    message = _decoded(payload.get("Message"))
    word = _text(message.get("notificationType") or message.get("eventType")).lower()
    kind = _SES.get(word, _K.UNKNOWN)
    mail, detail = _table(message.get("mail")), _table(message.get(word))
    named = detail.get("bouncedRecipients") or detail.get("complainedRecipients") or detail.get("recipients")
    named = named or mail.get("destination") or [""]
    for one in named if isinstance(named, list) else [""]:
        recipient = _table(one) if isinstance(one, dict) else {"emailAddress": one}
        yield WebhookEvent(
            "ses",
            kind,
            recipient=_address(recipient.get("emailAddress")),
            message_id=_ses_message_id(mail),
            event_id=_text(payload.get("MessageId")),
            at=_iso(payload.get("Timestamp")),
            reply=_text(recipient.get("diagnosticCode") or detail.get("smtpResponse")),
            status=_text(recipient.get("status")),
            reason=Reason.BOUNCED if detail.get("bounceSubType") in ("Suppressed", "OnAccountSuppressionList")
            else Reason.NONE,
            hard=detail.get("bounceType") == "Permanent" if kind is _K.BOUNCED else None,
            payload=payload,
        )  # fmt: skip


def sendgrid(payload: Native) -> Iterator[WebhookEvent]:
    """Yield the event of one element of SendGrid's batch."""
    kind = _SENDGRID.get(_text(payload.get("event")), _K.UNKNOWN)
    said = _text(payload.get("reason"))
    reason = _SENDGRID_REASON.get(said.lower(), Reason.OTHER) if kind is _K.REJECTED else Reason.NONE
    yield WebhookEvent(
        "sendgrid",
        kind,
        recipient=_address(payload.get("email")),
        message_id=_id(payload.get("smtp-id")),
        event_id=_text(payload.get("sg_event_id")),
        at=_epoch(payload.get("timestamp")),
        reply=_text(payload.get("response")) or (said if reason is Reason.NONE else ""),
        status=_text(payload.get("status")),
        reason=reason,
        payload=payload,
    )


def mailgun(payload: Native) -> Iterator[WebhookEvent]:
    """Yield the event of a Mailgun webhook, in its present form or the old one of form fields."""
    if "event-data" not in payload:
        yield _mailgun_form(payload)
        return
    data, signature = _table(payload["event-data"]), _table(payload.get("signature"))
    word, why = _text(data.get("event")), _text(data.get("reason"))
    kind = _MAILGUN.get(word, _K.UNKNOWN)
    if word == "failed":
        kind = _K.DEFERRED if data.get("severity") == "temporary" else _K.BOUNCED
    reason = _MAILGUN_SUPPRESSED.get(why, Reason.NONE)
    if reason is not Reason.NONE:
        kind = _K.REJECTED
    headers = _table(_table(data.get("message")).get("headers"))
    status = _table(data.get("delivery-status"))
    yield WebhookEvent(
        "mailgun",
        kind,
        recipient=_address(data.get("recipient") or headers.get("to")),
        message_id=_id(headers.get("message-id")),
        event_id=_text(signature.get("token")),
        at=_epoch(data.get("timestamp")),
        reply=_text(status.get("message")),
        status=_text(status.get("enhanced-code")),
        code=_code(status.get("code")),
        reason=reason,
        payload=payload,
    )


def _mailgun_form(payload: Native) -> WebhookEvent:
    """Return the event of the old form, in which the operator's own variables may repeat a field."""
    kind = _MAILGUN.get(_first(payload, "event"), _K.UNKNOWN)
    code = _code(_first(payload, "code"))
    return WebhookEvent(
        "mailgun",
        kind,
        recipient=_address(_first(payload, "recipient")),
        message_id=_id(_first(payload, "Message-Id")),
        event_id=_last(payload, "token"),
        at=_epoch(_last(payload, "timestamp")),
        reply=_first(payload, "error") or _first(payload, "notification"),
        code=code if code and code < 600 else None,
        reason=_MAILGUN_REASON.get(code or 0, Reason.OTHER) if kind is _K.REJECTED else Reason.NONE,
        payload=payload,
    )


def postmark(payload: Native) -> Iterator[WebhookEvent]:
    """Yield the event of a Postmark webhook."""
    kind = _POSTMARK.get(_text(payload.get("RecordType")).lower(), _K.UNKNOWN)
    word = _text(payload.get("Type")).lower()
    if kind is _K.BOUNCED:
        kind = _POSTMARK_BOUNCE.get(word, _K.BOUNCED)
    if payload.get("RecordType") == "SubscriptionChange":
        kind = _K.UNSUBSCRIBED if payload.get("SuppressSending") else _K.SUBSCRIBED
        # The provider suppresses after bounces and complaints too, and has told us of those already.
        if payload.get("SuppressionReason") in ("HardBounce", "SpamComplaint"):
            kind = _K.UNKNOWN
    yield WebhookEvent(
        "postmark",
        kind,
        recipient=_address(payload.get("Recipient") or payload.get("Email")),
        message_id=_text(payload.get("MessageID")),
        event_id=_text(payload.get("ID")),
        at=_iso(payload.get("DeliveredAt") or payload.get("BouncedAt") or payload.get("ReceivedAt")
                or payload.get("ChangedAt")),
        reply=_text(payload.get("Details")),
        reason=Reason.OTHER if kind is _K.REJECTED else Reason.NONE,
        hard=word == "hardbounce" if kind is _K.BOUNCED else None,
        payload=payload,
    )  # fmt: skip


def sparkpost(payload: Native) -> Iterator[WebhookEvent]:
    """Yield the event of one element of SparkPost's batch."""
    event = next((_table(one) for one in _table(payload.get("msys")).values()), {})
    kind = _SPARKPOST.get(_text(event.get("type")), _K.UNKNOWN)
    bounce_class = _text(event.get("bounce_class"))
    if kind is _K.BOUNCED:
        kind = _SPARKPOST_CLASS.get(bounce_class, kind)
    yield WebhookEvent(
        "sparkpost",
        kind,
        recipient=_address(event.get("raw_rcpt_to") or event.get("rcpt_to")),
        message_id=_text(event.get("transmission_id")),
        event_id=_text(event.get("event_id")),
        at=_epoch(event.get("timestamp")),
        reply=_text(event.get("raw_reason") or event.get("reason")),
        code=_code(event.get("error_code")),
        reason=Reason.OTHER if kind is _K.REJECTED else Reason.NONE,
        hard=bounce_class in ("10", "30") if kind is _K.BOUNCED else None,
        payload=payload,
    )


def mailjet(payload: Native) -> Iterator[WebhookEvent]:
    """Yield the event of one element of Mailjet's batch."""
    kind = _MAILJET.get(_text(payload.get("event")), _K.UNKNOWN)
    said = _text(payload.get("error"))
    hard = bool(payload.get("hard_bounce"))
    if kind is _K.BOUNCED and not hard and said not in _MAILJET_HARD:
        kind = _K.DEFERRED
    yield WebhookEvent(
        "mailjet",
        kind,
        recipient=_address(payload.get("email")),
        message_id=_text(payload.get("MessageID")),
        at=_epoch(payload.get("time")),
        reply=_text(payload.get("smtp_reply") or payload.get("comment") or said),
        reason=(Reason.BOUNCED if said == "preblocked" else Reason.OTHER)
        if kind is _K.REJECTED else Reason.NONE,
        hard=hard if kind is _K.BOUNCED else None,
        payload=payload,
    )  # fmt: skip


TABLES: Final[Mapping[str, Callable[[Native], Iterator[WebhookEvent]]]] = {
    "ses": ses,
    "sendgrid": sendgrid,
    "mailgun": mailgun,
    "postmark": postmark,
    "sparkpost": sparkpost,
    "mailjet": mailjet,
}


def _ses_message_id(mail: Native) -> str:
    """Return our Message-ID from the original headers if SES was told to include them, else SES's own."""
    for header in mail.get("headers") or []:
        if _text(_table(header).get("name")).lower() == "message-id" and "@" in _text(header.get("value")):
            return _id(header.get("value"))
    return _text(mail.get("messageId"))


def _decoded(text: Any) -> Native:
    try:
        return _table(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return {}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _first(payload: Native, name: str) -> str:
    values = payload.get(name)
    return _text(values[0] if isinstance(values, list) and values else values)


def _last(payload: Native, name: str) -> str:
    values = payload.get(name)
    return _text(values[-1] if isinstance(values, list) and values else values)


def _address(value: Any) -> str:
    return parseaddr(_text(value)[:1000])[1]


def _id(value: Any) -> str:
    return _text(value).strip(" <>")


def _code(value: Any) -> int | None:
    text = _text(value)
    return int(text) if text.isdecimal() and len(text) == 3 else None


def _epoch(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(_text(value)), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _iso(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
