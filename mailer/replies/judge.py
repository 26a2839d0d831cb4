"""Turning a reply's code, status and text into a `Verdict`.

The tables are searched in this order, and the first match counts:

1. statuses that the standards define as about the sender;
2. a provider's own codes and documented replies;
3. phrases: about our account and sender, then about the mailbox, then weaker ones;
4. languages other than English, by grammar;
5. the status, and last the code.

A match about the recipient is dropped if the text refuses something of ours (`ours`), or if the command
that was answered cannot be about a recipient. MAIL and everything before it never is, and a reply after the
body comes from a filter, unless the provider is known to look up recipients that late.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache, lru_cache
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from mailer.printable import escaped
from mailer.replies import about_messages, about_recipients, about_systems, about_us, languages, ours
from mailer.replies.codes import DAY, coded_rule
from mailer.replies.providers import PROVIDERS, SENDMAIL_NULL_MX
from mailer.replies.rules import Rule
from mailer.replies.statuses import SENDER, STATUS, SUBJECT, TEMPORARY
from mailer.replies.verdict import FAULT, BounceClass, Fault, ReplyClass, Verdict, VerdictBasis
from mailer.replies.words import ADDRESS, PhraseBook, Words, read_words

TEXT_LIMIT: Final = 512

RULES: Final[tuple[Rule, ...]] = (
    *PROVIDERS,
    about_us.ACCOUNT_QUOTA,
    about_us.ACCOUNT,
    about_us.LOGIN,
    about_us.HELO,
    about_us.CALLBACK,
    about_us.CALLOUT,
    about_us.AUTHENTICATION,
    about_us.SENDER_UNUSABLE,
    about_recipients.FULL,
    about_messages.TOO_LARGE,
    about_systems.LOCAL,
    about_recipients.DISABLED,
    about_recipients.MOVED,
    about_us.RELAY,
    about_systems.RATE,
    about_us.REVERSE_DNS,
    about_us.LISTED,
    about_us.SENDER_REFUSED,
    about_recipients.REFUSED_BY_PERSON,
    about_recipients.LOCAL_USER,
    about_recipients.NO_SUCH_USER,
    about_messages.SECURITY,
    about_recipients.UNKNOWN_DOMAIN,
    about_messages.CONTENT,
    about_us.REPUTATION,
    about_recipients.NOT_THERE,
    about_systems.EXPIRED,
    about_systems.NETWORK,
    about_systems.SYSTEM,
    about_systems.PROTOCOL,
)
"""From the most to the least specific. Some receivers add "user unknown" to everything, so rules about us and
about the state of the mailbox come before it."""

_WITHOUT_PHRASES: Final = tuple(rank for rank, rule in enumerate(RULES) if not rule.phrases)
_NAME_RECIPIENT: Final = frozenset(
    {RULES.index(about_recipients.NO_SUCH_USER), RULES.index(about_recipients.LOCAL_USER), len(RULES)}
)
_NO_SUCH_USER: Final = RULES.index(about_recipients.NO_SUCH_USER)
_SENDER_RULES: Final = (about_us.SENDER_UNUSABLE, about_us.SENDER_REFUSED)
_REFUSE_US: Final = frozenset(
    rank for rank, rule in enumerate(RULES) if rule.fault is Fault.OURS and rule.phrases
) - {RULES.index(about_us.LISTED), RULES.index(about_us.REPUTATION)}
_CHECK_US: Final = frozenset(
    RULES.index(rule)
    for rule in (about_us.LOGIN, about_us.CALLBACK, about_us.CALLOUT, about_us.AUTHENTICATION)
)
"""Nobody looks up a recipient before these checks have passed, whatever a provider's own status says."""
_SENDMAIL_NULL_MX: Final = RULES.index(SENDMAIL_NULL_MX)

