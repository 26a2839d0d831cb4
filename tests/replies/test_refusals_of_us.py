"""What is refused is ours: such a reply comes for every recipient, so it never counts against one of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.replies import BounceClass, Fault, ReplyClass, judge

US = "news@letters.example.org"
DOMAIN = "letters.example.org"
HOST = "mail.letters.example.org"
IP = "192.0.2.25"
READER = "reader@example.com"

STATUSES = (
    "",
    "5.0.0",
    "5.1.0",
    "5.1.1",
    "5.1.2",
    "5.1.3",
    "5.1.6",
    "5.1.7",
    "5.1.8",
    "5.1.10",
    "5.2.1",
    "5.4.1",
    "5.4.4",
    "5.4.310",
    "5.5.0",
    "5.7.1",
    "5.7.17",
    "5.7.18",
    "5.7.27",
    "5.7.504",
)
COMMANDS = ("CONN", "EHLO", "HELO", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "")
CODES = (501, 550, 551, 552, 553, 554, 556)

OURS = (
    "sender",
    "sender address",
    f"sender <{US}>",
    "the sender's domain",
    f"sender domain {DOMAIN}",
    "sender mailbox",
    "sender account",
    f"envelope sender <{US}>",
    f"return-path <{US}>",
    f"reverse-path <{US}>",
    "MAIL FROM address",
    f"MAIL FROM domain {DOMAIN}",
    "from domain",
    "sending domain",
    f"sending address {US}",
    "sending host",
    f"HELO {HOST}",
    "HELO name",
    "EHLO domain",
    "HELO host",
    "your domain",
    f"your domain {DOMAIN}",
    "your address",
    f"your email address {US}",
    "your account",
    "your mailbox",
    "your SMTP account",
    f"your host {HOST}",
    "your server",
    f"your IP {IP}",
    f"client host [{IP}]",
    f"connecting host {IP}",
    "SPF record",
    "DKIM key",
    f"DMARC record of {DOMAIN}",
    "originator",
    "SASL user",
    "authenticated user",
)
REFUSALS = (
    "does not exist",
    "doesn't exist",
    "not found",
    "was not found",
    "is unknown",
    "unknown",
    "is invalid",
    "is not valid",
    "rejected",
    "is blocked",
    "has been suspended",
    "is disabled",
    "has been deleted",
    "is no longer valid",
    "does not accept mail",
    "does not resolve",
    "has no MX record",
    "could not be found",
    "cannot be verified",
    "verification failed: no such user",
    "verification failed: mailbox unavailable",
    "rejected: Domain not found",
    "rejected: User unknown",
    "rejected: host not found",
    "is not a valid user",
)

# As real servers word it.
WORDINGS = (
    f"<{US}>: Sender address rejected: Domain not found",
    f"<{US}>: Sender address rejected: User unknown in virtual mailbox table",
    f"<{US}>: Sender address rejected: undeliverable address: host mx.example.org[{IP}] said: 550 5.1.1 "
    f"<{US}>: Recipient address rejected: User unknown (in reply to RCPT TO command)",
    f"<{US}>: Sender address rejected: Domain {DOMAIN} does not accept mail (nullMX)",
    f"<{US}>: Sender address rejected: not owned by user {US}",
    f"Domain of sender address {US} does not resolve",
    f"Domain {DOMAIN} in MAIL FROM does not exist",
    "The sender's domain has a null MX record",
    f"MAIL FROM domain {DOMAIN} has null MX",
    f"Envelope-sender <{US}>: mailbox unavailable",
    f"The sender address <{US}> is not a valid RFC 5321 address.",
    "Sender verify failed",
    f"Verification failed for <{US}> 550-No Such User Here 550 Sender verify failed",
    f"Callback setup failed while verifying <{US}>",
    f"Called: {IP} Sent: RCPT TO:<{US}> Response: 550 5.1.1 User unknown; Sender verify failed",
    f"<{HOST}>: Helo command rejected: Host not found",
    f"HELO/EHLO argument {HOST} invalid: host unknown",
    "Your account has been suspended",
    "Your account is disabled",
    "Your account has been blocked",
    f'Outgoing mail from "{US}" has been suspended',
    f"SPF: {DOMAIN} does not designate {IP} as permitted sender",
    "No DMARC record; domain does not exist",
    f"Client host rejected: cannot find your hostname, [{IP}]",
    f"Unknown client host {IP}",
    f"Reverse DNS for {IP} does not exist",
    f"Hostname {HOST} not found for {IP}",
    f"<{US}>: unauthorized sender",
    "From: Domain is invalid. Please provide a valid From: IB506",
    "mail address invalid",
    "Requested action not taken: mailbox unavailable invalid DNS MX or A/AAAA resource record",
    "Requested action not taken: mailbox unavailable. Failure sending mail. Try again later",
    "This message is suspicious. To best protect our users from spam, the message has been blocked.",
    f"Email address is not verified. The following identities failed the check: {US}",
    "recipient rejects sender: sender unknown",
    "Sender Policy Framework: no such domain",
    "Policy rejection: MAIL FROM user does not exist",
    "The account you are sending from does not exist",
    "You are sending from an unknown domain",
    f"We tried to verify {US} and got: 550 user unknown",
    f"The return address {US} is invalid",
    "Reply address does not exist",
    f"From: header domain {DOMAIN} does not exist",
    "Authentication failed: user unknown",
    "Login denied: unknown user",
    "relay account does not exist",
    f"Domain {DOMAIN} not configured for sending",
    f"identity not found: {DOMAIN}",
    "Connection from unknown host rejected",
    "Your MX record does not exist",
    "HELO resolves to non-existent host",
    "domain in MAIL FROM does not accept mail",
    "the sender's server does not accept mail",
    "Absenderadresse existiert nicht",
    "Die Absender-Domain ist unbekannt",
    "Ihr Konto ist gesperrt",
    "Ihre Adresse existiert nicht",
    "Adresse de l'expéditeur inconnue",
    "Votre compte n'existe pas",
    "El remitente no existe",
    "Il mittente non esiste",
    "Remetente não existe",
    "Afzender bestaat niet",
    "Nadawca nie istnieje",
    "Отправитель не существует",
    "发件人地址不存在",
    "送信者のアドレスが見つかりません",
)


@pytest.mark.parametrize("text", WORDINGS)
def test_refusal_of_us_is_never_hard_and_is_recognised(text: str) -> None:
    for status in STATUSES:
        for command in COMMANDS:
            for code in CODES:
                verdict = judge(code, status, text, command=command)
                assert not verdict.hard, (code, status, command, verdict)
    assert judge(550, "", text).fault in (Fault.OURS, Fault.MESSAGE)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(OURS),
    st.sampled_from(REFUSALS),
    st.sampled_from(
        (
            "{0} {1}",
            "{0}: {1}",
            "<" + READER + ">: {0} {1}",
            "Access denied: {0} {1}",
            "{0} {1} (#5.1.1)",
            "5.7.1 {0} {1}. See https://example.net/?ip=192.0.2.25",
        )
    ),
    st.sampled_from(CODES),
    st.sampled_from(STATUSES),
    st.sampled_from(COMMANDS),
)
def test_whatever_of_ours_is_refused_no_mailbox_is_condemned(
    thing: str, refusal: str, form: str, code: int, status: str, command: str
) -> None:
    assert not judge(code, status, form.format(thing, refusal), command=command).hard


NOT_OF_A_RECIPIENT = [command for command in COMMANDS if command not in ("RCPT", "DATA", "BODY", "")]


@pytest.mark.parametrize("command", NOT_OF_A_RECIPIENT)
@pytest.mark.parametrize(
    "text", ["user unknown", "mailbox not found", "domain does not exist", "", "null MX"]
)
@pytest.mark.parametrize("status", STATUSES)
def test_answer_to_mail_or_before_it_condemns_no_mailbox(command: str, text: str, status: str) -> None:
    assert not judge(550, status, text, command=command).hard


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "text", ["user unknown", "no such recipient", "domain does not exist", "", "null MX"]
)
def test_answer_after_the_body_is_a_filters(text: str, status: str) -> None:
    assert not judge(550, status, text, command="BODY").hard


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        (
            "delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]",
            "mta5.am0.yahoodns.net",
        ),
        ("1 Requested mail action aborted, mailbox not found", "mta5.am0.yahoodns.net"),
        (
            "Message was not accepted -- invalid mailbox. Local mailbox x@mail.ru is unavailable: user not "
            "found",
            "",
        ),
        (
            "The recipient may contain a non-existent account, please check the recipient address.",
            "mx3.qq.com",
        ),
        ("5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", ""),
        ("Adresse destinataire invalide. Invalid recipient. LPN007_416", "smtpz4.laposte.net"),
    ],
)
def test_providers_known_to_look_recipients_up_after_the_body_are_believed(text: str, provider: str) -> None:
    assert judge(552, "", text, provider=provider, command="BODY").hard


@pytest.mark.parametrize(
    ("status", "text"),
    [(f"5.{detail}", "user unknown") for detail in ("1.7", "1.8", "7.20", "7.23", "7.25", "7.26", "7.27")],
)
def test_status_that_the_registry_gives_to_the_sender_wins_over_the_text(status: str, text: str) -> None:
    verdict = judge(550, status, text)
    assert (verdict.hard, verdict.fault) == (False, Fault.OURS)


PAUSING = {
    "not owned by user": (553, "5.7.1", f"<{US}>: Sender address rejected: not owned by user {US}"),
    "relay": (554, "5.7.1", f"<{READER}>: Relay access denied"),
    "relaying": (550, "", f"relaying denied for <{READER}>"),
    "SES identity": (
        554,
        "",
        "Message rejected: Email address is not verified. The following identities failed",
    ),
    "SendAsDenied": (554, "5.2.252", "SendAsDenied; not allowed to send as this sender"),
    "SendAsDenied by an exception": (
        554,
        "5.2.0",
        "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process",
    ),
    "outbound blocked": (550, "5.7.1", "Account disabled: outbound mail for this user is blocked"),
    "no permission": (550, "5.7.60", "SMTP; Client does not have permissions to send as this sender"),
    "sender verify": (550, "", f"Verification failed for <{US}> Sender verify failed"),
    "outgoing suspended": (550, "", f'Outgoing mail from "{US}" has been suspended.'),
    "account": (550, "", "Your account has been suspended"),
    "login": (550, "", "smtp auth required"),
    "IONOS": (550, "", "Sender address is not allowed."),
}


@pytest.mark.parametrize("command", ["RCPT", "BODY"])
@pytest.mark.parametrize("what", PAUSING)
def test_our_own_fault_pauses_wherever_the_relay_tells_of_it(what: str, command: str) -> None:
    code, status, text = PAUSING[what]
    verdict = judge(code, status, text, command=command)
    assert (verdict.reply_class, verdict.fault) == (ReplyClass.CONFIG, Fault.OURS)


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (454, "", "Throttling failure: Daily message quota exceeded"),
        (454, "4.7.0", "Throttling failure: Maximum sending rate exceeded."),
        (550, "5.4.5", "Daily SMTP relay limit exceeded for user."),
        (550, "5.4.5", "Daily user sending limit exceeded."),
        (
            550,
            "5.1.90",
            "Your message can't be sent because you've reached your daily limit for message recipients",
        ),
        (554, "5.2.2", "Submission quota exceeded"),
    ],
)
def test_quota_of_our_account_is_no_full_mailbox(code: int, status: str, text: str) -> None:
    verdict = judge(code, status, text)
    assert (verdict.reply_class, verdict.bounce_class) == (ReplyClass.RATE, BounceClass.RATE_LIMITED)
    assert verdict.fault is Fault.OURS
