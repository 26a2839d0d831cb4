"""Automatic mail that is no bounce, told from bounces."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from mailer.bounces.reading.report import ReportKind, parse_report
from mailer.replies import BounceClass


def mail(subject: str, text: str, **fields: str) -> bytes:
    """Return a mail as bytes; keyword `Return_Path` becomes the field `Return-Path`."""
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = fields.pop("From", "Reader <reader@example.com>")
    message["To"] = "b.aeaqcaimkg2x3yz7abcdefghijklmnop@bounce.example.org"
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message.as_bytes()


AUTO_REPLIES = {
    "English": (
        "Automatic reply: Issue 7",
        "I am away until Monday. If it is urgent, write to bob@example.com.",
    ),
    "German": (
        "Automatische Antwort: Ausgabe 7",
        "Ich bin bis Montag nicht im Büro. Vertretung: bob@example.com.",
    ),
    "French": ("Réponse automatique : numéro 7", "Je suis absent jusqu'à lundi. Écrivez à bob@example.com."),
    "Spanish": ("Respuesta automática: número 7", "Estaré fuera hasta el lunes. Escriba a bob@example.com."),
    "Italian": (
        "Risposta automatica: numero 7",
        "Sono fuori ufficio fino a lunedì. Scrivete a bob@example.com.",
    ),
    "Portuguese": (
        "Resposta automática: número 7",
        "Estou de férias até segunda. Escreva para bob@example.com.",
    ),
    "Dutch": ("Automatisch antwoord: nummer 7", "Ik ben afwezig tot maandag. Mail naar bob@example.com."),
    "Swedish": ("Autosvar: nummer 7", "Jag är frånvarande till måndag. Skriv till bob@example.com."),
    "Polish": ("Automatyczna odpowiedź: numer 7", "Jestem na urlopie do poniedziałku: bob@example.com."),
    "Russian": ("Автоответ: выпуск 7", "Я в отпуске до понедельника. Пишите на bob@example.com."),
    "Japanese": ("自動応答: 第7号", "月曜日まで不在です。急ぎの場合は bob@example.com へ。"),
    "Chinese": ("自动回复: 第7期", "我休假到星期一。急事请联系 bob@example.com。"),
}


@pytest.mark.parametrize("language", AUTO_REPLIES)
def test_absence_note_is_an_auto_reply(language: str) -> None:
    subject, text = AUTO_REPLIES[language]
    assert parse_report(mail(subject, text, Return_Path="<>")).kind is ReportKind.AUTO_REPLY


SYSTEMS = {
    "Exchange": {
        "X_MS_Exchange_Generated_Message_Source": "Mailbox Rules Agent",
        "Auto_Submitted": "auto-generated",
    },
    "Gmail": {"Auto_Submitted": "auto-replied", "X_Autoreply": "yes", "Precedence": "bulk"},
    "Zimbra": {"Auto_Submitted": "auto-replied (zimbra; vacation)", "Precedence": "bulk"},
    "Lotus Notes": {"X_Notes_OutOfOffice": "1", "Auto_Submitted": "auto-generated"},
    "vacation(1)": {"Auto_Submitted": "auto-replied", "Precedence": "junk"},
    "Sieve": {"Auto_Submitted": "auto-replied (vacation)"},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_answer_marked_by_its_headers_is_an_auto_reply(system: str) -> None:
    raw = mail("Re: Issue 7", "Not reachable this week. Your mail was not forwarded.", **SYSTEMS[system])
    assert parse_report(raw).kind is ReportKind.AUTO_REPLY


CHALLENGES = {
    "Boxbe": (
        "Boxbe <notifications@boxbe.com>",
        "Your message to reader@example.com is on the Boxbe Waiting List.",
    ),
    "guest list": (
        "reader@example.com",
        "You are not yet on the Guest List of reader@example.com; please prove it.",
    ),
    "prove": (
        "filter@example.com",
        "Your message has been held until you confirm; please prove you are human.",
    ),
    "Spam Arrest": ("reader@example.com", "reader@example.com uses SpamArrest; click the link to be let in."),
    "TMDA": ("reader@example.com", "This address is protected by TMDA; reply to this mail once."),
}


@pytest.mark.parametrize("system", CHALLENGES)
def test_challenge_is_no_bounce(system: str) -> None:
    sender, text = CHALLENGES[system]
    report = parse_report(mail("Issue 7", text, From=sender, Return_Path="<>"))
    assert report.kind is ReportKind.CHALLENGE
    assert not report.recipients


def dsn(notice: str, *groups: str, subject: str = "Delivery Status Notification", sender: str = "") -> bytes:
    """Return a delivery report with one status group for each argument."""
    status = "\r\n\r\n".join(("Reporting-MTA: dns; mx.example.net", *groups))
    return (
        f"From: {sender or 'MAILER-DAEMON@mx.example.net'}\r\nTo: <b.x@bounce.example.org>\r\n"
        f"Subject: {subject}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="q"\r\n\r\n'
        f"--q\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{notice}\r\n"
        f"--q\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n\r\n"
        "--q\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1@news.example.org>\r\n"
        "To: reader@example.com\r\n\r\n--q--\r\n"
    ).encode()


FAILED = "Final-Recipient: rfc822; reader@example.com\r\nAction: failed\r\nStatus: 5.1.1"


def test_challenge_written_as_failed_delivery_is_no_bounce() -> None:
    raw = dsn("Your message is waiting. Verify that you are a real person: Boxbe.", FAILED)
    assert parse_report(raw).kind is ReportKind.CHALLENGE


def test_delayed_is_no_failure_and_soft() -> None:
    raw = dsn(
        "Still trying.", "Final-Recipient: rfc822; reader@example.com\r\nAction: delayed\r\nStatus: 4.4.1"
    )
    report = parse_report(raw)
    assert report.kind is ReportKind.DELAYED
    (one,) = report.recipients
    assert one.verdict is not None
    assert not one.verdict.hard
    assert one.verdict.again


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded"])
def test_success_has_no_verdict(action: str) -> None:
    raw = dsn("Arrived.", f"Final-Recipient: rfc822; reader@example.com\r\nAction: {action}\r\nStatus: 2.0.0")
    report = parse_report(raw)
    assert report.kind is ReportKind.DELIVERED
    assert [one.verdict for one in report.recipients] == [None]


def test_report_on_several_recipients_judges_each() -> None:
    other = "Final-Recipient: rfc822; full@example.com\r\nAction: failed\r\nStatus: 5.2.2"
    verdicts = [one.verdict for one in parse_report(dsn("Not delivered.", FAILED, other)).recipients]
    assert [(verdict.bounce_class, verdict.hard) for verdict in verdicts if verdict] == [
        (BounceClass.INVALID_MAILBOX, True),
        (BounceClass.MAILBOX_FULL, False),
    ]


ORDINARY = {
    "question": ("Question on issue 7", "Is the price of 550 euros right? Please answer to me@example.com."),
    "forwarded bounce": (
        "Re: Undelivered Mail Returned to Sender",
        "> <x@example.com>: 550 5.1.1 user unknown\nWhy?",
    ),
    "complaint in prose": (
        "Mail rejected?",
        "My friend bob@example.com says your mail was rejected: quota. Why?",
    ),
    "empty": ("", ""),
    "receipt": (
        "Your order 4711",
        "It could not be delivered to the address you gave. Write to shop@example.com.",
    ),
    "newsletter": ("Weekly news", "The mailbox is full of surprises. Send tips to tips@example.com."),
}


@pytest.mark.parametrize("what", ORDINARY)
def test_ordinary_mail_is_never_a_bounce(what: str) -> None:
    subject, text = ORDINARY[what]
    report = parse_report(mail(subject, text, Return_Path="<reader@example.com>"))
    assert report.kind is ReportKind.ORDINARY
    assert not report.recipients


def feedback(kind: str) -> bytes:
    """Return a feedback report (RFC 5965) of one type."""
    return (
        "From: fbl@provider.example\r\nTo: abuse@example.org\r\nSubject: Feedback\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="q"\r\n\r\n'
        "--q\r\nContent-Type: text/plain\r\n\r\nA report.\r\n"
        f"--q\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\nVersion: 1\r\n"
        "Original-Rcpt-To: <reader@example.com>\r\n\r\n"
        "--q\r\nContent-Type: message/rfc822\r\n\r\n"
        "Return-Path: <b.aeaqcaimkg2x3yz7abcdefghijklmnop@bounce.example.org>\r\n"
        "Message-ID: <1@news.example.org>\r\nTo: reader@example.com\r\n\r\nHello\r\n--q--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("abuse", ReportKind.COMPLAINT),
        ("fraud", ReportKind.COMPLAINT),
        ("opt-out", ReportKind.OPT_OUT),
        ("auth-failure", ReportKind.ARF_OTHER),
        ("not-spam", ReportKind.ARF_OTHER),
        ("dmarc", ReportKind.ARF_OTHER),
        ("", ReportKind.ARF_OTHER),
    ],
)
def test_feedback_is_a_complaint_only_for_abuse_and_fraud(kind: str, expected: ReportKind) -> None:
    report = parse_report(feedback(kind))
    assert report.kind is expected
    assert report.feedback_type == kind
    assert [one.address for one in report.recipients] == ["reader@example.com"]
    assert report.envelope_tokens == ("aeaqcaimkg2x3yz7abcdefghijklmnop",)
    assert report.message_id == "1@news.example.org"


def test_ses_notification_by_mail_is_read() -> None:
    text = (
        '{"notificationType":"Bounce","bounce":{"bounceType":"Permanent","bouncedRecipients":[{"emailAddress":'
        '"reader@example.com","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 user unknown"}]},'
        '"mail":{"messageId":"0101"}}'
    )
    report = parse_report(mail("AWS Notification Message", text, From="no-reply@sns.example.com"))
    (one,) = report.recipients
    assert (report.kind, report.message_id, one.address) == (ReportKind.BOUNCE, "0101", "reader@example.com")
    assert one.verdict is not None
    assert one.verdict.hard


def test_reported_closed_account_is_not_immediately_hard() -> None:
    group = (
        "Final-Recipient: rfc822; reader@gmail.com\r\nAction: failed\r\nStatus: 5.2.1\r\n"
        "Diagnostic-Code: smtp; 550 5.2.1 The email account that you tried to reach is disabled"
    )
    (one,) = parse_report(dsn("Failed.", group)).recipients
    assert one.verdict is not None
    assert (one.verdict.bounce_class, one.verdict.hard) == (BounceClass.MAILBOX_DISABLED, False)