_HARD: Final = frozenset({BounceClass.INVALID_MAILBOX, BounceClass.INVALID_DOMAIN, BounceClass.MOVED})
_ABOUT_RECIPIENT: Final = _HARD | {BounceClass.MAILBOX_DISABLED, BounceClass.MAILBOX_FULL}
_AGAIN: Final = frozenset(
    {
        ReplyClass.FULL,
        ReplyClass.RATE,
        ReplyClass.GREY,
        ReplyClass.AUTH,
        ReplyClass.CONFIG,
        ReplyClass.REPUTATION,
        ReplyClass.TEMPORARY,
    }
)
_ACTION: Final = {
    BounceClass.INVALID_MAILBOX: ReplyClass.HARD,
    BounceClass.INVALID_DOMAIN: ReplyClass.HARD,
    BounceClass.MOVED: ReplyClass.HARD,
    BounceClass.MAILBOX_FULL: ReplyClass.FULL,
    BounceClass.RATE_LIMITED: ReplyClass.RATE,
    BounceClass.REPUTATION_BLOCK: ReplyClass.REPUTATION,
    BounceClass.AUTH_FAILURE: ReplyClass.AUTH,
    BounceClass.CONTENT: ReplyClass.SPAM,
    BounceClass.MESSAGE_TOO_LARGE: ReplyClass.CONFIG,
    BounceClass.PROTOCOL: ReplyClass.CONFIG,
}
"""The action for a class; for the others the first digit decides."""
_RETRY_AFTER: Final = {ReplyClass.FULL: DAY, ReplyClass.GREY: 600.0}
_WAIT: Final = re.compile(
    r"(?:try(?:ing)?|retry|resend|come back|wait|greylist\w*|deferred|again)\b[^.;]{0,40}?\b(?:in|after"
    r"|for|within|least|wait)?"
    r"\s(\d{1,6})\s?(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?|hrs?)\b"
)
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_STATUS_FORM: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_NO_SUCH_HOST: Final = re.compile(r"(?<![@\w>.-])[a-z0-9-]{1,63}(?:\.[a-z0-9-]{2,63}){1,5} does not exist")


class _Asked(StrEnum):
    """The possible subject of the answered command."""

    US = "us"
    RECIPIENT = "recipient"
    DATA = "data"
    """Commands are pipelined, so a refused recipient may show up in the answer to DATA."""
    MESSAGE = "message"
    ANYTHING = "anything"
    """The command is not known."""


_BEFORE_MAIL: Final = frozenset({"CONN", "CONNECT", "EHLO", "HELO", "LHLO", "STARTTLS", "AUTH"})
_ASKED: Final = {
    **dict.fromkeys((*_BEFORE_MAIL, "MAIL"), _Asked.US),
    "RCPT": _Asked.RECIPIENT,
    # RFC 2033: one answer for each recipient, after the body.
    "LMTP": _Asked.RECIPIENT,
    "DATA": _Asked.DATA,
    **dict.fromkeys(("BODY", "BDAT", "."), _Asked.MESSAGE),
}


def judge(
    code: int | None, enhanced: str, text: str, *, provider: str = "", command: str = "RCPT"
) -> Verdict:
    """Return the meaning of a reply, or of the status and text of a report.

    `code` is None where a report names none; `enhanced` may then say `5.0.0` or `4.0.0`. `provider` names
    the host that replied, or several, separated by blanks: MX, banner, domain. `command` was answered:
    `CONN`, `EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA`, `BODY` (the final dot), `LMTP` (the final dot, for one
    recipient), or empty if unknown. A 4yz is never hard.
    """
    enhanced = enhanced if _STATUS_FORM.fullmatch(enhanced) else ""
    if code is not None and 200 <= code < 400:
        return Verdict(ReplyClass.ACCEPTED, None, False, False, None, code, enhanced, shown_text(text))
    words = read_words(text)
    found = _classify(code, enhanced, words, provider.lower(), command.upper())
    temporary = (code is not None and 400 <= code < 500) or enhanced.startswith("4")
    permanent = not temporary and (code is not None or enhanced.startswith("5"))
    if found.means is BounceClass.PROTOCOL and found.action is None and command.upper() == "RCPT":
        # One address that the server cannot parse says nothing about our configuration.
        found = replace(found, fault=Fault.UNKNOWN, action=None if temporary else ReplyClass.PERMANENT)
    reply_class, hard = _decide(found, permanent, code)
    again = reply_class in _AGAIN or temporary
    retry = None
    if again:
        retry = _asked_for(words.raw) or found.retry_after_seconds or _RETRY_AFTER.get(reply_class)
    return Verdict(
        reply_class, found.means, hard, again, retry, code, enhanced, shown_text(text), found.basis,
        found.fault or FAULT[found.means],
    )  # fmt: skip


def shown_text(text: str) -> str:
    """Return `text` as one line of at most 512 characters, with unprintable ones escaped."""
    line = " ".join(text[: 4 * TEXT_LIMIT].split())
    return escaped(line)[:TEXT_LIMIT]


class _Found(Struct, frozen=True):
    means: BounceClass
    basis: VerdictBasis
    action: ReplyClass | None = None
    retry_after_seconds: float | None = None
    fault: Fault | None = None


