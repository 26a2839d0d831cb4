"""Bytes of one mail to what it reports.

Standards come first: RFC 3464 and 6533 delivery status, RFC 5965 feedback, RFC 3834 automatic answers.
Two in five real bounces follow none; those are read by wording and layout (`prose`), and flufl.bounce
has a vote where that finds nothing. Nothing here raises, whatever the bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from mailer.bounces.reading import feedback, flufl, kinds, ses
from mailer.bounces.reading.dsn import (
    ADDRESS,
    MAX_RECIPIENTS,
    Facts,
    clean_address,
    first_address,
    has_fields,
    read_fields,
)
from mailer.bounces.reading.mailto import NO_REQUEST, MailtoRequest, read_request
from mailer.bounces.reading.mime import Headers, Leaf, decoded_words, parse_headers, read_mail
from mailer.bounces.reading.prose import (
    find_in_sentences,
    find_recipients,
    split_copy,
    transcript,
    words_beside_addresses,
)
from mailer.bounces.reading.verdicts import code_and_status, judge_facts, judge_with_cause
from mailer.replies import Verdict


class ReportKind(StrEnum):
    """What a mail that came back is."""

    BOUNCE = "bounce"
    DELAYED = "delayed"
    """Still being tried by another system; nothing failed yet."""
    DELIVERED = "delivered"
    COMPLAINT = "complaint"
    OPT_OUT = "opt_out"
    ARF_OTHER = "arf_other"
    """Feedback that is no complaint: auth-failure, not-spam and the like."""
    AUTO_REPLY = "auto_reply"
    CHALLENGE = "challenge"
    ORDINARY = "ordinary"
    UNREADABLE = "unreadable"
    """Reading it took too long."""


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What is reported of one recipient."""

    address: str
    original_address: str
    """The address as we sent to it, where the report gives it; else the same as `address`."""
    action: str
    """RFC 3464: failed, delayed, delivered, relayed, expanded; empty if the mail does not say."""
    status: str
    """RFC 3463 status, or empty."""
    code: int | None
    """SMTP reply code, where one is quoted."""
    diagnostic: str
    """The refusing system's words: one line, at most 512 characters."""
    remote: str
    """The system that refused, or the one that reports; may be empty."""
    verdict: Verdict | None
    """None where nothing failed."""


@dataclass(frozen=True, slots=True)
class BounceReport:
    """What one mail reports.

    `envelope_tokens` are the return-path tokens found, the most trustworthy first: the caller checks
    their signature, and a good one outranks every address in the body.
    """

    kind: ReportKind
    recipients: tuple[RecipientReport, ...] = ()
    envelope_tokens: tuple[str, ...] = ()
    message_id: str = ""
    """Of the mail that is reported on, without brackets."""
    feedback_type: str = ""
    reporter: str = ""
    """Address or system that sent the report."""
    at: datetime | None = None
    """When it happened, by the clock of the provider or of the system that sent the report."""
    mailto: MailtoRequest = NO_REQUEST


_MAX_FORWARDS: Final = 2
_TOKEN: Final = re.compile(r"\bb\.([a-z2-7]{20,62})(?:@|=)")
_ENVELOPE_FIELDS: Final = (
    "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-delivered-to", "x-rcpt-to",
    "to", "apparently-to",
    "resent-to", "cc",
)  # fmt: skip
_OUR_FIELDS: Final = (
    "to", "from", "return-path", "reply-to", "delivered-to", "x-original-to", "envelope-to",
)  # fmt: skip
"""Fields of a report that name us or the reporting system."""
_MESSAGE_ID: Final = re.compile(r"<([^<>\s]{3,250})>")
_REPORT_TYPES: Final = ("message/delivery-status", "message/global-delivery-status")
_ORIGINAL_TYPES: Final = (
    "message/rfc822", "message/global", "text/rfc822-headers", "text/rfc822-header",
    "message/global-headers",
    "message/rfc822-headers", "message/partial",
)  # fmt: skip
_SES_KINDS: Final = {
    "bounce": ReportKind.BOUNCE,
    "complaint": ReportKind.COMPLAINT,
    "delivery": ReportKind.DELIVERED,
    "deliverydelay": ReportKind.DELAYED,
}
_SES_ACTIONS: Final = {
    ReportKind.BOUNCE: "failed",
    ReportKind.DELIVERED: "delivered",
    ReportKind.DELAYED: "delayed",
}
_DONE: Final = frozenset({"delivered", "relayed", "expanded", "deliverable"})


