"""Notifications in prose, in the layouts of systems that send no delivery status."""

from __future__ import annotations

import pytest

from mailer.bounces.reading.report import ReportKind, parse_report
from mailer.replies import BounceClass

C = BounceClass

NOTICES: dict[str, tuple[BounceClass, bool, str]] = {
    "qmail": (
        C.INVALID_MAILBOX,
        True,
        "Hi. This is the qmail-send program.\n\n<reader@example.com>:\n"
        "Sorry, no mailbox here by that name. (#5.1.1)\n",
    ),
    "Exim": (
        C.MAILBOX_FULL,
        False,
        "The following address(es) failed:\n\n  reader@example.com\n"
        "    SMTP error from remote mail server after"
        " RCPT TO:<reader@example.com>:\n    host mx.example.com [192.0.2.1]: 552 5.2.2 mailbox full\n",
    ),
    "Sendmail": (
        C.INVALID_DOMAIN,
        True,
        "   ----- The following addresses had permanent fatal errors -----\n<reader@example.com>\n\n"
        "   ----- Transcript of session follows -----\n550 5.1.2 <reader@example.com>... Host unknown\n",
    ),
    "Exchange": (
        C.INVALID_MAILBOX,
        True,
        "did not reach the following recipient(s):\n\n"
        "reader@example.com on Mon, 1 Jan 2024 10:00:00 +0000\n"
        "    The recipient name is not recognized\n",
    ),
    "Exchange in German": (
        C.INVALID_MAILBOX,
        True,
        "Fehler bei der Zustellung an:\n\nreader@example.com<mailto:reader@example.com>\n\n"
        "#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##\n",
    ),
    "Domino": (
        C.INVALID_MAILBOX,
        True,
        "was not delivered to:\n\n  reader@example.com\n\nbecause:\n\n"
        "  User not listed in Domino Directory\n",
    ),
    "CommuniGate": (
        C.INVALID_MAILBOX,
        True,
        "Failed to deliver to 'reader@example.com'\nSMTP module reports:\n host mx says:\n"
        " 550 5.1.1 unknown user\n",
    ),
    "hMailServer": (
        C.INVALID_MAILBOX,
        True,
        "The following recipient(s) could not be reached:\n\n   reader@example.com\n"
        "      Remote server replied:"
        " 550 5.1.1 User unknown\n",
    ),
    "MailEnable": (
        C.CONTENT,
        False,
        "could not be reached:\n\n    Recipient: [SMTP:reader@example.com]\n"
        "        Reason: 554 5.7.1 spam detected\n",
    ),
    "Zoho": (
        C.INVALID_MAILBOX,
        True,
        "could not be delivered. This is a permanent error. \n\n"
        "reader@example.com, ERROR CODE :550 - 5.1.1 no such user\n",
    ),
    "Vade": (
        C.MAILBOX_FULL,
        False,
        "Delivery has failed to these recipients:\n\n"
        "\t* [reader@example.com]: 550 User account is overquota\n",
    ),
    "IMail": (
        C.EXPIRED,
        False,
        "Delivery failed 20 attempts: reader@example.com\n\nOriginal message follows.\n",
    ),
    "Chinese": (
        C.INVALID_MAILBOX,
        True,
        "很抱歉，邮件被退回。\n收件人 reader@example.com\n550 5.1.1 Mailbox not found\n",
    ),
    "none that is known": (C.UNDETERMINED, False, "Undeliverable.\n\n   reader@example.com\n\nGood luck.\n"),
}


@pytest.mark.parametrize("system", NOTICES)
def test_recipient_and_class_are_read_from_prose(system: str) -> None:
    expected, hard, text = NOTICES[system]
    head = (
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example.net\r\nTo: <b.x@bounce.example.org>\r\n"
        "Subject: Undeliverable mail\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    report = parse_report((head + text).encode())
    assert report.kind is ReportKind.BOUNCE
    (one,) = report.recipients
    assert one.address == "reader@example.com"
    assert one.verdict is not None
    assert (one.verdict.bounce_class, one.verdict.hard) == (expected, hard)


def test_markup_alone_is_read() -> None:
    raw = (
        b"Return-Path: <>\r\nFrom: postmaster@example.net\r\nSubject: Delivery failure\r\n"
        b"Content-Type: text/html\r\n\r\n"
        b"<html><head><style>a@b.example</style></head><body><p>Could not be delivered to "
        b"<b>reader@example.com</b></p><p>550 5.1.1 User unknown</p></body></html>"
    )
    (one,) = parse_report(raw).recipients
    assert (one.address, one.code, one.status) == ("reader@example.com", 550, "5.1.1")
