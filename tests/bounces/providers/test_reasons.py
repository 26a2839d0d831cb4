"""What a provider's own reason costs a subscriber, where no receiving system is quoted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailer.bounces.policy import weight
from mailer.bounces.providers.events import EventKind
from mailer.bounces.providers.webhooks import as_report, events_of
from mailer.bounces.reading.report import ReportKind, parse_report
from mailer.replies import BounceClass, Verdict


def ses(bounce_type: str, subtype: str) -> Any:
    return {"eventType": "Bounce", "bounce": {
        "bounceType": bounce_type, "bounceSubType": subtype,
        "bouncedRecipients": [{"emailAddress": "ana@example.com"}]}}  # fmt: skip


def sendgrid(event: str, **fields: str) -> Any:
    return {"event": event, "email": "ana@example.com", **fields}


def mailgun(**fields: Any) -> Any:
    return {"event-data": {"recipient": "ana@example.com", "severity": "permanent", **fields}}


def postmark(kind: str) -> Any:
    return {"RecordType": "Bounce", "Type": kind, "Email": "ana@example.com"}


def sparkpost(number: int, kind: str = "bounce") -> Any:
    return {
        "msys": {"message_event": {"type": kind, "bounce_class": str(number), "rcpt_to": "ana@example.com"}}
    }


def mailjet(error: str, event: str = "bounce", *, hard: bool = True) -> Any:
    return {"event": event, "email": "ana@example.com", "error": error, "hard_bounce": hard}


def resend(kind: str, **data: Any) -> Any:
    return {"type": kind, "data": {"to": ["ana@example.com"], **data}}


def brevo(event: str, reason: str = "") -> Any:
    return {"event": event, "email": "ana@example.com", "reason": reason}


def mandrill(event: str, **message: Any) -> Any:
    return {"event": event, "msg": {"email": "ana@example.com", **message}}


def mailersend(kind: str, **meta: Any) -> Any:
    return {"data": {"type": kind, "recipient": "ana@example.com", "meta": meta}}


def mailtrap(event: str, **fields: Any) -> Any:
    return {"event": event, "email": "ana@example.com", **fields}


def scaleway(kind: str, **fields: Any) -> Any:
    return {"Message": json.dumps({"type": kind, "email_to": "ana@example.com", **fields})}


def verdict(provider: str, payload: Any) -> Verdict:
    (event,) = events_of(provider, payload)
    report = as_report(event)
    assert report.kind is ReportKind.BOUNCE
    assert report.recipients[0].verdict is not None
    return report.recipients[0].verdict


HARD = [
    ("ses", ses("Permanent", "General")),
    ("ses", ses("Permanent", "Suppressed")),
    ("ses", ses("Permanent", "OnAccountSuppressionList")),
    ("sendgrid", sendgrid("dropped", reason="Invalid")),
    ("sendgrid", sendgrid("dropped", reason="Bounced Address")),
    ("sendgrid", sendgrid("bounce", bounce_classification="Invalid Address")),
    ("mailgun", mailgun(event="failed", reason="suppress-bounce")),
    ("postmark", postmark("HardBounce")),
    ("postmark", postmark("BadEmailAddress")),
    ("sparkpost", sparkpost(10)),
    ("sparkpost", sparkpost(30)),
    ("mailjet", mailjet("user unknown")),
    ("mailjet", mailjet("invalid domain")),
    ("mailjet", mailjet("preblocked", "blocked")),
    ("brevo", brevo("hard_bounce")),
    ("brevo", brevo("invalid_email")),
    ("resend", resend("email.bounced", bounce={"type": "Permanent", "subType": "General"})),
    ("resend", resend("email.suppressed", suppressed={"type": "OnAccountSuppressionList"})),
    ("mandrill", mandrill("hard_bounce", bounce_description="bad_mailbox")),
    ("mandrill", mandrill("reject", reject={"reason": "hard-bounce"})),
    ("mailersend", mailersend("hard_bounced")),
    ("mailersend", mailersend("suppressed", suppression_reason="Recipient hard bounced before")),
    ("mailtrap", mailtrap("reject", reason="Recipient in suppression list. Reason: hard bounce")),
    ("scaleway", scaleway("email_mailbox_not_found")),
]
OUR_FAULT = [
    ("ses", ses("Transient", "MessageTooLarge")),
    ("ses", ses("Transient", "ContentRejected")),
    ("ses", ses("Transient", "AttachmentRejected")),
    ("ses", {"eventType": "Reject", "mail": {"destination": ["ana@example.com"]},
             "reject": {"reason": "Bad content"}}),
    ("ses", {"eventType": "Rendering Failure", "mail": {"destination": ["ana@example.com"]},
             "failure": {"errorMessage": "Attribute 'name' is not present"}}),
    ("sendgrid", sendgrid("dropped", reason="Invalid SMTPAPI header")),
    ("sendgrid", sendgrid("dropped", reason="Spam Content (if Spam Checker app is enabled)")),
    ("sendgrid", sendgrid("dropped", reason="Recipient List over Package Quota")),
    ("sendgrid", sendgrid("dropped", reason="something new")),
    ("sendgrid", sendgrid("bounce", type="blocked", bounce_classification="Reputation")),
    ("sendgrid", sendgrid("bounce", type="blocked", bounce_classification="Content")),
    ("sendgrid", sendgrid("bounce", bounce_classification="Frequency or Volume Too High")),
    ("mailgun", mailgun(event="rejected", reject={"reason": "Sandbox domains are for tests only"})),
    ("mailgun", mailgun(event="failed", reason="espblock")),
    ("postmark", postmark("SpamNotification")),
    ("postmark", postmark("VirusNotification")),
    ("postmark", postmark("Blocked")),
    ("postmark", postmark("DMARCPolicy")),
    ("postmark", postmark("SMTPApiError")),
    ("postmark", postmark("TemplateRenderingFailed")),
    ("postmark", postmark("ManuallyDeactivated")),
    *(("sparkpost", sparkpost(number)) for number in (23, 25, 26, 50, 51, 52, 53, 54, 70)),
    ("sparkpost", sparkpost(10, "policy_rejection")),
    ("sparkpost", sparkpost(0, "generation_failure")),
    ("sparkpost", sparkpost(0, "generation_rejection")),
    ("mailjet", mailjet("sender blocked")),
    ("mailjet", mailjet("content blocked")),
    ("mailjet", mailjet("protocol issue")),
    ("mailjet", mailjet("bad or empty template", "blocked")),
    ("mailjet", mailjet("duplicate in campaign", "blocked")),
    ("brevo", brevo("error", "Invalid template")),
    ("brevo", brevo("blocked", "blocked : user unknown")),
    ("resend", resend("email.failed", failed={"reason": "reached_daily_quota"})),
    ("resend", resend("email.bounced", bounce={"type": "Transient", "subType": "ContentRejected"})),
    ("mandrill", mandrill("reject", reject={"reason": "invalid-sender"})),
    ("mandrill", mandrill("reject", reject={"reason": "test-mode-limit"})),
    ("mailersend", mailersend("suppressed", suppression_reason="On hold")),
    ("mailtrap", mailtrap("reject", reason="The sending domain is not verified")),
    ("scaleway", scaleway("email_spam")),
    ("scaleway", scaleway("email_spam", email_response_code=550, email_response_message="user unknown")),
    ("scaleway", scaleway("email_blocklisted")),
]  # fmt: skip
SOFT = [
    ("ses", ses("Transient", "MailboxFull"), BounceClass.MAILBOX_FULL),
    ("ses", ses("Transient", "CustomTimeoutExceeded"), BounceClass.EXPIRED),
    ("ses", ses("Transient", "General"), BounceClass.UNDETERMINED),
    ("ses", ses("Undetermined", "Undetermined"), BounceClass.UNDETERMINED),
    (
        "sendgrid",
        sendgrid("bounce", bounce_classification="Mailbox Unavailable"),
        BounceClass.MAILBOX_DISABLED,
    ),
    ("mailgun", mailgun(event="failed", reason="old"), BounceClass.EXPIRED),
    ("postmark", postmark("SoftBounce"), BounceClass.UNDETERMINED),
    ("postmark", postmark("DnsError"), BounceClass.NETWORK),
    ("sparkpost", sparkpost(22), BounceClass.MAILBOX_FULL),
    ("sparkpost", sparkpost(21), BounceClass.NETWORK),
    ("mailjet", mailjet("quota exceeded"), BounceClass.MAILBOX_FULL),
    ("brevo", brevo("soft_bounce"), BounceClass.UNDETERMINED),
    ("mandrill", mandrill("soft_bounce", bounce_description="mailbox_full"), BounceClass.MAILBOX_FULL),
    ("mailersend", mailersend("soft_bounced"), BounceClass.UNDETERMINED),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "payload"), HARD)
def test_provider_that_calls_the_address_dead_is_believed(provider: str, payload: Any) -> None:
    assert verdict(provider, payload).hard


@pytest.mark.parametrize(("provider", "payload"), OUR_FAULT)
def test_our_fault_costs_the_subscriber_nothing(provider: str, payload: Any) -> None:
    found = verdict(provider, payload)
    assert (found.hard, weight(found)) == (False, 0.0)


@pytest.mark.parametrize(("provider", "payload", "expected"), SOFT)
def test_soft_reasons_have_their_class(provider: str, payload: Any, expected: BounceClass) -> None:
    found = verdict(provider, payload)
    assert (found.hard, found.bounce_class) == (False, expected)


@pytest.mark.parametrize(
    ("provider", "payload", "expected"),
    [
        ("ses", ses("Permanent", "UnsubscribedRecipient"), ReportKind.OPT_OUT),
        ("sendgrid", sendgrid("dropped", reason="Unsubscribed Address"), ReportKind.OPT_OUT),
        ("sendgrid", sendgrid("dropped", reason="Spam Reporting Address"), ReportKind.COMPLAINT),
        ("mailgun", mailgun(event="failed", reason="suppress-complaint"), ReportKind.COMPLAINT),
        ("mailjet", mailjet("spam reporter", "blocked"), ReportKind.COMPLAINT),
        ("mandrill", mandrill("reject", reject={"reason": "unsub"}), ReportKind.OPT_OUT),
        ("mandrill", mandrill("spam"), ReportKind.COMPLAINT),
        ("mailersend", mailersend("suppressed", suppression_reason="Spam complaint"), ReportKind.COMPLAINT),
        ("mailtrap", mailtrap("reject", reason="Recipient in suppression list. Reason: unsubscription"),
         ReportKind.OPT_OUT),
        ("mailtrap", mailtrap("suspension"), ReportKind.DELAYED),
        ("sparkpost", sparkpost(100), ReportKind.AUTO_REPLY),
    ],
)  # fmt: skip
def test_suppression_by_the_provider_is_what_caused_it(
    provider: str, payload: Any, expected: ReportKind
) -> None:
    (event,) = events_of(provider, payload)
    assert as_report(event).kind is expected


@pytest.mark.parametrize("provider", ["sendgrid", "postmark", "sparkpost", "mailgun"])
def test_the_quoted_reply_outranks_the_providers_reason(provider: str) -> None:
    said = "550 5.1.1 The email account that you tried to reach does not exist"
    payload = {
        "sendgrid": sendgrid("bounce", reason=said, bounce_classification="Technical"),
        "postmark": {**postmark("Blocked"), "Details": said},
        "sparkpost": {"msys": {"message_event": {
            "type": "bounce", "bounce_class": "25", "rcpt_to": "ana@example.com", "raw_reason": said}}},
        "mailgun": mailgun(event="failed", reason="old", **{"delivery-status": {"message": said}}),
    }[provider]  # fmt: skip
    assert verdict(provider, payload).hard


def complaint(feedback: str | None) -> Any:
    complained = {"complaintFeedbackType": feedback,
                  "complainedRecipients": [{"emailAddress": "ana@example.com"}]}  # fmt: skip
    return {"notificationType": "Complaint", "complaint": complained}


@pytest.mark.parametrize("feedback", ["not-spam", "auth-failure", "virus"])
def test_feedback_without_a_complaint_is_no_complaint(feedback: str) -> None:
    document = complaint(feedback)
    (event,) = events_of("ses", document)
    assert (event.kind, as_report(event).kind) == (EventKind.FEEDBACK, ReportKind.ARF_OTHER)
    # The same document, sent by email.
    raw = b"From: no-reply@sns.amazonaws.com\nSubject: AWS Notification\n\n" + json.dumps(document).encode()
    assert parse_report(raw).kind is ReportKind.ARF_OTHER


@pytest.mark.parametrize("feedback", ["abuse", "fraud", "other", None])
def test_other_feedback_of_ses_is_a_complaint(feedback: str | None) -> None:
    document = complaint(feedback)
    (event,) = events_of("ses", document)
    assert as_report(event).kind is ReportKind.COMPLAINT
