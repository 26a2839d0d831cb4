"""Mails that came back, read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailer.bounces.reading.report import ReportKind, parse_report
from mailer.replies import BounceClass

TOKEN = "aeaqcaimkg2x3yz7abcdefghijklmnop"

POSTFIX = f"""\
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
To: b.{TOKEN}@bounce.example.org
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="x"

--x
Content-Type: text/plain

<reader@example.com>: host mx.example.com[192.0.2.1] said: 550 5.1.1
    <reader@example.com>: User unknown (in reply to RCPT TO command)

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; reader@example.com
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 <reader@example.com>: User unknown

--x
Content-Type: text/rfc822-headers

Return-Path: <b.{TOKEN}@bounce.example.org>
Message-ID: <7.8@news.example.org>
To: reader@example.com

--x--
"""


def test_delivery_status_names_recipient_token_and_original_message() -> None:
    report = parse_report(POSTFIX.encode())
    assert report.kind is ReportKind.BOUNCE
    assert report.envelope_tokens == (TOKEN,)
    assert report.message_id == "7.8@news.example.org"
    (one,) = report.recipients
    assert (one.address, one.status, one.code, one.remote) == (
        "reader@example.com", "5.1.1", 550, "mx.example.com",
    )  # fmt: skip
    assert one.verdict is not None
    assert one.verdict.hard
    assert one.verdict.bounce_class is BounceClass.INVALID_MAILBOX


@given(st.binary())
def test_any_bytes_are_read(raw: bytes) -> None:
    assert parse_report(raw).kind in ReportKind
