"""The judge, row by row of what receivers say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.replies import POLICY, BounceClass, Fault, Refusal, ReplyClass, Verdict, VerdictBasis, judge
from mailer.replies.judge import _Found, _Reply, shown_text
from mailer.replies.verdict import BouncePolicy

R = ReplyClass

ROWS: list[tuple[ReplyClass, int, str, str, str]] = [
    (R.HARD, 550, "5.1.1", "The email account that you tried to reach does not exist.", "google"),
    (R.HARD, 550, "5.2.1", "The email account that you tried to reach is inactive. DisabledUser", "google"),
    (R.HARD, 552, "5.2.2", "The recipient's inbox is out of storage and inactive.", "google"),
    (
        R.HARD,
        554,
        "",
        "delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]",
        "yahoo",
    ),
    (R.HARD, 552, "", "1 Requested mail action aborted, mailbox not found", "yahoo"),
    (R.HARD, 554, "", "delivery error: dd This mailbox is disabled (554.30).", "yahoo"),
    (R.HARD, 550, "5.5.0", "Requested action not taken: mailbox unavailable (S2017062302).", "outlook"),
    (R.HARD, 550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281)", "outlook"),
    (R.HARD, 550, "5.1.1", "<x@icloud.com>: inactive email address", "icloud"),
    (R.HARD, 553, "5.1.2", "We weren't able to find the recipient domain.", "google"),
    (R.HARD, 556, "5.1.10", "Domain does not accept mail (nullMX)", ""),
    (R.HARD, 553, "5.1.3", "The recipient address is not a valid RFC 5321 address.", "google"),
    (
        R.RATE,
        550,
        "5.2.1",
        "The user you are trying to contact is receiving mail at a rate that prevents",
        "google",
    ),
    (R.RATE, 450, "4.2.1", "The user you are trying to contact is receiving mail too quickly.", "google"),
    (R.FULL, 452, "4.2.2", "The recipient's inbox is out of storage space.", "google"),
    (R.FULL, 552, "5.2.2", "mailbox over quota", ""),
    (R.FULL, 552, "5.1.1", "Recipient overquota OFR_417", "orange"),
    (R.FULL, 552, "5.2.2", "<x@icloud.com>: user is over quota", "icloud"),
    (R.RATE, 421, "4.7.28", "detected an unusual rate of unsolicited mail from your IP address.", "google"),
    (
        R.RATE,
        421,
        "4.7.0",
        "[TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
        "yahoo",
    ),
    (R.RATE, 451, "4.7.650", "The mail server [192.0.2.1] has been temporarily rate limited", "outlook"),
    (R.RATE, 451, "4.7.500", "Server busy. Please try again later", "outlook"),
    (R.RATE, 451, "4.7.699", "Server busy", "outlook"),
    (R.RATE, 421, "4.7.0", "excessive volume from your address", "icloud"),
    (
        R.RATE,
        421,
        "",
        "Trop de connexions, veuillez verifier votre configuration. Too many connections",
        "orange",
    ),
    (
        R.REPUTATION,
        421,
        "4.7.28",
        "unusual rate of mail originating from your DKIM domain [example.org]",
        "google",
    ),
    (
        R.REPUTATION,
        421,
        "4.7.28",
        "unusual rate of mail originating from your SPF domain [example.org]",
        "google",
    ),
    (R.REPUTATION, 421, "4.7.28", "an unusual rate of mail containing your URL domain", "google"),
    (R.REPUTATION, 550, "5.7.1", "very low reputation of the sending domain", "google"),
    (R.REPUTATION, 550, "5.7.1", "messages from [192.0.2.1] weren't sent ... block list (S3140)", "outlook"),
    (R.REPUTATION, 550, "5.7.1", "part of their network is on our block list (S3150)", "outlook"),
    (R.REPUTATION, 550, "5.7.606", "Access denied, banned sending IP [192.0.2.1]", "outlook"),
    (R.REPUTATION, 550, "5.7.649", "Access denied, banned sending IP [192.0.2.1]", "outlook"),
    (R.REPUTATION, 550, "5.7.511", "Access denied, banned sender[192.0.2.1]", "outlook"),
    (R.REPUTATION, 553, "5.7.1", "[TSS07] Messages from 192.0.2.1 will be permanently deferred", "yahoo"),
    (R.REPUTATION, 553, "5.7.1", "[BL21] Connections will not be accepted", "yahoo"),
    (R.REPUTATION, 554, "5.7.1", "Service unavailable; client blocked using zen.spamhaus.org", ""),
    (R.AUTH, 421, "4.7.26", "Your email has been blocked because the sender is unauthenticated.", "google"),
    (R.AUTH, 550, "5.7.26", "Unauthenticated email from example.org is not accepted", "google"),
    (R.AUTH, 550, "5.7.27", "SPF did not pass", "google"),
    (R.AUTH, 421, "4.7.30", "DKIM did not pass", "google"),
    (R.AUTH, 550, "5.7.31", "rate limited, no DMARC policy", "google"),
    (R.AUTH, 550, "5.7.40", "DMARC missing", "google"),
    (R.AUTH, 421, "4.7.32", "From: header isn't aligned", "google"),
    (R.AUTH, 421, "5.7.32", "From: header isn't aligned", "google"),
    (R.AUTH, 550, "5.7.509", "Access denied, sending domain does not pass DMARC verification", "outlook"),
    (R.AUTH, 550, "5.7.515", "Access denied, sending domain doesn't meet the required level", "outlook"),
    (R.AUTH, 554, "5.7.9", "Message not accepted for policy reasons.", "yahoo"),
    (R.CONFIG, 451, "4.7.23", "The sending IP does not have a PTR record", "google"),
    (R.CONFIG, 550, "5.7.25", "The IP address sending this message does not have a PTR record", "google"),
    (R.CONFIG, 421, "4.7.29", "This message wasn't sent over a TLS connection", "google"),
    (R.CONFIG, 421, "4.7.28", "unusual rate of mail with the same Message-ID", "google"),
    (R.CONFIG, 550, "5.7.1", "Messages with duplicate headers are not accepted: duplicate header", "google"),
    (R.CONFIG, 550, "5.7.1", "Messages missing a valid Message-ID header are not accepted.", "google"),
    (R.CONFIG, 550, "5.7.1", "Encoded-word syntax is not permitted in this header", "google"),
    (R.CONFIG, 552, "5.3.4", "Your message exceeded Google's message size limits", "google"),
    (R.CONFIG, 451, "4.1.8", "Domain of sender address a@example.org does not resolve", ""),
    (R.CONFIG, 530, "5.7.0", "Authentication Required", ""),
    (R.CONFIG, 535, "5.7.8", "Username and Password not accepted", ""),
    (R.SPAM, 550, "5.7.1", "Our system has detected that this message is likely unsolicited mail.", "google"),
    (R.SPAM, 554, "5.7.9", "Message not accepted for policy reasons. [PH01]", "yahoo"),
    (R.SPAM, 554, "", "blocked using dbl.spamhaus.org", ""),
    (R.SPAM, 554, "", "Blacklisted URL in message, see lookup.uribl.com", ""),
    (R.GREY, 451, "4.7.1", "Greylisting in action, please come back later", ""),
    (R.GREY, 451, "", "Internal resources are temporarily unavailable", "mimecast"),
]


@pytest.mark.parametrize(("expected", "code", "status", "text", "provider"), ROWS)
def test_reply_is_read_as_the_provider_means_it(
    expected: ReplyClass, code: int, status: str, text: str, provider: str
) -> None:
    assert judge(code, status, text, provider=provider).reply_class is expected


@settings(deadline=None)
@given(st.integers(400, 499), st.sampled_from(ROWS))
def test_temporary_reply_is_never_hard_and_is_tried_again(
    code: int, row: tuple[ReplyClass, int, str, str, str]
) -> None:
    verdict = judge(code, row[2].replace("5.", "4.", 1), row[3], provider=row[4])
    assert not verdict.hard
    assert verdict.again


def test_lost_connection_is_not_accepted() -> None:
    verdict = judge(None, "", "connection lost")
    assert verdict.reply_class is not ReplyClass.ACCEPTED
    assert verdict.again


@settings(deadline=None)
@given(st.integers(200, 299), st.text())
def test_positive_reply_is_accepted(code: int, text: str) -> None:
    verdict = judge(code, "2.0.0", text)
    assert verdict.reply_class is ReplyClass.ACCEPTED
    assert verdict.bounce_class is None


@settings(deadline=None)
@given(st.one_of(st.none(), st.integers(0, 999)), st.text(), st.text(), st.text())
def test_any_reply_has_a_verdict_with_safe_text(
    code: int | None, status: str, text: str, provider: str
) -> None:
    verdict = judge(code, status, text, provider=provider)
    assert len(verdict.text) <= 512
    assert all(c.isprintable() for c in verdict.text)


def test_every_bounce_class_has_a_policy() -> None:
    assert set(BounceClass) == set(POLICY)
    assert {name.value: policy.weight for name, policy in POLICY.items() if policy.weight} == {
        "mailbox_disabled": 1.0,
        "mailbox_full": 1.0,
        "filtered": 1.0,
        "expired": 1.0,
        "network": 0.5,
        "policy_reject": 0.25,
        "undetermined": 0.5,
    }
    own_rules = {
        name.value: (policy.suppress_at, policy.within_days, policy.over_days)
        for name, policy in POLICY.items()
        if policy.suppress_at or policy.within_days or policy.over_days
    }
    assert own_rules == {"mailbox_disabled": (2, 14, None), "mailbox_full": (5, None, 14)}
    alerts = {name.value: policy.alert.value for name, policy in POLICY.items()}
    assert {name: alert for name, alert in alerts.items() if alert != "nobody"} == {
        "moved": "moved",
        "rate_limited": "throttle",
        "reputation_block": "provider",
        "auth_failure": "pause_issue",
        "policy_reject": "spike",
        "content": "issue",
        "message_too_large": "issue",
        "protocol": "issue",
    }


@pytest.mark.parametrize(
    ("expected", "code", "status", "text"),
    [
        (300.0, 451, "4.7.1", "Greylisted, please try again in 300 seconds"),
        (300.0, 450, "", "Greylisted, try again after 5 minutes"),
        (7200.0, 421, "4.7.0", "[TSS04] Messages from 192.0.2.1 temporarily deferred"),
        (3600.0, 421, "4.7.28", "an unusual rate of mail from your IP address"),
        (86_400.0, 452, "4.2.2", "mailbox full"),
        (600.0, 451, "", "Greylisting enabled"),
        (None, 451, "4.3.0", "Temporary problem"),
        (None, 550, "5.1.1", "user unknown; try again in 5 minutes"),
    ],
)
def test_wait_is_what_the_reply_or_the_provider_asks_for(
    expected: float | None, code: int, status: str, text: str
) -> None:
    assert judge(code, status, text).retry_after_seconds == expected


C = BounceClass


@pytest.mark.parametrize(
    ("expected", "code", "status", "text"),
    [
        (C.INVALID_MAILBOX, 550, "5.1.1", "<a@example.com>... User unknown"),
        (C.INVALID_DOMAIN, 550, "5.1.2", "Host unknown (name server said: host not found)"),
        (C.MOVED, 551, "5.1.6", "The user has moved"),
        (C.MAILBOX_DISABLED, 550, "", "This account has been suspended"),
        (C.MAILBOX_FULL, 552, "5.2.2", "Mailbox size limit exceeded"),
        (C.FILTERED, 550, "5.2.0", "Message filtered"),
        (C.EXPIRED, None, "4.4.7", "retry timeout exceeded"),
        (C.NETWORK, 554, "5.4.6", "Too many hops"),
        (C.TRANSIENT_SYSTEM, 451, "4.3.0", "queue file write error"),
        (C.RATE_LIMITED, 452, "4.5.3", "Too many recipients"),
        (
            C.REPUTATION_BLOCK,
            554,
            "5.7.1",
            "Client host blocked using bl.example.org: your IP has a bad reputation",
        ),
        (C.AUTH_FAILURE, 550, "5.7.1", "rejected by the DMARC policy of example.org"),
        (C.POLICY_REJECT, 554, "5.7.1", "Relay access denied"),
        (C.CONTENT, 554, "5.7.1", "The message contains a virus"),
        (C.MESSAGE_TOO_LARGE, 552, "5.3.4", "Message size exceeds fixed limit"),
        (C.PROTOCOL, 503, "5.5.1", "Bad sequence of commands"),
        (C.UNDETERMINED, 550, "", "No."),
    ],
)
def test_refusal_is_put_in_its_class(expected: BounceClass, code: int | None, status: str, text: str) -> None:
    assert judge(code, status, text).bounce_class is expected


def test_unknown_user_after_data_comes_from_a_filter() -> None:
    assert judge(550, "", "no such user").hard
    verdict = judge(550, "", "no such user", command="DATA")
    assert (verdict.bounce_class, verdict.hard) == (BounceClass.FILTERED, False)


def test_unknown_domain_in_answer_to_mail_speaks_of_the_sender() -> None:
    verdict = judge(550, "5.1.8", "domain example.org does not exist", command="MAIL")
    assert (verdict.bounce_class, verdict.hard) == (BounceClass.POLICY_REJECT, False)


def test_control_characters_are_escaped_and_long_text_is_cut() -> None:
    assert judge(550, "", "no\x1b[31m\x00way").text == "no\\x1b[31m\\x00way"
    assert len(judge(550, "", "x" * 5000).text) == 512


def test_only_hard_classes_suppress_and_our_own_faults_weigh_nothing() -> None:
    assert {c for c in BounceClass if POLICY[c].hard} == {C.INVALID_MAILBOX, C.INVALID_DOMAIN, C.MOVED}
    for ours in (
        C.AUTH_FAILURE,
        C.REPUTATION_BLOCK,
        C.RATE_LIMITED,
        C.PROTOCOL,
        C.MESSAGE_TOO_LARGE,
        C.CONTENT,
    ):
        assert POLICY[ours].weight == 0.0
    assert (POLICY[C.NETWORK].weight, POLICY[C.UNDETERMINED].weight, POLICY[C.POLICY_REJECT].weight) == (
        0.5,
        0.5,
        0.25,
    )


def test_refusal_of_us_that_only_the_status_tells_says_so() -> None:
    for enhanced in ("5.0.0", "5.1.0"):
        verdicts = [judge(550, enhanced, "No.", command=command) for command in ("MAIL", "CONN")]
        assert [(one.bounce_class, one.basis) for one in verdicts] == [
            (BounceClass.POLICY_REJECT, VerdictBasis.STATUS),
            (BounceClass.REPUTATION_BLOCK, VerdictBasis.STATUS),
        ]


def test_syntax_error_at_the_recipient_need_not_be_ours_and_at_the_sender_is() -> None:
    replies = [(501, "5.5.4", "RCPT"), (451, "4.5.4", "RCPT"), (501, "5.5.4", "MAIL")]
    verdicts = [
        judge(code, enhanced, "Syntax error in parameters", command=command)
        for code, enhanced, command in replies
    ]
    assert [(one.fault, one.reply_class) for one in verdicts] == [
        (Fault.UNKNOWN, ReplyClass.PERMANENT),
        (Fault.UNKNOWN, ReplyClass.CONFIG),
        (Fault.OURS, ReplyClass.CONFIG),
    ]


@pytest.mark.parametrize(("days", "waited"), [(6, 6), (8, 7), (30, 7)])
def test_nobody_is_waited_for_longer_than_a_week(days: int, waited: int) -> None:
    asked = judge(451, "4.7.0", f"try again in {days * 24} hours")
    assert asked.retry_after_seconds == waited * 86_400


@pytest.mark.parametrize(("code", "meaning"), [(507, BounceClass.PROTOCOL), (508, BounceClass.UNDETERMINED)])
def test_bare_code_below_ten_is_about_the_protocol(code: int, meaning: BounceClass) -> None:
    # RFC 5321 section 4.2.1: the second digit 0 is for syntax.
    assert judge(code, "", "").bounce_class is meaning


def test_full_mailbox_is_no_refusal_of_us_because_something_of_ours_is_mentioned() -> None:
    said = judge(550, "5.2.2", "your IP address: mailbox is full")
    assert (said.bounce_class, said.fault) == (BounceClass.MAILBOX_FULL, Fault.RECIPIENT)


@pytest.mark.parametrize(
    ("code", "status", "expected", "meaning"),
    [
        (200, "", R.ACCEPTED, None),
        (399, "", R.ACCEPTED, None),
        (400, "", R.CONFIG, BounceClass.PROTOCOL),
        (499, "", R.TEMPORARY, BounceClass.UNDETERMINED),
        (500, "", R.PERMANENT, BounceClass.PROTOCOL),
        (499, "4.2.9", R.TEMPORARY, BounceClass.FILTERED),
        (500, "5.2.9", R.PERMANENT, BounceClass.FILTERED),
        (499, "4.7.1", R.REPUTATION, BounceClass.REPUTATION_BLOCK),
        (500, "5.7.1", R.PERMANENT, BounceClass.POLICY_REJECT),
    ],
)
def test_hundreds_of_codes_begin_and_end_where_the_standard_says(
    code: int, status: str, expected: ReplyClass, meaning: BounceClass | None
) -> None:
    said = judge(code, status, "as it is")
    assert (said.reply_class, said.bounce_class, said.again) == (expected, meaning, 400 <= code < 500)
    assert said.hard is False


@pytest.mark.parametrize(
    ("code", "status", "text", "command", "meaning", "basis", "fault"),
    [
        # Two things are said: about somebody of theirs, and about us, the message or the system.
        (550, "5.1.1", "user unknown: out of memory", "", C.INVALID_MAILBOX, "text", "recipient"),
        (550, "5.5.0", "user unknown: out of memory", "", C.FILTERED, "text", "recipient"),
        (550, "5.1.1", "mail from <us@example.org>: user unknown: access denied", "RCPT",
         C.INVALID_MAILBOX, "text", "recipient"),
        (550, "5.1.1", "sender <us@example.org>: access denied; user unknown", "RCPT",
         C.POLICY_REJECT, "text", "ours"),
        (550, "5.1.2", "domain not found: unauthorized sender", "RCPT", C.POLICY_REJECT, "text", "ours"),
        (550, "5.1.2", "domain not found: dns mx invalid", "RCPT", C.INVALID_DOMAIN, "text", "recipient"),
        (550, "5.5.0", "host does not accept mail: bad HELO", "RCPT", C.REPUTATION_BLOCK, "text", "ours"),
        (550, "5.1.10", "example.net does not exist: unable to resolve route", "RCPT",
         C.POLICY_REJECT, "text", "ours"),
        (552, "5.1.6", "access denied; mailbox is full", "BODY", C.MAILBOX_FULL, "text", "recipient"),
        # A status about the sender counts, whatever the text says about the recipient; not about the rest.
        (550, "5.7.23", "user unknown", "RCPT", C.POLICY_REJECT, "text", "ours"),
        (550, "5.7.23", "mailbox over quota", "RCPT", C.POLICY_REJECT, "text", "ours"),
        (550, "5.7.23", "over quota: message size exceeds limit", "", C.MESSAGE_TOO_LARGE, "text", "message"),
        (550, "5.7.23", "", "MAIL", C.AUTH_FAILURE, "status", "ours"),
        (553, "5.1.8", "", "MAIL", C.POLICY_REJECT, "status", "ours"),
        # The status says more than the words.
        (550, "5.1.6", "no such user here", "RCPT", C.MOVED, "text", "recipient"),
        (550, "5.1.1", "mx.example.org does not exist: user unknown", "RCPT",
         C.INVALID_DOMAIN, "text", "recipient"),
        # In another language.
        (550, "5.7.1", "Absender abgelehnt", "RCPT", C.POLICY_REJECT, "text", "ours"),
        (550, "5.7.1", "Absender abgelehnt", "DATA", C.POLICY_REJECT, "text", "ours"),
        (550, "5.1.1", "Benutzer unbekannt", "DATA", C.INVALID_MAILBOX, "text", "recipient"),
        (550, "", "Benutzer unbekannt", "DATA", C.FILTERED, "text", "recipient"),
        (550, "5.2.2", "Postfach voll", "DATA", C.MAILBOX_FULL, "text", "recipient"),
        # A status or a code alone.
        (550, "5.1.1", "", "BODY", C.FILTERED, "status", "recipient"),
        (550, "5.2.2", "recipient address rejected", "DATA", C.MAILBOX_FULL, "status", "recipient"),
        (552, "", "", "RCPT", C.MAILBOX_FULL, "status", "recipient"),
        (553, "", "", "RCPT", C.UNDETERMINED, "nothing", "unknown"),
        (452, "", "", "", C.MAILBOX_FULL, "status", "recipient"),
        (453, "", "", "", C.UNDETERMINED, "nothing", "unknown"),
        (552, "", "", "MAIL", C.POLICY_REJECT, "status", "ours"),
        (552, "", "", "CONN", C.REPUTATION_BLOCK, "status", "ours"),
        (None, "5.0.0", "", "CONN", C.REPUTATION_BLOCK, "status", "ours"),
        (None, "5.0.0", "", "RCPT", C.UNDETERMINED, "nothing", "unknown"),
    ],
)  # fmt: skip
def test_of_several_meanings_one_counts(
    code: int | None, status: str, text: str, command: str, meaning: BounceClass, basis: str, fault: str
) -> None:
    said = judge(code, status, text, command=command)
    assert (said.bounce_class, said.basis, said.fault) == (meaning, basis, fault)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("5.7.20", R.AUTH), ("5.7.23", R.AUTH), ("5.7.27", R.AUTH), ("5.1.7", R.CONFIG), ("5.7.25", R.CONFIG)],
)
def test_status_about_the_sender_pauses_the_issue(status: str, expected: ReplyClass) -> None:
    said = judge(550, status, "as it is")
    assert (said.reply_class, said.hard, said.again) == (expected, False, True)


@pytest.mark.parametrize(
    ("provider", "text", "hard"),
    [
        ("mx.au.com", "<ana@au.com>: user unknown", True),
        ("mx.au.com", "user unknown", False),
        ("mx.example.org", "<ana@example.org>: user unknown", False),
    ],
)
def test_provider_that_names_the_address_after_the_body_has_looked_it_up(
    provider: str, text: str, hard: bool
) -> None:
    assert judge(550, "", text, provider=provider, command="BODY").hard is hard


def test_only_the_first_thousands_of_characters_are_shown() -> None:
    assert shown_text("a" + " " * 2046 + "bc") == "a b"


@pytest.mark.parametrize("kind", [BouncePolicy, Refusal, Verdict, _Found, _Reply])
def test_meaning_of_a_reply_never_changes(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
