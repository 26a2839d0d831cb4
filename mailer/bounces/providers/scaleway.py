"""Scaleway Transactional Email: events through a topic, in the form of SNS.

The topic's subscription is a URL with a password: `https://user:password@…/hooks/scaleway`.
https://www.scaleway.com/en/docs/transactional-email/reference-content/webhook-events-payloads/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mailer.bounces.providers.events import (
    EventKind,
    Native,
    Reason,
    WebhookEvent,
    address,
    code,
    from_iso,
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, check_password
from mailer.bounces.providers.requests import Provider, Request, load_json, one_or_many
from mailer.replies import BounceClass

_KINDS: Final = {
    "email_queued": EventKind.QUEUED,
    "email_delivered": EventKind.DELIVERED,
    "email_deferred": EventKind.DEFERRED,
    "email_dropped": EventKind.BOUNCED,  # Refused permanently, for any reason.
    "email_mailbox_not_found": EventKind.BOUNCED,
    # Classified as spam by Scaleway or at the destination; a reply passed on with it changes nothing. It
    # need not be the recipient who did so, so nobody is unsubscribed for it.
    "email_spam": EventKind.FAILED,
    "email_blocklisted": EventKind.REJECTED,  # By Scaleway; also after a full mailbox.
    "blocklist_created": EventKind.UNKNOWN,
}
_CAUSES: Final = {
    "email_mailbox_not_found": BounceClass.INVALID_MAILBOX,
    "email_spam": BounceClass.CONTENT,
}
_CONFIRM: Final = re.compile(r"https?://sns\.mnq\.[a-z]{2}-[a-z]{3}\.scaleway\.com/?\?[\w&=:%.+-]{1,2000}")


def _admit(headers: Headers, secrets: Secrets) -> None:
    check_password(headers, secrets.value("scaleway"))


def _check(request: Request, secrets: Secrets) -> None:
    _admit(request.headers, secrets)


def _verify(request: Request, payload: object, secrets: Secrets) -> None:
    fields = table(payload)
    if fields.get("Type") == "SubscriptionConfirmation" and not _CONFIRM.fullmatch(
        text(fields.get("SubscribeURL"))
    ):
        raise WebhookError(401, "the confirmation does not lead to Scaleway")


def _events(native: Native) -> Iterator[WebhookEvent]:
    if native.get("Type") == "SubscriptionConfirmation":
        url = text(native.get("SubscribeURL"))
        yield WebhookEvent("scaleway", EventKind.CONFIRM, url=url, payload=native)
        return
    event = _document(native)
    word = text(event.get("type"))
    kind = _KINDS.get(word, EventKind.UNKNOWN)
    yield WebhookEvent(
        "scaleway",
        kind,
        recipient=address(event.get("email_to")),
        message_id=_message_id(event),
        event_id=text(event.get("id")),
        at=from_iso(event.get("created_at")),
        reply=text(event.get("email_response_message") or event.get("email_error")),
        code=code(event.get("email_response_code")),
        reason=Reason.OTHER if kind is EventKind.REJECTED else Reason.NONE,
        cause=_CAUSES.get(word),
        hard=word == "email_mailbox_not_found" if kind is EventKind.BOUNCED else None,
        payload=native,
    )


def _document(native: Native) -> Native:
    if not isinstance(native.get("Message"), str):
        return native
    try:
        return table(load_json(native["Message"]))
    except WebhookError:
        return {}


def _message_id(event: Native) -> str:
    headers = event.get("email_headers")
    for header in headers if isinstance(headers, list) else []:
        if text(table(header).get("key")).lower() == "message-id":
            return text(table(header).get("value")).strip(" <>")
    return text(event.get("email_id"))


SCALEWAY: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events, verify=_verify)
