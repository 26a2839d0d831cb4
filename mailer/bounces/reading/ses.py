"""Amazon SES event documents, whether they come by SNS, by EventBridge or inside an email."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mailer.bounces.reading.dsn import MAX_RECIPIENTS
from mailer.replies import BounceClass

_START: Final = '{"notificationType"'
_QUOTED_START: Final = '{\\"notificationType\\"'
# The event's name and the field that holds its details.
_DETAILS: Final = {
    "send": "send",
    "delivery": "delivery",
    "bounce": "bounce",
    "complaint": "complaint",
    "reject": "reject",
    "open": "open",
    "click": "click",
    "rendering failure": "failure",
    "deliverydelay": "deliveryDelay",
    "subscription": "subscription",
    "received": "received",
}
_CAUSES: Final = {
    # Permanent bounces.
    "NoEmail": BounceClass.UNDETERMINED,  # SES could not find the address in the bounce.
    # Transient bounces.
    "MailboxFull": BounceClass.MAILBOX_FULL,
    "MessageTooLarge": BounceClass.MESSAGE_TOO_LARGE,
    "ContentRejected": BounceClass.CONTENT,
    "AttachmentRejected": BounceClass.CONTENT,
    "CustomTimeoutExceeded": BounceClass.EXPIRED,
    # Both.
    "General": None,
    "Undetermined": None,
}
"""Bounce subtypes. `None` leaves it to the type: permanent or transient."""
_SUPPRESSED: Final = ("Suppressed", "OnAccountSuppressionList", "OnTenantSuppressionList")
# Feedback types (RFC 5965) that do not come from a person who pressed "spam".
_NO_COMPLAINTS: Final = ("not-spam", "auth-failure", "virus")


@dataclass(frozen=True, slots=True)
class SesRecipient:
    """One recipient of an event; the diagnostic is the receiving system's reply."""

    address: str
    status: str = ""
    diagnostic: str = ""


@dataclass(frozen=True, slots=True)
class SesEvent:
    """An event document. `name` is its kind in lower case: bounce, complaint, delivery, send …"""

    name: str
    recipients: tuple[SesRecipient, ...]
    message_id: str
    """Our Message-ID if SES includes the original headers, else SES's own."""
    permanent: bool = False
    is_complaint: bool = False
    """A person complained. False for feedback of other kinds, such as `not-spam`."""
    suppressed: bool = False
    """SES did not try, because it suppresses the address."""
    unsubscribed: bool = False
    """SES did not try, because the person unsubscribed through SES."""
    cause: BounceClass | None = None
    """The class that the bounce's subtype stands for."""


def parse_event(document: object) -> SesEvent | None:
    """Return the event of a document, or None if it is not an SES event."""
    fields = _mapping(document)
    name = _text(fields.get("notificationType") or fields.get("eventType")).lower()
    if name not in _DETAILS:
        return None
    mail, details = _mapping(fields.get("mail")), _mapping(fields.get(_DETAILS[name]))
    subtype = _text(details.get("bounceSubType") or details.get("complaintSubType"))
    return SesEvent(
        name=name,
        recipients=_recipients(details, mail),
        message_id=_message_id(mail),
        permanent=details.get("bounceType") == "Permanent",
        is_complaint=_text(details.get("complaintFeedbackType")).lower() not in _NO_COMPLAINTS,
        suppressed=subtype in _SUPPRESSED,
        unsubscribed=subtype == "UnsubscribedRecipient",
        cause=cause_of(name, subtype),
    )


def cause_of(name: str, subtype: str) -> BounceClass | None:
    """Return the class that an event and its bounce subtype stand for, if they name one."""
    if name == "reject":  # SES found a virus in our message.
        return BounceClass.CONTENT
    if name == "rendering failure":  # One of our templates has an error.
        return BounceClass.PROTOCOL
    return _CAUSES.get(subtype)


def find_event(notice: str) -> SesEvent | None:
    """Return the event document in an email's text, or None if there is none."""
    if _QUOTED_START in notice:
        # Raw delivery by SNS: the document is a string within another, with folded lines.
        notice = notice[notice.find(_QUOTED_START) :].replace("\n ", "").replace("\n", "")
        notice = notice.replace('\\"', '"').replace("\\\\", "\\")
    start = notice.find(_START)
    if start < 0:
        return None
    for candidate in (notice[start:], notice[start:].replace("\n", "")):
        try:
            document, _ = json.JSONDecoder(strict=False).raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        return parse_event(document)
    return None


def _recipients(details: Mapping[str, object], mail: Mapping[str, object]) -> tuple[SesRecipient, ...]:
    for listed in (
        details.get("bouncedRecipients"),
        details.get("complainedRecipients"),
        details.get("delayedRecipients"),
        details.get("recipients"),
        mail.get("destination"),
    ):
        if isinstance(listed, list) and listed:
            break
    else:
        return ()
    found = []
    for one in listed[:MAX_RECIPIENTS]:
        entry = one if isinstance(one, dict) else {"emailAddress": one}
        diagnostic = _text(entry.get("diagnosticCode") or details.get("smtpResponse"))
        found.append(
            SesRecipient(
                _text(entry.get("emailAddress")),
                _text(entry.get("status")),
                diagnostic.removeprefix("smtp;").strip(),
            )
        )
    return tuple(found)


def _message_id(mail: Mapping[str, object]) -> str:
    headers = mail.get("headers")
    for header in headers if isinstance(headers, list) else []:
        value = _text(_mapping(header).get("value"))
        if _text(_mapping(header).get("name")).lower() == "message-id" and "@" in value:
            return value.strip(" <>")
    return _text(mail.get("messageId"))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
