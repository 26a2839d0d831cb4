"""Read a provider's request and turn its events into reports, like those from bounce mail.

1. `admit` looks at the headers, before the body is read: the provider is configured, and its password
   fits or its signature is there.
2. `parse_webhook` checks the signature of the raw body, decodes it within bounds, checks proofs that
   are inside it (Mailgun, Mandrill, SNS), and returns the events.
3. `as_report` translates an event into a `BounceReport`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, assert_never

from mailer.bounces.policy import class_weight
from mailer.bounces.providers.brevo import BREVO
from mailer.bounces.providers.events import EventKind, Reason, WebhookEvent
from mailer.bounces.providers.mailersend import MAILERSEND
from mailer.bounces.providers.mailgun import MAILGUN
from mailer.bounces.providers.mailjet import MAILJET
from mailer.bounces.providers.mailtrap import MAILTRAP
from mailer.bounces.providers.mandrill import MANDRILL
from mailer.bounces.providers.postal import POSTAL
from mailer.bounces.providers.postmark import POSTMARK
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError
from mailer.bounces.providers.requests import MAX_EVENTS, Provider, Request, decode, one_or_many
from mailer.bounces.providers.resend import RESEND
from mailer.bounces.providers.scaleway import SCALEWAY
from mailer.bounces.providers.sendgrid import SENDGRID
from mailer.bounces.providers.ses import SES
from mailer.bounces.providers.sparkpost import SPARKPOST
from mailer.bounces.reading.report import BounceReport, RecipientReport, ReportKind
from mailer.bounces.reading.verdicts import hard_verdict, judge_with_cause
from mailer.replies import BounceClass, Verdict

PROVIDERS: Final[Mapping[str, Provider]] = {
    "brevo": BREVO,
    "mailersend": MAILERSEND,
    "mailgun": MAILGUN,
    "mailjet": MAILJET,
    "mailtrap": MAILTRAP,
    "mandrill": MANDRILL,
    "postal": POSTAL,
    "postmark": POSTMARK,
    "resend": RESEND,
    "scaleway": SCALEWAY,
    "sendgrid": SENDGRID,
    "ses": SES,
    "sparkpost": SPARKPOST,
}
SOURCE: Final = "webhook:"
PASSING: Final = frozenset(
    {
        EventKind.QUEUED, EventKind.SENT, EventKind.OPENED, EventKind.CLICKED, EventKind.INBOUND,
        EventKind.SUBSCRIBED, EventKind.CONFIRM,
    }
)  # fmt: skip
"""Events that change nothing here and are not worth a row for each message."""
# `smtp; 550 5.1.1 …`: providers quote a reply with or without the type of RFC 3464.
_REPLY: Final = re.compile(
    r"(?:smtp;)?\s{0,9}([245]\d\d)(?:[ -]{1,9}([245]\.\d{1,3}\.\d{1,3}))?\b[ -]{0,9}", re.IGNORECASE
)


def admit(provider: str, headers: Headers, secrets: Secrets) -> Provider:
    """Return the provider if the headers allow a request to be read.

    `headers` are by lower-case name. Raises `WebhookError`: 404 for a provider that is unknown or not
    configured, 401 for a wrong password or a missing signature.
    """
    if provider not in PROVIDERS:
        raise WebhookError(404, "no such provider")
    PROVIDERS[provider].admit(headers, secrets)
    return PROVIDERS[provider]


def parse_webhook(provider: str, request: Request, secrets: Secrets) -> list[WebhookEvent]:
    """Return the events of a genuine request.

    Raises `WebhookError` with the status to answer: those of `admit`, 401 for a wrong signature and a
    request from another time, 413 for more octets or events than the provider sends, 400 for a body that
    cannot be read.
    """
    found = admit(provider, request.headers, secrets)
    if len(request.body) > found.max_octets:
        raise WebhookError(413, "the request is too large")
    found.check(request, secrets)
    payload = decode(request)
    found.verify(request, payload, secrets)
    return _events(found, found.natives(payload))


def events_of(provider: str, payload: Any) -> list[WebhookEvent]:
    """Return the events of one decoded event or a list of them, as the provider sends them."""
    return _events(PROVIDERS[provider], one_or_many(payload))


def _events(provider: Provider, natives: list[Any]) -> list[WebhookEvent]:
    if len(natives) > MAX_EVENTS:
        raise WebhookError(413, "the request holds too many events")
    if not all(isinstance(native, dict) for native in natives):
        raise WebhookError(400, "the body is not what the provider sends")
    return [event for native in natives for event in provider.events(native)]


def freeze(event: WebhookEvent) -> bytes:
    """Return the octets under which an event is stored: its payload and the recipient."""
    frozen = {"provider": event.provider, "recipient": event.recipient, "payload": event.payload}
    return json.dumps(frozen, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def thaw(raw: bytes) -> BounceReport:
    """Return the report of a stored event, read by today's tables."""
    frozen = json.loads(raw)
    events = events_of(frozen["provider"], frozen["payload"])
    return as_report(next((event for event in events if event.recipient == frozen["recipient"]), events[0]))