def parse_report(raw: bytes) -> BounceReport:
    """Return what a mail reports. Never raises; what makes no sense is `ORDINARY`.

    At most the first megabyte, 200 parts, ten levels and 1,000 recipients are read.
    """
    return _read(raw, 0)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one way of reading a mail found; empty fields are filled from the mail's headers."""

    kind: ReportKind
    recipients: tuple[RecipientReport, ...] = ()
    feedback_type: str = ""
    message_id: str = ""
    tokens: tuple[str, ...] = ()


def _read(raw: bytes, depth: int) -> BounceReport:
    mail = _Mail.read(raw)
    facts, reporting = _status_facts(mail)
    found = (
        _ses_finding(mail)
        or _feedback_finding(mail)
        or _wrapped_finding(mail, facts, depth)
        or _own_finding(mail, facts, reporting)
    )
    return BounceReport(
        found.kind,
        found.recipients,
        _tokens(mail) or found.tokens,
        found.message_id or _original_message_id(mail),
        found.feedback_type,
        first_address(mail.headers.get("from")),
        _dated(mail.headers),
        read_request(mail.headers),
    )


def _ses_finding(mail: _Mail) -> _Finding | None:
    """Return what an event of Amazon SES says that came by email."""
    event = ses.find_event(mail.notice)
    if event is None:
        return None
    kind = _SES_KINDS.get(event.name, ReportKind.ORDINARY)
    if kind is ReportKind.COMPLAINT and not event.is_complaint:
        kind = ReportKind.ARF_OTHER
    recipients = tuple(_ses_recipient(event, one, kind) for one in event.recipients if "@" in one.address)
    return _Finding(kind, recipients, "abuse" if kind is ReportKind.COMPLAINT else "", event.message_id)


def _feedback_finding(mail: _Mail) -> _Finding | None:
    """Return what a feedback report (RFC 5965) says."""
    found = feedback.read(mail.headers, mail.leaves, mail.original)
    if found is None:
        return None
    kind, feedback_type, addresses = found
    return _Finding(ReportKind(kind), tuple(map(_plain_recipient, addresses)), feedback_type)


def _wrapped_finding(mail: _Mail, facts: list[Facts], depth: int) -> _Finding | None:
    """Return what the report inside this one says: some systems wrap theirs in another mail."""
    is_wrapper = not facts and mail.is_report and mail.copy and depth < _MAX_FORWARDS
    if not is_wrapper or not _is_report_itself(mail.original):
        return None
    inner = _read(mail.copy, depth + 1)
    if not inner.recipients:
        return None
    return _Finding(
        inner.kind, inner.recipients, inner.feedback_type, inner.message_id, inner.envelope_tokens
    )


def _own_finding(mail: _Mail, facts: list[Facts], reporting: str) -> _Finding:
    """Return what the delivery status or the wording of this mail says."""
    kind = _kind(mail, facts)
    recipients: tuple[RecipientReport, ...] = ()
    if kind is ReportKind.AUTO_REPLY:
        reporter = first_address(mail.headers.get("from"))
        recipients = (_plain_recipient(reporter),) if reporter else ()
    elif kind is ReportKind.DELIVERED:
        recipients = tuple(_recipient(one, reporting, None) for one in facts)
    elif kind in (ReportKind.BOUNCE, ReportKind.DELAYED):
        recipients = _failures(mail, facts, reporting, delayed=kind is ReportKind.DELAYED)
        if not recipients and not mail.is_from_system:
            kind = ReportKind.ORDINARY
    return _Finding(kind, recipients)


def _failures(
    mail: _Mail, facts: list[Facts], reporting: str, *, delayed: bool
) -> tuple[RecipientReport, ...]:
    """Return the recipients that failed or are delayed, each with its verdict."""
    failed = [one for one in facts if one.action not in _DONE and one.address] or _prose_facts(mail, facts)
    _enrich(failed, mail.notice)
    words, alone = f"{mail.notice}\n\n{mail.subject}", len(failed) == 1
    return tuple(
        _recipient(one, reporting, judge_facts(one, words, delayed=delayed, alone=alone))
        for one in failed[:MAX_RECIPIENTS]
    )


