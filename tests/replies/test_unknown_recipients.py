"""The recipient does not exist: hard in answer to RCPT, also when something of ours is quoted beside it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.replies import Fault, judge

US = "news@letters.example.org"
HOST = "mail.letters.example.org"
IP = "192.0.2.25"
READER = "reader@example.com"

WORDINGS = (
    f"<{READER}>: Recipient address rejected: User unknown in virtual mailbox table",
    f"<{READER}>: Recipient address rejected: User unknown in local recipient table",
    f"<{READER}>: Recipient address rejected: No such user",
    f"<{READER}>... User unknown",
    "No such user here",
    f"No such user: {READER}",
    f"Unknown user {READER}",
    "The email account that you tried to reach does not exist.",
    f"<{READER}>: user does not exist",
    f"Mailbox {READER} does not exist",
    "mailbox not found",
    f"Recipient {READER} not found",
    "Recipient does not exist",
    "Recipient unknown",
    "Invalid recipient",
    "sorry, no mailbox here by that name. (#5.1.1)",
    "Addressee unknown",
    "Not our customer",
    "This account does not exist",
    f"{READER} does not exist",
    f"Address {READER} does not exist",
    "Bad destination mailbox address",
    "recipient is not exist",
    f"{READER} is not a valid mailbox",
    "Domain example.com does not exist",
    "Host or domain name not found",
    "Requested action not taken: mailbox unavailable",
)
QUOTED = (
    "{0}",
    "{0} (from <" + US + ">)",
    "{0} (sender <" + US + ">)",
    "{0} (mail from <" + US + ">, helo " + HOST + ")",
    "{0} [client " + IP + "]",
    "{0}; from=<" + US + "> to=<" + READER + "> proto=ESMTP helo=<" + HOST + ">",
    "{0}, sender <" + US + ">",
    "{0}. Sender: " + US,
    "{0}; envelope-from <" + US + ">",
    "{0}. Your IP: " + IP,
    "{0}, your IP " + IP,
    "{0} from " + US + " [" + IP + "]",
    "{0} - " + IP,
    "[" + IP + "] {0}",
    "message from <" + US + "> refused: {0}",
    "Message from " + IP + " rejected: {0}",
    "Your message from " + US + " could not be delivered: {0}",
    "{0} (in reply to RCPT TO command)",
)


@settings(deadline=None, max_examples=600)
@given(
    st.sampled_from(WORDINGS),
    st.sampled_from(QUOTED),
    st.sampled_from((550, 551, 553, 554)),
    st.sampled_from(("", "5.0.0", "5.1.0", "5.1.1", "5.5.0", "5.7.1")),
)
def test_unknown_recipient_is_hard_whatever_is_quoted_beside_it(
    wording: str, quoted: str, code: int, status: str
) -> None:
    verdict = judge(code, status, quoted.format(wording))
    assert (verdict.hard, verdict.fault) == (True, Fault.RECIPIENT)


@pytest.mark.parametrize("wording", WORDINGS)
def test_unknown_recipient_is_tried_again_after_a_temporary_reply(wording: str) -> None:
    verdict = judge(450, "4.1.1", wording)
    assert (verdict.hard, verdict.again) == (False, True)


@pytest.mark.parametrize("wording", WORDINGS[:6])
def test_lmtp_answers_for_each_recipient_after_the_body(wording: str) -> None:
    assert judge(550, "5.1.1", wording, command="LMTP").hard
