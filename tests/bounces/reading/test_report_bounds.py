"""Mails made to break a parser: bounded work, bounded memory, no exception."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.bounces.reading.mime import MAX_DEPTH, MAX_OCTETS, MAX_PARTS, read_mail
from mailer.bounces.reading.report import ReportKind, parse_report

HEAD = b"From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered Mail Returned to Sender\r\n"
STATUS = (
    HEAD + b"Content-Type: multipart/report; report-type=delivery-status; boundary=q\r\n\r\n"
    b"--q\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n"
)

BOMBS: dict[str, Callable[[], bytes]] = {
    "3,000 nested multiparts": lambda: b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(3000)
    ),
    "3,000 nested multiparts with one boundary": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 3000
    ),
    "3,000 brackets in From": lambda: (
        b"From: " + b"(" * 3000 + b"postmaster@example.net\r\n\r\n<a@b.example>: no"
    ),
    "20,000 recipients": lambda: (
        STATUS
        + b"".join(
            b"Final-Recipient: rfc822; u%d@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n" % n
            for n in range(20_000)
        )
    ),
    "20,000 recipients in prose": lambda: (
        HEAD + b"\r\n" + b"".join(b"<u%d@example.com>: 550 no such user\r\n\r\n" % n for n in range(20_000))
    ),
    "30,000 parts": lambda: (
        HEAD
        + b"Content-Type: multipart/mixed; boundary=q\r\n\r\n"
        + b"--q\r\n\r\nfailed a@b.example\r\n" * 30_000
    ),
    "huge attachment": lambda: (
        HEAD + b"Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\n\r\n<a@b.example>: 550 no\r\n--q\r\n"
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 4_000_000
    ),
    "one line": lambda: HEAD + b"\r\n" + b"a" * 2_000_000,
    "at signs": lambda: HEAD + b"\r\n" + b"a@" * 500_000,
    "tags": lambda: HEAD + b"Content-Type: text/html\r\n\r\n" + b"<style>" * 150_000,
    "open tags": lambda: HEAD + b"Content-Type: text/html\r\n\r\n" + b"<" * 500_000,
    "header fields": lambda: HEAD + b"X: y\r\n" * 200_000 + b"\r\n",
    "folded header": lambda: HEAD + b"X: a\r\n" + b" y\r\n" * 300_000 + b"\r\n",
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\r\n\r\n",
    "transcript": lambda: HEAD + b"\r\n" + b">>> RCPT TO:\r\n<<< 550 x\r\n" * 30_000,
    "nested JSON": lambda: HEAD + b'\r\n{"notificationType"' + b"[" * 500_000,
    "sentences": lambda: HEAD + b"\r\n" + b"message to <x@y.example> failed\r\n" * 30_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb_is_read_in_bounded_memory(bomb: str) -> None:
    raw = BOMBS[bomb]()
    tracemalloc.start()
    report = parse_report(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(report.recipients) <= 1000
    assert peak < 12 * MAX_OCTETS


def test_parts_and_levels_are_bounded() -> None:
    _, leaves = read_mail(BOMBS["30,000 parts"]())
    assert len(leaves) <= MAX_PARTS
    _, leaves = read_mail(BOMBS["3,000 nested multiparts"]())
    assert len(leaves) <= MAX_DEPTH + 1


def test_recipient_before_a_huge_attachment_is_found() -> None:
    report = parse_report(BOMBS["huge attachment"]())
    assert [one.address for one in report.recipients] == ["a@b.example"]


FRAGMENTS = [
    b"From: MAILER-DAEMON@x.example\r\n",
    b"From: \r\n",
    b"Subject: Undelivered\r\n",
    b"Return-Path: <>\r\n",
    b"Content-Type: multipart/report; boundary=q\r\n",
    b"Content-Type: message/delivery-status\r\n",
    b"Content-Type: text/plain; charset=iso-2022-jp\r\n",
    b"Content-Type: text/html; charset=nonsense\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"--q\r\n",
    b"--q--\r\n",
    b"Final-Recipient: rfc822; a@b.example\r\n",
    b"Action: failed\r\n",
    b"Status: 5.1.1\r\n",
    b"Diagnostic-Code: smtp; 550 5.1.1 user unknown\r\n",
    b"<a@b.example>: 550 no such user\r\n",
    b" folded\r\n",
    b"=?utf-8?b?",
    b"?=",
    b"\xff\xfe",
    b"\x1b$B",
    b"=3D=",
    b">>> RCPT TO:<a@b.example>\r\n",
    b"<<< 550 5.1.1 no\r\n",
    b'{"notificationType":"Bounce"}',
    b"Feedback-Type: abuse\r\n",
    b"Content-Type: message/feedback-report\r\n",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)), max_size=40))
def test_mail_made_of_fragments_is_read(fragments: list[bytes]) -> None:
    report = parse_report(b"".join(fragments))
    assert report.kind in ReportKind
    for one in report.recipients:
        assert len(one.diagnostic) <= 512
        assert one.diagnostic.isprintable()
        assert one.verdict is None or not (one.verdict.hard and one.verdict.enhanced.startswith("4"))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([b"text/plain", b"text/html", b"multipart/mixed; boundary=q"])
)
def test_report_with_any_body_is_read(body: bytes, kind: bytes) -> None:
    assert parse_report(HEAD + b"Content-Type: " + kind + b"\r\n\r\n" + body).kind in ReportKind
