"""Families of messages whose words mislead: senders, banners, folded lines and people."""

from __future__ import annotations

from typing import Final

import pytest

from mailer.bounces.reading.report import BounceReport, ReportKind, parse_report
from mailer.replies import BounceClass
from tests.conftest import SHARED, missing

HEAD: Final = (
    "Return-Path: <>\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example.net>\nTo: us@sender.example\n"
    "Subject: Undelivered Mail Returned to Sender\n"
)
CASES: Final = {
    "banner-over-5.1.1.eml": ("user@example.net", True),
    "exim-45-our-from-invalid.eml": ("kijitora@example.com", False),
    "exim-callback.eml": ("user@example.net", False),
    "exim-lmtp-unknown.eml": ("user@host.example.com", True),
    "exim-sender-listed-as-recipient.eml": ("john.b@b.c", False),
    "gmail-content-421.eml": ("user@gmail.com", False),
    "no-from-header-human-reply.eml": ("", False),
    "postfix-virtual.eml": ("user2@example.com", True),
    "privaterelay-postfix-textonly.eml": ("abc@privaterelay.appleid.com", False),
    "privaterelay-unauthorised.eml": ("abc@privaterelay.appleid.com", False),
    "titan-nullmx.eml": ("user@example.com", False),
    "webde-our-mx-nocmd.eml": ("user@web.de", False),
}


def notice(text: str, **headers: str) -> BounceReport:
    extra = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return parse_report(f"{HEAD}{extra}\n{text}".encode())


def found(report: BounceReport) -> list[tuple[str, bool]]:
    return [(one.address, bool(one.verdict and one.verdict.hard)) for one in report.recipients]


@pytest.mark.parametrize("case", CASES)
def test_known_traps_are_read_right(case: str) -> None:
    path = SHARED / "cases" / "bounces" / case
    if not path.exists():
        missing(f"../shared/cases/bounces/{case}")
    address, hard = CASES[case]
    assert found(parse_report(path.read_bytes())) == ([(address, hard)] if address else [])


@pytest.mark.parametrize(
    "said",
    [
        "A message sent by\n\n  <{us}>\n\ncould not be delivered to these recipients:\n\n",
        "Your message from\n\n<{us}>\n\nwas not delivered to:\n\n",
        "Sender:\n  {us}\n\nThe following addresses failed:\n\n",
        "The email submitted by:\n{us}\ncould not be delivered to:\n\n",
    ],
)
def test_sender_named_before_the_recipients_is_none_of_them(said: str) -> None:
    text = said.format(us="bounces-77@lists.sender.example") + "<ana@example.com>: 550 5.1.1 User unknown\n"
    assert found(notice(text)) == [("ana@example.com", True)]


@pytest.mark.parametrize("indentation", ["    ", "\t", "      "])
@pytest.mark.parametrize("quoted", ["<news@other.example>: ", "<news@other.example> ", "news@other.example:"])
def test_folded_line_that_begins_with_an_address_is_no_recipient(indentation: str, quoted: str) -> None:
    text = (
        "<ana@example.com>: host mx.example.com[192.0.2.1] said: 550 5.7.1\n"
        f"{indentation}{quoted}sender address rejected (in reply to\n{indentation}MAIL FROM command)\n"
    )
    assert found(notice(text)) == [("ana@example.com", False)]


@pytest.mark.parametrize("indentation", ["", "  ", "    "])
def test_recipients_below_each_other_are_all_found(indentation: str) -> None:
    names = [f"r{number}@example.com" for number in range(4)]
    text = "The following addresses failed:\n\n" + "".join(f"{indentation}{name}\n" for name in names)
    assert sorted(one.address for one in notice(text).recipients) == names


@pytest.mark.parametrize("command", ["RCPT TO:<{a}>", "RCPT TO:<>"])
@pytest.mark.parametrize("protocol", ["LMTP error", "SMTP error from remote server", "LMTP error from mx"])
def test_reply_on_the_line_after_the_command_is_read(protocol: str, command: str) -> None:
    address = "ana@host.example.com"
    text = (
        f"The following address(es) failed:\n\n  {address}\n    (generated from old@example.com)\n"
        f"    {protocol} after {command.format(a=address)}:\n    552 5.2.2 <{address}> Mailbox is full:\n"
        f"    {address}\n"
    )
    (one,) = notice(text, X_Failed_Recipients=address).recipients
    assert one.verdict is not None
    assert (one.address, one.code, one.verdict.bounce_class) == (address, 552, BounceClass.MAILBOX_FULL)


BANNERS = [
    "This email has come from the internet and has been scanned for all viruses",
    "Scanned by the mail gateway and found virus-free",
    "This message is confidential and intended solely for the addressee. Rejected content is blocked.",
    "Please consider the environment before printing this quota exceeded notice",
]


@pytest.mark.parametrize("banner", BANNERS)
@pytest.mark.parametrize("rule", ["", "_" * 60 + "\n", "-" * 30 + "\n", "* * * * * * * * * * * *\n"])
@pytest.mark.parametrize(
    ("status", "hard"), [("5.1.1", True), ("5.1.10", True), ("5.2.2", False), ("4.4.7", False)]
)
def test_banner_never_outranks_the_status(banner: str, rule: str, status: str, hard: bool) -> None:
    raw = (
        f'{HEAD}Content-Type: multipart/report; report-type=delivery-status; boundary="B"\n\n--B\n\n'
        f"Delivery to the following recipients failed.\n\n       ana@example.com\n\n\n{rule}{banner}\n--B\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n"
        f"Final-Recipient: rfc822; ana@example.com\nAction: failed\nStatus: {status}\n\n--B--\n"
    )
    (one,) = parse_report(raw.encode()).recipients
    assert one.verdict is not None
    assert (one.verdict.hard, one.verdict.bounce_class is BounceClass.CONTENT) == (hard, False)


@pytest.mark.parametrize("subject", ["RE: Newsletter", "My new address", "Hello", ""])
@pytest.mark.parametrize(
    "text",
    [
        "Please note that my email address has changed to ana.new@example.com\n",
        "My new email address: ana.new@example.com. The old mailbox does not exist any more.\n",
        "I moved to ana.new@example.com, user unknown otherwise :-)\n",
    ],
)
def test_person_without_from_is_no_mail_system(subject: str, text: str) -> None:
    raw = f"To: News <us@sender.example>\nSubject: {subject}\n\nDear all\n\n{text}"
    report = parse_report(raw.encode())
    assert (report.kind, report.recipients) == (ReportKind.ORDINARY, ())


def test_report_without_from_is_still_read() -> None:
    raw = "Return-Path: <>\nSubject: Undeliverable\n\n<ana@example.com>: 550 5.1.1 User unknown\n"
    assert found(parse_report(raw.encode())) == [("ana@example.com", True)]
