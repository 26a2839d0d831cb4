"""Read reports from returned mail.

The standards come first: delivery status (RFC 3464 and 6533), feedback (RFC 5965) and automatic replies
(RFC 3834). Two in five real bounces follow none of them. `prose` reads those by wording and layout, and
flufl.bounce helps where that finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from mailer.bounces.reading import authentication, feedback, kinds, ses
from mailer.bounces.reading.authentication import AuthenticationReport
from mailer.bounces.reading.dsn import MAX_RECIPIENTS, Facts, first_address
from mailer.bounces.reading.mail import ReturnedMail
from mailer.bounces.reading.mailto import NO_REQUEST, MailtoRequest, read_request
from mailer.bounces.reading.recipients import add_words, facts_in_prose, facts_in_status
from mailer.bounces.reading.verdicts import code_and_status, judge_facts, judge_with_cause
from mailer.replies import Verdict


class ReportKind(StrEnum):
    """The kinds of mail that come back."""

    BOUNCE = "bounce"
    DELAYED = "delayed"
    """Another system is still trying; nothing has failed yet."""
    DELIVERED = "delivered"
    COMPLAINT = "complaint"
    OPT_OUT = "opt_out"
    ARF_OTHER = "arf_other"
    """Feedback that is not a complaint, such as `auth-failure` or `not-spam`."""
    AUTO_REPLY = "auto_reply"
    CHALLENGE = "challenge"
    DMARC = "dmarc"
    """A receiver's statistics of all mail of a domain (RFC 7489)."""
    TLS = "tls"
    """The same about TLS (RFC 8460)."""
    ORDINARY = "ordinary"
    UNREADABLE = "unreadable"
    """Reading it took too long."""


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """The part of a report about one recipient."""

    address: str
    original_address: str
    """The address that we sent to, if the report names it; otherwise the same as `address`."""
    action: str
    """RFC 3464: failed, delayed, delivered, relayed or expanded; empty if the mail does not say."""
    status: str
    """RFC 3463 status, or empty."""
    code: int | None
    """The SMTP reply code, if one is quoted."""
    diagnostic: str
    """The refusing system's reply: one line, at most 512 characters."""
    remote: str
    """The system that refused, or else the one that reports; may be empty."""
    verdict: Verdict | None
    """None if nothing failed."""


@dataclass(frozen=True, slots=True)
class BounceReport:
    """The report in one mail.

    `envelope_tokens` are the return-path tokens found, most trustworthy first. The caller checks their
    signatures; a valid one outranks every address in the body.
    """

    kind: ReportKind
    recipients: tuple[RecipientReport, ...] = ()
    envelope_tokens: tuple[str, ...] = ()
    message_id: str = ""
    """The Message-ID of the mail reported on, without brackets."""
    feedback_type: str = ""
    reporter: str = ""
    """The address or system that sent the report."""
    at: datetime | None = None
    """When it happened, by the clock of the provider or the reporting system."""
    mailto: MailtoRequest = NO_REQUEST
    authentication: AuthenticationReport | None = None
    """The content of a DMARC or TLS report."""


_MAX_FORWARDS: Final = 2
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
    """Return the report in a mail. Never raises: a mail that makes no sense is `ORDINARY`.

    At most the first megabyte, 200 parts, ten levels and 1,000 recipients are read.
    """
    return _read(raw, 0)


@dataclass(frozen=True, slots=True)
class _Finding:
    """The result of one way of reading a mail; the mail's headers fill its empty fields."""

    kind: ReportKind
    recipients: tuple[RecipientReport, ...] = ()
    feedback_type: str = ""
    message_id: str = ""
    tokens: tuple[str, ...] = ()


def _read(raw: bytes, depth: int) -> BounceReport:
    mail = ReturnedMail.read(raw)
    if (statistics := authentication.find(mail.leaves)) is not None:
        return BounceReport(
            ReportKind(statistics.kind),
            reporter=first_address(mail.headers.get("from")),
            at=mail.sent_at(),
            authentication=statistics,
        )
    facts, reporting = facts_in_status(mail)
    found = (
        _ses_finding(mail)
        or _feedback_finding(mail)
        or _wrapped_finding(mail, facts, depth)
        or _own_finding(mail, facts, reporting)
    )
    return BounceReport(
        found.kind,
        found.recipients,
        mail.tokens() or found.tokens,
        found.message_id or mail.original_message_id(),
        found.feedback_type,
        first_address(mail.headers.get("from")),
        mail.sent_at(),
        read_request(mail.headers, mail.subject),
    )