def _dated(headers: Headers) -> datetime | None:
    """Return the date of a mail (RFC 5322 section 3.6.1); None if it has none that can be read."""
    try:
        found = parsedate_to_datetime(headers.get("date")[:100])
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class _Mail:
    """A mail taken apart: what people read, what programs read, and the mail it is about."""

    raw: bytes
    headers: Headers
    leaves: list[Leaf]
    notice: str
    status_texts: list[str]
    original: Headers
    copy: bytes
    """What is quoted of the mail reported on, as far as it is there."""
    subject: str
    is_report: bool
    """Declared as a delivery report, sent by a mail system, or named like a notification of failure."""
    is_from_system: bool
    """Not written by a person: declared so, from a mail system, or with the empty envelope sender."""

    @staticmethod
    def read(raw: bytes) -> _Mail:
        headers, leaves = read_mail(raw)
        notices: list[str] = []
        statuses: list[str] = []
        copies: list[str] = []
        for leaf in leaves:
            if leaf.kind in _REPORT_TYPES:
                statuses.append(leaf.text())
            elif leaf.kind in _ORIGINAL_TYPES or (
                leaf.kind.startswith("message/") and leaf.kind != "message/feedback-report"
            ):
                copies.append(leaf.text()[:65536])
            elif leaf.kind == "text/html" and any(text.strip() for text in notices):
                continue
            elif not copies and (not leaf.kind or leaf.kind.startswith(("text/", "multipart/"))):
                notices.append(leaf.text())
        notice, copy = split_copy("\n".join(notices))
        if not statuses and has_fields(notice):
            statuses.append(notice)
        if copy:
            copies.append(copy)
        quoted = "\n".join(copies).lstrip("\n-").encode("utf-8", "replace")
        original = parse_headers(quoted.partition(b"\n\n")[0] if len(copies) == 1 else quoted)
        subject = decoded_words(headers.get("subject"))
        return _Mail(
            raw,
            headers,
            leaves,
            notice,
            statuses,
            original,
            quoted,
            subject,
            bool(statuses) or kinds.is_from_mail_system(headers, subject),
            bool(statuses) or kinds.is_from_mail_system(headers, "") or kinds.has_null_sender(headers),
        )


def _is_report_itself(original: Headers) -> bool:
    """Return whether the quoted mail is a report: some systems wrap theirs in another mail."""
    return "report" in original.get("content-type") and kinds.is_from_mail_system(original, "")


def _status_facts(mail: _Mail) -> tuple[list[Facts], str]:
    facts: list[Facts] = []
    reporting = ""
    for text in mail.status_texts[:50]:
        more, reported_by = read_fields(text)
        facts += more[: MAX_RECIPIENTS - len(facts)]
        reporting = reporting or reported_by
    by_address: dict[tuple[str, str], Facts] = {}
    for one in facts:
        by_address.setdefault((one.address.lower(), one.action), one)
    return list(by_address.values()), reporting


def _kind(mail: _Mail, facts: list[Facts]) -> ReportKind:
    actions = {one.action for one in facts if one.action}
    if kinds.is_challenge(mail.headers, mail.subject, mail.notice):
        return ReportKind.CHALLENGE
    if actions and actions <= _DONE:
        return ReportKind.DELIVERED
    if "failed" in actions:
        return ReportKind.BOUNCE
    if "delayed" in actions:
        return ReportKind.DELAYED
    if not facts and kinds.is_auto_reply(mail.headers, mail.subject):
        return ReportKind.AUTO_REPLY
    if not mail.is_report and not (
        kinds.has_null_sender(mail.headers) and kinds.reads_like_bounce(mail.notice)
    ):
        return ReportKind.ORDINARY
    if kinds.is_delay_notice(mail.subject, mail.notice):
        return ReportKind.DELAYED
    if kinds.is_delivered_notice(mail.subject, mail.notice):
        return ReportKind.DELIVERED
    if facts or mail.headers.get("x-failed-recipients") or kinds.names_failure(mail.subject):
        return ReportKind.BOUNCE
    # A mail system that sends our own mail back has refused it, in whatever language it says so.
    returned = bool(mail.copy) and kinds.is_from_daemon(mail.headers)
    return ReportKind.BOUNCE if returned or kinds.reads_like_bounce(mail.notice) else ReportKind.ORDINARY


