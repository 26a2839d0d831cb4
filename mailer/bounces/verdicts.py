"""What is known of one recipient to a `Verdict`: which of a report's texts to believe."""

from __future__ import annotations

import re
from typing import Final

from mailer.bounces.dsn import Facts, status_in
from mailer.bounces.prose import command_in
from mailer.replies import Basis, Verdict, judge

_CODE_AND_STATUS: Final = re.compile(
    r"(?<![\d.])([245]\d\d)[ \t-]{1,3}[#<'(\[]{0,2}([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)"
)
_CODE: Final = re.compile(r"(?<![\d.,:/#\[=+-])([45]\d\d)(?=[ \t:<'-]|$)(?!-\d{2})")
# Amazon SES puts its own reading of the reply before the reply.
_SES_PREFIX: Final = re.compile(r"^[ \t]*[245]\.\d\.\d{1,3} - [^'\n]{1,80}?([245]\d\d)-'")


def judge_facts(facts: Facts, notice: str, *, delayed: bool, alone: bool) -> Verdict:
    """Return the verdict on one recipient: the first text whose words say something, else the status.

    The diagnostic code is asked first, then what stands by the address or in the transcript, and the whole
    notification last, if it is about this recipient `alone`.
    """
    weak: Verdict | None = None
    texts = [facts.diagnostic, *facts.more]
    if alone:
        texts.append(notice)
    command = facts.command or next((found for text in texts if (found := command_in(text))), "")
    for text in texts:
        if not text.strip():
            continue
        verdict = _judge_text(text, facts, command_in(text) or command, delayed)
        if verdict.basis is Basis.TEXT:
            return verdict
        if weak is None or (weak.basis is Basis.NOTHING and verdict.basis is Basis.STATUS):
            weak = verdict
    if delayed or facts.action == "delayed":
        return judge(weak.code if weak else None, "4.4.7", "delivery has been delayed", provider=facts.remote)
    return weak or _judge_text("", facts, command, delayed)


def _judge_text(text: str, facts: Facts, command: str, delayed: bool) -> Verdict:
    text = _SES_PREFIX.sub(r"\1 ", text)
    code, status = code_and_status(text)
    status = _better(status, facts.status)
    if code is None and not status:
        status = "4.0.0" if delayed or facts.action == "delayed" else "5.0.0"
    return judge(code, status, text, provider=facts.remote, command=_command(command))


def code_and_status(text: str) -> tuple[int | None, str]:
    """Return the SMTP code and the RFC 3463 status that a text quotes; a pair that stands together first."""
    text = text[:4096]
    if found := _CODE_AND_STATUS.search(text):
        return int(found[1]), found[2]
    found = _CODE.search(text)
    return (int(found[1]) if found else None), status_in(text)


def _better(quoted: str, reported: str) -> str:
    """Return the more telling status: what the remote system said, unless that is a bare `5.0.0`."""
    if not quoted or (quoted.endswith(".0.0") and reported):
        return reported or quoted
    return quoted


def _command(command: str) -> str:
    return {
        "MAIL": "MAIL",
        "RCPT": "RCPT",
        "DATA": "DATA",
        "CONN": "CONN",
        "EHLO": "EHLO",
        "HELO": "HELO",
    }.get(command, "")
