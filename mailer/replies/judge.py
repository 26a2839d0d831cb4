"""A reply's code, status and text to a `Verdict`, by the tables of `families`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from mailer.replies.families import FAMILIES, STATUS, SUBJECT, Family
from mailer.replies.languages import read_foreign
from mailer.replies.rows import DAY, ROWS, Row
from mailer.replies.verdict import Basis, BounceClass, ReplyClass, Verdict

TEXT_LIMIT: Final = 512
_GAP: Final = 60
# What is looked at; the rest of a longer text says nothing new and would cost time.
_LOOKED_AT: Final = 2048

_HARD_CLASSES: Final = frozenset({BounceClass.INVALID_MAILBOX, BounceClass.INVALID_DOMAIN, BounceClass.MOVED})
_SOUGHT: Final = tuple(
    (
        family,
        tuple(phrase for phrase in family.phrases if "*" not in phrase),
        tuple((phrase.partition("*")[0], phrase) for phrase in family.phrases if "*" in phrase),
    )
    for family in FAMILIES
)
_BEFORE_MAIL: Final = frozenset({"CONN", "EHLO", "HELO"})
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
_REPLY_CLASS: Final = {
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
"""Where a class alone says what to do; for the others the first digit does."""

_TEMPORARY_STATUS: Final = {"7.1": BounceClass.REPUTATION_BLOCK, "2.1": BounceClass.REPUTATION_BLOCK}
_RETRY_AFTER: Final = {ReplyClass.FULL: DAY, ReplyClass.GREY: 600.0}
_WAIT: Final = re.compile(
    r"(?:try(?:ing)?|retry|resend|come back|wait|greylist\w*|deferred|again)\b[^.;]{0,40}?\b(?:in|after"
    r"|for|within|least|wait)?"
    r"\s(\d{1,6})\s?(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?|hrs?)\b"
)
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_STATUS_FORM: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
# `550-5.1.1` and `550 5.1.1` at the start of each line of a reply repeat what is known.
_LINE_PREFIX: Final = re.compile(r"(?<![\w.])[245]\d\d-(?:[245]\.\d{1,3}\.\d{1,3} ?)?")
_ADDRESS: Final = re.compile(r"<?[^\s<>@\"'(),;:]{1,128}@[\w.-]{1,255}>?")
_URL: Final = re.compile(r"https?://([\w.-]{1,255})[^\s]*")
_NO_SUCH_HOST: Final = re.compile(r"(?<![@\w>.-])[a-z0-9-]{1,63}(?:\.[a-z0-9-]{2,63}){1,5} does not exist")
_BLANKS: Final = re.compile(r"\s+")


def judge(
    code: int | None, enhanced: str, text: str, *, provider: str = "", command: str = "RCPT"
) -> Verdict:
    """Return what a reply, or the status and text of a report, means and asks for.

    `code` is None where a report names none; `enhanced` may then say `5.0.0` or `4.0.0`. `provider` is
    a name such as `yahoo` or a host name. `command` is what was answered: `RCPT`, `DATA`, `MAIL`,
    `EHLO`, `CONN`, or empty if unknown; "no such user" in answer to DATA comes from a filter, and
    "does not exist" in answer to MAIL speaks of the sender.
    """
    enhanced = enhanced if _STATUS_FORM.fullmatch(enhanced) else ""
    if code is not None and 200 <= code < 400:
        return Verdict(ReplyClass.ACCEPTED, None, False, False, None, code, enhanced, shown_text(text))
    found = _classify(code, enhanced, _plain(text), provider.lower(), command.upper())
    temporary = (code is not None and 400 <= code < 500) or enhanced.startswith("4")
    permanent = not temporary and (code is not None or enhanced.startswith("5"))
    reply_class, hard = _decide(found, permanent, code)
    again = reply_class in _AGAIN or temporary
    retry = None
    if again:
        retry = _asked_for(_plain(text)) or found.retry_after_seconds or _RETRY_AFTER.get(reply_class)
    return Verdict(
        reply_class, found.bounce_class, hard, again, retry, code, enhanced, shown_text(text), found.basis
    )


def shown_text(text: str) -> str:
    """Return `text` as one line of at most 512 characters, with escapes for what cannot be printed."""
    line = _BLANKS.sub(" ", text[: 4 * TEXT_LIMIT]).strip(" ")
    if line.isprintable():
        return line[:TEXT_LIMIT]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    return escaped[:TEXT_LIMIT]


@dataclass(frozen=True, slots=True)
class _Found:
    bounce_class: BounceClass
    basis: Basis
    reply_class: ReplyClass | None = None
    retry_after_seconds: float | None = None


def _decide(found: _Found, permanent: bool, code: int | None) -> tuple[ReplyClass, bool]:
    """Return the reply class, and whether the address is to be suppressed: only ever by a 5yz."""
    reply_class = found.reply_class or _REPLY_CLASS.get(found.bounce_class)
    temporary_code = code is not None and code < 500
    if reply_class is ReplyClass.HARD:
        return (reply_class, True) if permanent else (ReplyClass.TEMPORARY, False)
    if reply_class is ReplyClass.SPAM and not permanent:
        return ReplyClass.TEMPORARY, False
    if reply_class is not None:
        return reply_class, False
    return (ReplyClass.PERMANENT if permanent and not temporary_code else ReplyClass.TEMPORARY), False


@lru_cache(maxsize=4096)
def _classify(code: int | None, enhanced: str, text: str, provider: str, command: str) -> _Found:
    detail = enhanced[2:]
    row = next((row for row in ROWS if _row_holds(row, code, detail, text, provider)), None)
    found = (
        _by_families(detail, text, command) or _by_grammar(text, command) or _by_status(code, detail, command)
    )
    if row is None:
        return found
    return _Found(
        row.bounce_class or found.bounce_class, Basis.TEXT, row.reply_class, row.retry_after_seconds
    )


def _row_holds(row: Row, code: int | None, detail: str, text: str, provider: str) -> bool:
    if row.codes and code not in row.codes:
        return False
    if row.status and not _status_within(detail, row.status):
        return False
    if row.provider and row.provider not in provider and row.provider not in text:
        return False
    return not row.phrases or any(_says(text, phrase) for phrase in row.phrases)


@lru_cache(maxsize=1024)
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


def _by_families(detail: str, text: str, command: str) -> _Found | None:
    family = _first_to_speak(text)
    if family is None:
        return None
    means = family.means
    if means is BounceClass.INVALID_MAILBOX and _NO_SUCH_HOST.search(text):
        means = BounceClass.INVALID_DOMAIN
    if command == "MAIL" and means in _HARD_CLASSES:
        means = BounceClass.POLICY_REJECT
    elif command in _BEFORE_MAIL and (means in _HARD_CLASSES or means is BounceClass.TRANSIENT_SYSTEM):
        means = BounceClass.REPUTATION_BLOCK
    elif means is BounceClass.INVALID_MAILBOX and detail == "1.6":
        means = BounceClass.MOVED
    elif family.remote_user and means is BounceClass.INVALID_MAILBOX and not _is_about_user(detail, command):
        means = BounceClass.FILTERED
    return _Found(means, Basis.TEXT)


def _by_grammar(text: str, command: str) -> _Found | None:
    means = read_foreign(text)
    if command == "MAIL" and means in _HARD_CLASSES:
        means = BounceClass.POLICY_REJECT
    return None if means is None else _Found(means, Basis.TEXT)


def _is_about_user(detail: str, command: str) -> bool:
    """Return whether "no such user" is to be believed: by its status or by its place."""
    return detail.startswith("1.") or command == "RCPT"


def _by_status(code: int | None, detail: str, command: str) -> _Found:
    means = _TEMPORARY_STATUS.get(detail) if code is not None and code < 500 else None
    means = means or STATUS.get(detail)
    if means is None and detail and not detail.endswith(".0"):
        means = SUBJECT.get(detail.partition(".")[0])
    elif means is None and detail[:1] in ("6", "7"):
        means = SUBJECT[detail[:1]]
    if means is not None:
        if command == "MAIL" and means in _HARD_CLASSES:
            means = BounceClass.POLICY_REJECT
        return _Found(means, Basis.STATUS)
    if command in _BEFORE_MAIL:
        return _Found(BounceClass.REPUTATION_BLOCK, Basis.STATUS)
    if code is not None and code % 100 < 8:
        return _Found(BounceClass.PROTOCOL, Basis.STATUS)
    if code in (552, 452):
        return _Found(BounceClass.MAILBOX_FULL, Basis.STATUS)
    return _Found(BounceClass.UNDETERMINED, Basis.NOTHING)


def _first_to_speak(text: str) -> Family | None:
    """Return the first family one of whose phrases stands in `text`. Written out: this is the hot loop."""
    for family, plain, gapped in _SOUGHT:
        for phrase in plain:
            if phrase in text:
                return family
        for first, phrase in gapped:
            if first in text and _says(text, phrase):
                return family
    return None


def _says(text: str, phrase: str) -> bool:
    """Return whether `text` contains `phrase`; parts around `*` stand in order and near each other."""
    if "*" not in phrase:
        return phrase in text
    first, *rest = phrase.split("*")
    start = text.find(first)
    while start >= 0:
        at = start + len(first)
        for part in rest:
            found = text.find(part, at, at + _GAP + len(part))
            if found < 0:
                break
            at = found + len(part)
        else:
            return True
        start = text.find(first, start + 1)
    return False


def _plain(text: str) -> str:
    """Return the words alone: addresses become `<>`, of a URL the host stays."""
    text = _LINE_PREFIX.sub(" ", text[:_LOOKED_AT].lower()).replace("\u2019", "'")
    if "@" in text:
        text = _ADDRESS.sub("<>", text)
    if "://" in text:
        text = _URL.sub(r" \1 ", text)
    return _BLANKS.sub(" ", text).strip()


def _asked_for(text: str) -> float | None:
    found = _WAIT.search(text)
    if not found:
        return None
    return min(float(found[1]) * _UNIT_SECONDS[found[2][0]], 7 * DAY)