_US: Final = _Found(BounceClass.POLICY_REJECT, VerdictBasis.TEXT, fault=Fault.OURS)
_NOT_WELCOME: Final = _Found(BounceClass.REPUTATION_BLOCK, VerdictBasis.TEXT)


def _decide(found: _Found, permanent: bool, code: int | None) -> tuple[ReplyClass, bool]:
    """Return the reply class, and whether to suppress the address; only a 5yz can."""
    action = found.action or _ACTION.get(found.means)
    temporary_code = code is not None and code < 500
    if action is ReplyClass.HARD:
        return (action, True) if permanent else (ReplyClass.TEMPORARY, False)
    if action is ReplyClass.SPAM and not permanent:
        return ReplyClass.TEMPORARY, False
    if action is not None:
        return action, False
    return (ReplyClass.PERMANENT if permanent and not temporary_code else ReplyClass.TEMPORARY), False


class _Reply(Struct, frozen=True):
    code: int | None
    detail: str
    """The status without its first digit."""
    words: Words
    provider: str
    command: str
    asked: _Asked
    ranks: frozenset[int]
    """The rules with a phrase that occurs in the text."""

    def answers_us(self) -> bool:
        """Return whether the command or the status shows that this is about us, not about a recipient."""
        return self.asked is _Asked.US or (self.detail in SENDER and _SENDMAIL_NULL_MX not in self.ranks)

    def refuses_us(self) -> bool:
        """Return whether the command, the status or the text shows that this is about us."""
        if self.answers_us() or not self.ranks.isdisjoint(_CHECK_US):
            return True
        names_recipient = not self.ranks.isdisjoint(_NAME_RECIPIENT)
        if not names_recipient and not self.ranks.isdisjoint(_REFUSE_US):
            return True
        return ours.refuses_us(self.words, names_recipient=names_recipient) or languages.refuses_us(
            self.words.raw
        )

    def clearly_refuses_us(self) -> bool:
        """Like `refuses_us`, but a mere mention of something of ours does not count."""
        return self.answers_us() or ours.refuses_us(self.words, names_recipient=True)

    def is_a_filter(self) -> bool:
        """Return whether this comes from a filter, even if it mentions the recipient."""
        return self.asked is _Asked.MESSAGE or (
            self.asked is _Asked.DATA and not self.detail.startswith("1.")
        )

    @property
    def us(self) -> _Found:
        """The meaning of a refusal of us if no rule is more specific."""
        return _NOT_WELCOME if self.command in _BEFORE_MAIL else _US


def prepare() -> None:
    """Make the table of phrases now; otherwise the first call of `judge` takes some 20 ms longer."""
    _phrase_book()


@cache
def _phrase_book() -> PhraseBook:
    """Return the phrases of all rules, each with the rank of its rule."""
    # Made on use: most commands and most runs judge nothing.
    return PhraseBook(
        [
            *((rank, phrase) for rank, rule in enumerate(RULES) for phrase in rule.phrases),
            *((len(RULES), phrase) for phrase in about_recipients.NAMED),
        ]
    )


@lru_cache(maxsize=4096)
def _classify(code: int | None, enhanced: str, words: Words, provider: str, command: str) -> _Found:
    asked = _ASKED.get(command, _Asked.ANYTHING)
    ranks = frozenset(_phrase_book().ranks(words))
    reply = _Reply(code, enhanced[2:], words, provider, command, asked, ranks)
    found = _by_rules(reply) or _by_grammar(reply) or _by_status(reply)
    if reply.command in _BEFORE_MAIL and found.means is BounceClass.TRANSIENT_SYSTEM:
        return _NOT_WELCOME
    return found


def _by_rules(reply: _Reply) -> _Found | None:
    """Return the meaning of the first rule that holds; skip those about recipients if none can be meant."""
    coded = coded_rule(reply.words.raw)
    holding = [] if coded is None else [coded]
    holding += [RULES[rank] for rank in _candidates(reply) if _holds(RULES[rank], reply)]
    passed_over = False
    for rule in holding:
        if _is_about_recipient(rule):
            if not (passed_over or (reply.refuses_us() if _is_hard(rule) else reply.clearly_refuses_us())):
                return _as_asked(rule, reply)
            passed_over = True
        elif rule in _SENDER_RULES and _NO_SUCH_USER in reply.ranks and not reply.refuses_us():
            # `user unknown; sender <us@example.org>`: the phrase joined words of two clauses.
            continue
        elif not passed_over or (rule.fault or FAULT[rule.means]) in (Fault.OURS, Fault.MESSAGE):
            return _found(rule)
    return reply.us if passed_over else None