def _ses_finding(mail: ReturnedMail) -> _Finding | None:
    """Return the finding of an Amazon SES event inside an email, if there is one."""
    event = ses.find_event(mail.notice)
    if event is None:
        return None
    kind = _SES_KINDS.get(event.name, ReportKind.ORDINARY)
    if kind is ReportKind.COMPLAINT and not event.is_complaint:
        kind = ReportKind.ARF_OTHER
    recipients = tuple(_ses_recipient(event, one, kind) for one in event.recipients if "@" in one.address)
    return _Finding(kind, recipients, "abuse" if kind is ReportKind.COMPLAINT else "", event.message_id)


def _feedback_finding(mail: ReturnedMail) -> _Finding | None:
    """Return the finding of a feedback report (RFC 5965), if this is one."""
    found = feedback.read(mail.headers, mail.leaves, mail.original)
    if found is None:
        return None
    kind, feedback_type, addresses = found
    return _Finding(ReportKind(kind), tuple(map(_plain_recipient, addresses)), feedback_type)


def _wrapped_finding(mail: ReturnedMail, facts: list[Facts], depth: int) -> _Finding | None:
    """Return the finding of a report inside this one, if there is one."""
    is_wrapper = not facts and mail.is_report and mail.copy and depth < _MAX_FORWARDS
    if not is_wrapper or not mail.wraps_a_report():
        return None
    inner = _read(mail.copy, depth + 1)
    if not inner.recipients:
        return None
    return _Finding(
        inner.kind, inner.recipients, inner.feedback_type, inner.message_id, inner.envelope_tokens
    )


def _own_finding(mail: ReturnedMail, facts: list[Facts], reporting: str) -> _Finding:
    """Return the finding of this mail's delivery status or wording."""
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
    mail: ReturnedMail, facts: list[Facts], reporting: str, *, delayed: bool
) -> tuple[RecipientReport, ...]:
    """Return the failed or delayed recipients, each with its verdict."""
    failed = [one for one in facts if one.action not in _DONE and one.address] or facts_in_prose(mail, facts)
    add_words(failed, mail.notice)
    words, alone = f"{mail.notice}\n\n{mail.subject}", len(failed) == 1
    return tuple(
        _recipient(one, reporting, judge_facts(one, words, delayed=delayed, alone=alone))
        for one in failed[:MAX_RECIPIENTS]
    )


def _kind(mail: ReturnedMail, facts: list[Facts]) -> ReportKind:
    if kinds.is_challenge(mail.headers, mail.subject, mail.notice):
        return ReportKind.CHALLENGE
    if (declared := _declared_kind(facts)) is not None:
        return declared
    if not facts and kinds.is_auto_reply(mail.headers, mail.subject):
        return ReportKind.AUTO_REPLY
    if not (mail.is_report or (kinds.has_null_sender(mail.headers) and kinds.reads_like_bounce(mail.notice))):
        return ReportKind.ORDINARY
    if kinds.is_delay_notice(mail.subject, mail.notice):
        return ReportKind.DELAYED
    if kinds.is_delivered_notice(mail.subject, mail.notice):
        return ReportKind.DELIVERED
    return ReportKind.BOUNCE if facts or _tells_of_failure(mail) else ReportKind.ORDINARY


def _declared_kind(facts: list[Facts]) -> ReportKind | None:
    """Return the kind that the actions in a delivery status declare, or None."""
    actions = {one.action for one in facts if one.action}
    if actions and actions <= _DONE:
        return ReportKind.DELIVERED
    if "failed" in actions:
        return ReportKind.BOUNCE
    return ReportKind.DELAYED if "delayed" in actions else None


def _tells_of_failure(mail: ReturnedMail) -> bool:
    """Return whether a header, the subject, the returned mail or the wording shows that delivery failed."""
    if mail.headers.get("x-failed-recipients") or kinds.names_failure(mail.subject):
        return True
    # A mail system that returns our own mail has refused it, whatever language it uses.
    is_returned = bool(mail.copy) and kinds.is_from_daemon(mail.headers)
    return is_returned or kinds.reads_like_bounce(mail.notice)


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
