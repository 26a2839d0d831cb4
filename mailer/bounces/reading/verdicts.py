"""The verdict on one recipient of a report: which of its texts to believe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from msgspec.structs import replace

from mailer.bounces.reading.dsn import Facts, status_in
from mailer.bounces.reading.prose import FOOTER, command_in
from mailer.replies import FAULT, POLICY, BounceClass, ReplyClass, Verdict, VerdictBasis, judge
from mailer.replies.judge import shown_text

# A pattern that begins with a set of characters, or all of whose alternatives begin with a fixed one, lets
# `re` skip to the next of them.
_CODE_AND_STATUS: Final = re.compile(
    r"([45](?<![\d.][45])\d\d)[ \t:,-]{1,3}[#<'(\[]{0,2}([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)"
)
_CODE: Final = re.compile(r"([45](?<![\d.,:/#\[=+-][45])\d\d)(?=[ \t:<'-]|$)(?!-\d{2})")
# Amazon SES puts its own reading of the reply before the reply.
_SES_PREFIX: Final = re.compile(r"^[ \t]*[245]\.\d\.\d{1,3} - [^'\n]{1,80}?([245]\d\d)-'")
_COURTESY: Final = re.compile(
    r"this is (?:the|an automatically|a mime)|i'm (?:sorry|afraid)|for further assistance"
    r"|please include this"
    r"|delete your own text|original message was received|addresses? had (?:permanent|transient)"
    r"|the mail system"
    r"|one or more (?:of its )?recipients|to the following recipients?|following (?:recipients?|address)"
    r"|recipients? failed"
    r"|this is a permanent error|created automatically|auto(?:matically|matic)? generated|do not reply"
    r"|transcript of"
    r"|technical (?:details|report)|delivery status notification|warning message only|do not need to resend"
    r"|please check recipient|learn more|contact|mime.format|undeliverable message"
    rf"|{FOOTER}",
)
# KDDI names the cause before it quotes "user unknown".
_ACCOUNT: Final = re.compile(r"The user\(s\) account is [^\n]{4,60}")
_REPLY_END: Final = re.compile(r"\n(?![ \t]|[45]\d\d)|\n[ \t]*\n| <<< | >>> ")
# The reporting system looked up the recipient itself, which happens before DATA.
_LOOKUP: Final = re.compile(
    r"\bin (?:(?:the|our|its) )?(?:[\w-]{1,20} ){0,3}(?:table|database|directory|user ?list|maps?)\b",
    re.IGNORECASE,
)
_EXCERPT: Final = 500
_MAY_BE_HARD: Final = frozenset(
    {BounceClass.INVALID_MAILBOX, BounceClass.INVALID_DOMAIN, BounceClass.MOVED, BounceClass.UNDETERMINED}
)
_WEAK: Final = frozenset({"", "5.0.0", "4.0.0", "5.1.0", "5.5.0", "5.3.0"})


def judge_facts(facts: Facts, notice: str, *, delayed: bool, alone: bool) -> Verdict:
    """Return the verdict on one recipient; unlike `judge`, never a hard one for a closed account.

    A report may be about an address to which the mail was forwarded, so it takes two such reports to
    suppress the subscriber.
    """
    verdict = _believed(facts, notice, delayed=delayed, alone=alone)
    if verdict.hard and POLICY[verdict.bounce_class or BounceClass.UNDETERMINED].hard is False:
        return replace(verdict, hard=False, reply_class=ReplyClass.PERMANENT)
    return verdict


def _believed(facts: Facts, notice: str, *, delayed: bool, alone: bool) -> Verdict:
    """Return the verdict on the first text whose words have a meaning, or else on the status.

    The diagnostic code comes first, then the words beside the address and in the transcript. The whole
    notice comes last, if it is about this recipient `alone` and the reported status says too little.
    """
    delayed = delayed or facts.action == "delayed"
    near = _texts_about(facts, notice if alone else "")
    command = _command(facts, near, notice if alone else "")
    found = _strongest(
        (
            _judge_text(text, facts, command_in(text) or command, delayed)
            for said in near
            for text in _readings(said)
        ),
        besides=BounceClass.EXPIRED if delayed else None,
    )
    if alone and not _is_telling(found, facts, delayed=delayed):
        found = _judge_notice(notice, facts, command, delayed, known=found)
    if delayed and not _is_telling(found, facts, delayed=True):
        code = found.code if found else None
        return judge(code, "4.4.7", "delivery has been delayed", provider=_provider(facts))
    return found or _judge_text("", facts, command, delayed)


def _texts_about(facts: Facts, notice: str) -> list[str]:
    """Return the texts about one recipient, most trustworthy first."""
    texts = [text for text in (facts.diagnostic, *facts.more) if text.strip()]
    account = _ACCOUNT.search(notice)
    return [account[0], *texts] if account else texts


def _command(facts: Facts, near: Iterable[str], notice: str) -> str:
    """Return the SMTP command that was refused, or an empty string if no text names one."""
    commands = (facts.command, *map(command_in, near), command_in(notice))
    return next(filter(None, commands), "")


def _judge_notice(
    notice: str, facts: Facts, command: str, delayed: bool, *, known: Verdict | None
) -> Verdict | None:
    """Return the verdict on a whole notice, or the `known` one if that is stronger."""
    texts = _readings(_without_courtesies(notice))
    further = (_judge_text(text, facts, command, delayed) for text in texts)
    before = [known] if known and known.basis is not VerdictBasis.TEXT else []
    return _strongest(chain(before, further), besides=None) or known


def _strongest(verdicts: Iterable[Verdict], *, besides: BounceClass | None) -> Verdict | None:
    """Return the first verdict based on words, else the first based on a status, else the first.

    Words that only mean `besides` are as weak as a status.
    """
    best: Verdict | None = None
    for verdict in verdicts:
        if verdict.basis is VerdictBasis.TEXT and (besides is None or verdict.bounce_class is not besides):
            return verdict
        if best is None or (best.basis is VerdictBasis.NOTHING and verdict.basis is VerdictBasis.STATUS):
            best = verdict
    return best


def _is_telling(verdict: Verdict | None, facts: Facts, *, delayed: bool) -> bool:
    """Return whether a verdict says enough. For a delayed message, "expired" does not."""
    if verdict is not None and verdict.basis is VerdictBasis.TEXT:
        return not (delayed and verdict.bounce_class is BounceClass.EXPIRED)
    status = verdict.enhanced if verdict else ""
    return not delayed and (facts.status not in _WEAK or status not in _WEAK)


def judge_with_cause(
    code: int | None,
    status: str,
    text: str,
    *,
    cause: BounceClass | None,
    permanent: bool | None = None,
    certain: bool = False,
    provider: str = "",
) -> Verdict:
    """Return the verdict on a reply that an email provider passes on.

    The words of the reply come first. If they have no meaning, `cause` decides: the class that the
    provider's own reason stands for. Without a cause, the provider's opinion that the failure is
    `permanent` counts. `certain` means that `cause` alone decides, whatever the reply says.
    """
    verdict = judge(code, status, text, provider=provider)
    says_nothing = verdict.basis is VerdictBasis.NOTHING or not (code or status)
    if verdict.basis is VerdictBasis.TEXT and not certain:
        cause = None
    temporary = (code is not None and 400 <= code < 500) or status.startswith("4")
    if cause is not None:
        if POLICY[cause].hard and permanent is not False and not temporary:
            return hard_verdict(text, verdict, cause)
        return replace(
            verdict, reply_class=ReplyClass.PERMANENT, bounce_class=cause, hard=False, again=False,
            retry_after_seconds=None, fault=FAULT[cause],
        )  # fmt: skip
    if permanent and says_nothing and verdict.bounce_class in _MAY_BE_HARD:
        return hard_verdict(f"{provider} calls it permanent: {verdict.text}", verdict)
    return verdict


def hard_verdict(
    text: str, verdict: Verdict | None = None, bounce_class: BounceClass = BounceClass.INVALID_MAILBOX
) -> Verdict:
    """Return a hard bounce with this text, with code and status of the given verdict."""
    return replace(
        verdict or judge(None, "", ""),
        reply_class=ReplyClass.HARD,
        bounce_class=bounce_class,
        hard=True,
        again=False,
        retry_after_seconds=None,
        text=shown_text(text),
        fault=FAULT[bounce_class],
    )


def code_and_status(text: str) -> tuple[int | None, str]:
    """Return the SMTP code and RFC 3463 status that a text quotes, preferring two that are adjacent."""
    text = text[:4096]
    if found := _CODE_AND_STATUS.search(text):
        return int(found[1]), found[2]
    found = _CODE.search(text)
    return (int(found[1]) if found else None), status_in(text)


def _without_courtesies(notice: str) -> str:
    """Return a notice without its polite standard sentences; lines that quote a reply are kept."""
    lines = notice.split("\n")
    return "\n".join(
        " " if _COURTESY.search(line.lower()) and not _CODE.search(line) else line for line in lines
    )


def _provider(facts: Facts) -> str:
    """Return the hosts that may have refused: the named one and the recipient's domain."""
    return f"{facts.remote} {facts.address.rpartition('@')[2]}"


def _readings(text: str) -> Iterator[str]:
    """Yield the reply that a text quotes, if any, and then the whole text."""
    text = _SES_PREFIX.sub(r"\1 ", text).replace("ERROR_CODE :", "")
    found = _CODE_AND_STATUS.search(text) or _CODE.search(text)
    if found and found.start() > 0:
        excerpt = _REPLY_END.split(text[found.start() : found.start() + _EXCERPT], maxsplit=1)[0]
        yield excerpt.partition("]")[0] if text[found.start() - 1] == "[" else excerpt
    yield text


def _judge_text(text: str, facts: Facts, command: str, delayed: bool) -> Verdict:
    code, status = code_and_status(text)
    status = _better(status, facts.status)
    if code is None and not status:
        status = "4.0.0" if delayed else "5.0.0"
    if code is None and not command and _LOOKUP.search(text):
        command = "RCPT"
    return judge(code, status, text, provider=_provider(facts), command=command)


def _better(quoted: str, reported: str) -> str:
    """Return the more specific status: the remote system's, unless that is a bare `5.0.0`."""
    if not quoted or (quoted.endswith(".0.0") and reported):
        return reported or quoted
    return quoted