def _prose_facts(mail: _Mail, facts: list[Facts]) -> list[Facts]:
    """Return the recipients by header, by wording and layout, by vote, or from the mail reported on."""
    ours = {
        clean_address(address).lower()
        for value in [
            *mail.headers.all(*_OUR_FIELDS),
            *mail.original.all("from", "return-path", "sender", "reply-to", "x-sender"),
        ]
        for address in ADDRESS.findall(value[:1000])
    }

    def is_ours(address: str) -> bool:
        return kinds.is_role(address) or address.lower() in ours

    found = find_recipients(mail.notice, is_ours)
    named = [
        clean_address(address)
        for value in mail.headers.all("x-failed-recipients")
        for address in ADDRESS.findall(value)
    ]
    if named and not all(one.diagnostic for one in found):
        by_address = {one.address.lower(): one for one in found}
        found = [
            by_address.get(address.lower(), Facts(address=address))
            for address in dict.fromkeys(named[:MAX_RECIPIENTS])
        ]
    if not found:
        found = [Facts(address=address) for address in flufl.vote(mail.raw)]
    if not found and mail.is_from_system:
        found = find_in_sentences(mail.notice, is_ours)
    if not found and mail.is_from_system:
        sent_to = [first_address(value) for value in mail.original.all("to", "x-original-to", "delivered-to")]
        found = [Facts(address=address) for address in sent_to[:1] if address]
    known = facts[0] if facts else Facts()
    for one in found:
        one.action = one.action or known.action
        one.status = one.status or known.status
        if known.diagnostic:
            one.more.insert(0, known.diagnostic)
    return found


def _enrich(facts: list[Facts], notice: str) -> None:
    """Add what the notification and its transcript say about each recipient."""
    said = transcript(notice)
    beside = words_beside_addresses(notice)
    for one in facts:
        for address in {one.address.lower(), one.original.lower()}:
            words = beside.get(address, "")
            if words and words != one.diagnostic:
                one.more.append(words)
        for command, reply in said:
            if len(facts) == 1 or one.address.lower() in reply.lower():
                one.command = one.command or command
                one.more.append(reply)


def _recipient(one: Facts, reporting: str, verdict: Verdict | None) -> RecipientReport:
    return RecipientReport(
        address=one.address,
        original_address=one.original or one.address,
        action=one.action,
        status=verdict.enhanced if verdict else one.status,
        code=verdict.code if verdict else None,
        diagnostic=verdict.text if verdict else "",
        remote=one.remote or reporting,
        verdict=verdict,
    )


def _ses_recipient(event: ses.SesEvent, one: ses.SesRecipient, kind: ReportKind) -> RecipientReport:
    verdict = None
    if kind is ReportKind.BOUNCE:
        code, status = code_and_status(one.diagnostic)
        verdict = judge_with_cause(
            code, one.status or status, one.diagnostic, cause=event.cause, permanent=event.permanent
        )
    return _recipient(
        Facts(address=one.address, action=_SES_ACTIONS.get(kind, ""), status=one.status), "", verdict
    )


def _plain_recipient(address: str) -> RecipientReport:
    return RecipientReport(address, address, "", "", None, "", "", None)


def _tokens(mail: _Mail) -> tuple[str, ...]:
    """Return the return-path tokens: from the mail's own envelope fields, then from what it quotes."""
    places = (
        "\n".join(mail.headers.all(*_ENVELOPE_FIELDS)),
        "\n".join(value for _, value in mail.original.fields),
        "\n".join(mail.status_texts)[:65536],
        mail.notice[:65536],
    )
    found = [token for text in map(str.lower, places) if "b." in text for token in _TOKEN.findall(text)]
    return tuple(dict.fromkeys(found))[:20]


def _original_message_id(mail: _Mail) -> str:
    for value in (
        mail.original.get("message-id"),
        mail.headers.get("in-reply-to"),
        mail.headers.get("references"),
    ):
        if found := _MESSAGE_ID.search(value):
            return found[1]
    return ""
