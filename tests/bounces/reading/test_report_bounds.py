"""Mails made to break a parser: bounded work, bounded memory, no exception."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bombs import BOMBS, HEAD
from mailer.bounces.reading.mailto import find_subject
from mailer.bounces.reading.mime import MAX_DEPTH, MAX_OCTETS, MAX_PARTS, read_mail
from mailer.bounces.reading.report import ReportKind, parse_report
from tests.bounces.reports import SIGNER


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb_is_read_in_bounded_time(bomb: str) -> None:
    raw = BOMBS[bomb]()
    start = time.process_time()
    report = parse_report(raw)
    find_subject(SIGNER, report.mailto, "unsubscribe@example.org")
    # The benchmark's bar is one second; quadratic forms take from five to fifty.
    assert time.process_time() - start < 2.5


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
