"""A provider's request to events, and an event to the same report that a mail becomes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import Any, Final, assert_never
from urllib.parse import parse_qsl

from mailer.bounces.providers.signatures import Secrets, WebhookError, verify
from mailer.bounces.providers.tables import TABLES, EventKind, Reason, WebhookEvent
from mailer.bounces.reading.report import BounceReport, RecipientReport, ReportKind
from mailer.replies import Basis, BounceClass, ReplyClass, Verdict, judge

MAX_BODY_OCTETS: Final = 4 * 1_048_576
SOURCE: Final = "webhook:"
# What is counted at the provider and changes nothing here: not worth a row for each message.
PASSING: Final = frozenset(
    {
        EventKind.QUEUED, EventKind.SENT, EventKind.OPENED, EventKind.CLICKED, EventKind.INBOUND,
        EventKind.SUBSCRIBED, EventKind.CONFIRM,
    }
)  # fmt: skip
# `smtp; 550 5.1.1 …`: providers quote a reply with or without the type of RFC 3464.
_REPLY: Final = re.compile(
    r"(?:smtp;)?\s*([245]\d\d)(?:[ -]+([245]\.\d{1,3}\.\d{1,3}))?\b[ -]*", re.IGNORECASE
)
_MAY_BE_HARD: Final = frozenset(
    {BounceClass.INVALID_MAILBOX, BounceClass.INVALID_DOMAIN, BounceClass.MOVED, BounceClass.UNDETERMINED}
)


def parse_webhook(
    provider: str, headers: Mapping[str, str], body: bytes, secrets: Secrets, now: datetime
) -> list[WebhookEvent]:
    """Return the events of a request that its provider has signed.

    `headers` are by lower-case name. Raises `WebhookError` with the status to answer: 404 for a
    provider that is unknown or not configured, 413 for more than 4 MiB, 400 for a body that cannot be
    read, 401 for a wrong or missing proof and for a request from another time.
    """
    if provider not in TABLES:
        raise WebhookError(404, "no such provider")
    if len(body) > MAX_BODY_OCTETS:
        raise WebhookError(413, "the request is too large")
    payload = _decoded(headers.get("content-type", ""), body)
    verify(provider, headers, body, payload, secrets, now)
    return events_of(provider, payload)


def events_of(provider: str, payload: Any) -> list[WebhookEvent]:
    """Return the events of a payload whose sender is known."""
    natives = payload if isinstance(payload, list) else [payload]
    if not all(isinstance(native, dict) for native in natives):
        raise WebhookError(400, "the body is not what the provider sends")
    return [event for native in natives for event in TABLES[provider](native)]


def freeze(event: WebhookEvent) -> bytes:
    """Return the octets under which an event is stored: its payload and whom it is about."""
    frozen = {"provider": event.provider, "recipient": event.recipient, "payload": event.payload}
    return json.dumps(frozen, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")


def thaw(raw: bytes) -> BounceReport:
    """Return the report of a stored event, by today's tables."""
    frozen = json.loads(raw)
    events = events_of(frozen["provider"], frozen["payload"])
    return as_report(next((event for event in events if event.recipient == frozen["recipient"]), events[0]))


def as_report(event: WebhookEvent) -> BounceReport:
    """Return what an event reports, in the form that a mail's report has."""
    kind, event = _kind(event)
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
    recipients = (recipient,) if event.recipient else ()
    return BounceReport(kind, recipients, (), event.message_id, event.kind.value, event.provider)


def _kind(event: WebhookEvent) -> tuple[ReportKind, WebhookEvent]:
    match event.kind:
        case EventKind.BOUNCED | EventKind.FAILED:
            return ReportKind.BOUNCE, event
        case EventKind.REJECTED:
            return _rejected(event)
        case EventKind.DEFERRED:
            return ReportKind.DELAYED, event
        case EventKind.DELIVERED:
            return ReportKind.DELIVERED, event
        case EventKind.COMPLAINED:
            return ReportKind.COMPLAINT, event
        case EventKind.UNSUBSCRIBED:
            return ReportKind.OPT_OUT, event
        case EventKind.AUTORESPONDED:
            return ReportKind.AUTO_REPLY, event
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
            return ReportKind.ORDINARY, event
        case _:
            assert_never(event.kind)


def _rejected(event: WebhookEvent) -> tuple[ReportKind, WebhookEvent]:
    """Return what the provider's own suppression is the echo of."""
    match event.reason:
        case Reason.SPAM:
            return ReportKind.COMPLAINT, event
        case Reason.UNSUBSCRIBED:
            return ReportKind.OPT_OUT, event
        case Reason.BOUNCED | Reason.INVALID:
            return ReportKind.BOUNCE, replace(event, hard=True)
        case Reason.NONE | Reason.OTHER:
            return ReportKind.BOUNCE, event
        case _:
            assert_never(event.reason)


def _verdict(event: WebhookEvent) -> Verdict:
    """Return the judgement on the quoted reply; the provider's own opinion where that says nothing."""
    code, status, text = event.code, event.status, event.reply
    if quoted := _REPLY.match(text):
        code, status = code or int(quoted[1]), status or quoted[2] or ""
        text = text[quoted.end() :]
    verdict = judge(code, status, text, provider=event.provider)
    if event.reason in (Reason.BOUNCED, Reason.INVALID):
        return _hard(verdict, f"{event.provider} suppresses it: {verdict.text or event.reason}")
    says_nothing = verdict.basis is Basis.NOTHING or not (code or status)
    if event.hard and says_nothing and verdict.bounce_class in _MAY_BE_HARD:
        return _hard(verdict, f"{event.provider} calls it permanent: {verdict.text}")
    return verdict


def _hard(verdict: Verdict, text: str) -> Verdict:
    return replace(
        verdict,
        reply_class=ReplyClass.HARD,
        bounce_class=BounceClass.INVALID_MAILBOX,
        hard=True,
        again=False,
        retry_after_seconds=None,
        text=text[:512],
    )


def _decoded(content_type: str, body: bytes) -> Any:
    """Return JSON, or a form as a table of lists."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            return _table(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000))
        if kind == "multipart/form-data":
            return _table(_form(content_type, body))
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebhookError(400, "the body cannot be read") from error


def _form(content_type: str, body: bytes) -> list[tuple[str, str]]:
    head = b"Content-Type: " + content_type.encode("latin-1", "replace").replace(b"\n", b" ") + b"\r\n\r\n"
    parsed: Message = BytesParser(policy=compat32).parsebytes(head + body)
    parts = parsed.get_payload()
    if not isinstance(parts, list):
        raise WebhookError(400, "the form cannot be read")
    found: list[tuple[str, str]] = []
    for part in parts[:1000]:
        if not isinstance(part, Message):
            continue
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found.append((name, content.decode("utf-8", "replace")))
    return found


def _table(fields: list[tuple[str, str]]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = defaultdict(list)
    for name, value in fields:
        table[name].append(value)
    return dict(table)