def as_report(event: WebhookEvent) -> BounceReport:
    """Return an event as a report, in the form of a bounce mail's report."""
    kind = _kind(event)
    verdict = _verdict(event) if kind is ReportKind.BOUNCE else None
    recipient = RecipientReport(
        address=event.recipient,
        original_address=event.recipient,
        action=event.kind.value,
        status=verdict.enhanced if verdict else event.status,
        code=verdict.code if verdict else event.code,
        diagnostic=verdict.text if verdict else "",
        remote=event.provider,
        verdict=verdict,
    )
    return BounceReport(
        kind,
        (recipient,) if event.recipient else (),
        message_id=event.message_id,
        feedback_type=event.kind.value,
        reporter=event.provider,
        at=event.at,
    )


def _kind(event: WebhookEvent) -> ReportKind:
    match event.kind:
        case EventKind.BOUNCED | EventKind.FAILED:
            return ReportKind.BOUNCE
        case EventKind.REJECTED:
            return _suppression(event.reason)
        case EventKind.DEFERRED:
            return ReportKind.DELAYED
        case EventKind.DELIVERED:
            return ReportKind.DELIVERED
        case EventKind.COMPLAINED:
            return ReportKind.COMPLAINT
        case EventKind.FEEDBACK:
            return ReportKind.ARF_OTHER
        case EventKind.UNSUBSCRIBED:
            return ReportKind.OPT_OUT
        case EventKind.AUTORESPONDED:
            return ReportKind.AUTO_REPLY
        case (
            EventKind.QUEUED
            | EventKind.SENT
            | EventKind.OPENED
            | EventKind.CLICKED
            | EventKind.SUBSCRIBED
            | EventKind.INBOUND
            | EventKind.CONFIRM
            | EventKind.UNKNOWN
        ):
            return ReportKind.ORDINARY
        case _:
            assert_never(event.kind)


def _suppression(reason: Reason) -> ReportKind:
    """Return the earlier event that made the provider suppress the address."""
    match reason:
        case Reason.SPAM:
            return ReportKind.COMPLAINT
        case Reason.UNSUBSCRIBED:
            return ReportKind.OPT_OUT
        case Reason.BOUNCED | Reason.INVALID | Reason.NONE | Reason.OTHER:
            return ReportKind.BOUNCE
        case _:
            assert_never(reason)


def _verdict(event: WebhookEvent) -> Verdict:
    """Return the judgement on the quoted reply, or on the provider's own reason."""
    if event.reason in (Reason.BOUNCED, Reason.INVALID):
        said = event.reply or event.reason
        return hard_verdict(f"{event.provider} suppresses the address: {said}")
    if event.kind is EventKind.REJECTED:
        # The provider itself refused, before any receiving system: never the subscriber's fault.
        is_ours = event.cause is not None and class_weight(event.cause) == 0.0
        cause = event.cause if is_ours else BounceClass.TRANSIENT_SYSTEM
        said = f"{event.provider} did not send: {event.reply}"
        return judge_with_cause(None, "", said, cause=cause, certain=True, provider=event.provider)
    code, status, text = event.code, event.status, event.reply
    if quoted := _REPLY.match(text):
        code, status = code or int(quoted[1]), status or quoted[2] or ""
        text = text[quoted.end() :]
    return judge_with_cause(
        code, status, text, cause=event.cause, permanent=event.hard, provider=event.provider,
        certain=event.kind is EventKind.FAILED,
    )  # fmt: skip