def _candidates(reply: _Reply) -> list[int]:
    return sorted((*(rank for rank in reply.ranks if rank < len(RULES)), *_WITHOUT_PHRASES))


def _is_about_recipient(rule: Rule) -> bool:
    return rule.means in _ABOUT_RECIPIENT or rule.action is ReplyClass.HARD


def _is_hard(rule: Rule) -> bool:
    return rule.means in _HARD or rule.action is ReplyClass.HARD


def _found(rule: Rule) -> _Found:
    return _Found(rule.means, VerdictBasis.TEXT, rule.action, rule.retry_after_seconds, rule.fault)


def _as_asked(rule: Rule, reply: _Reply) -> _Found:
    """Return the meaning of a rule about a recipient in reply to this command."""
    found = _found(rule)
    if _is_hard(rule) and reply.is_a_filter() and not rule.after_body:
        return _Found(BounceClass.FILTERED, VerdictBasis.TEXT)
    if rule.means is not BounceClass.INVALID_MAILBOX or rule.action is not None:
        return found
    if _NO_SUCH_HOST.search(reply.words.raw):
        return replace(found, means=BounceClass.INVALID_DOMAIN)
    if reply.detail == "1.6":
        return replace(found, means=BounceClass.MOVED)
    if rule.only_recipient and reply.asked is _Asked.ANYTHING and not reply.detail.startswith("1."):
        return _Found(BounceClass.FILTERED, VerdictBasis.TEXT)
    return found


def _holds(rule: Rule, reply: _Reply) -> bool:
    """Return whether the conditions of a rule hold, apart from its phrases."""
    if rule.codes and reply.code not in rule.codes:
        return False
    if rule.status and not _status_within(reply.detail, rule.status):
        return False
    if rule.names_address and ADDRESS not in reply.words.raw:
        return False
    return not rule.provider or rule.provider in reply.provider


@lru_cache(maxsize=4096)
def _status_within(detail: str, wanted: str) -> bool:
    first, _, last = wanted.partition("-")
    if not last:
        return detail == first
    if "." not in detail:
        return False
    return _pair(first) <= _pair(detail) <= _pair(last)


def _pair(detail: str) -> tuple[int, int]:
    subject, _, number = detail.partition(".")
    return int(subject), int(number)


def _by_grammar(reply: _Reply) -> _Found | None:
    means = languages.read_foreign(reply.words.raw)
    if means is None:
        return None
    if means in _HARD and reply.refuses_us():
        return reply.us
    if means in _HARD and reply.is_a_filter():
        return _Found(BounceClass.FILTERED, VerdictBasis.TEXT)
    return _Found(means, VerdictBasis.TEXT, fault=Fault.OURS if means is BounceClass.POLICY_REJECT else None)


def _by_status(reply: _Reply) -> _Found:
    code, detail = reply.code, reply.detail
    if (means := SENDER.get(detail)) is not None:
        action = ReplyClass.AUTH if means is BounceClass.AUTH_FAILURE else ReplyClass.CONFIG
        return _Found(means, VerdictBasis.STATUS, action, fault=Fault.OURS)
    means = TEMPORARY.get(detail) if code is not None and code < 500 else None
    means = means or STATUS.get(detail)
    subject = detail.partition(".")[0]
    if means is None and detail and (not detail.endswith(".0") or subject in ("6", "7")):
        means = SUBJECT.get(subject)
    if means is None or means is BounceClass.UNDETERMINED:
        if reply.code is None or not reply.refuses_us():
            return _by_code(reply)
        return replace(reply.us, basis=VerdictBasis.STATUS)
    if means in _HARD and reply.refuses_us():
        return replace(reply.us, basis=VerdictBasis.STATUS)
    if means in _HARD and reply.is_a_filter():
        means = BounceClass.FILTERED
    return _Found(means, VerdictBasis.STATUS)


def _by_code(reply: _Reply) -> _Found:
    code = reply.code
    if reply.command in _BEFORE_MAIL:
        return replace(_NOT_WELCOME, basis=VerdictBasis.STATUS)
    if code is not None and code % 100 < 8:
        return _Found(BounceClass.PROTOCOL, VerdictBasis.STATUS)
    if code in (552, 452) and reply.asked is not _Asked.US:
        return _Found(BounceClass.MAILBOX_FULL, VerdictBasis.STATUS)
    return _Found(BounceClass.UNDETERMINED, VerdictBasis.NOTHING)


def _asked_for(text: str) -> float | None:
    found = _WAIT.search(text)
    if not found:
        return None
    return min(float(found[1]) * _UNIT_SECONDS[found[2][0]], 7 * DAY)
