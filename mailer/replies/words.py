"""Reply texts as plain words, and a book of phrases that finds whole words in them.

A phrase is plain text: `mailbox is full`. A `*` between words matches up to 60 characters
(`mailbox*is full`); a `*` at the end matches any ending of the last word (`throttl*`). Phrases never match
inside a word: `user*locked` does not match "our users … blocked". Punctuation between words is ignored,
unless the phrase itself has a colon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

ADDRESS: Final = "<>"
IP: Final = "#"
"""The placeholders for an email address and an IP address in `Words.clauses`."""

# The reason is near the start of a text; the rest would only cost time.
_LOOKED_AT: Final = 2048
_GAP: Final = 60
_PREFIX_LENGTH: Final = 3

# A pattern that begins with a set of characters lets `re` skip to the next of them, so what may not come
# before is tested behind the first character.
# `550-5.1.1 ` at the start of each line of a reply repeats the code.
_LINE_PREFIX: Final = re.compile(r"[245](?<![\w.][245])\d\d-(?:[245]\.\d{1,3}\.\d{1,3} ?)?")
_ADDRESS: Final = re.compile(
    r"(?:<|(?<![^\s<>@\"'(),;:=\[\]]))[^\s<>@\"'(),;:=\[\]]{1,128}+@\[?[\w.-]{1,255}\]?>?"
)
# Google names the case in its link (`…/mail/?p=NoSuchUser`); of other links only the host says something.
_URL: Final = re.compile(r"https?://([\w.-]{1,255})([^\s]{0,255})")
_URL_CASE: Final = re.compile(r"[?&]p=(\w{1,40})")
_IP_FORM: Final = r"(?:ipv6:)?(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?:/\d{1,3})?"
# Chinese and Japanese put no blanks around it.
_IP: Final = re.compile(rf"\[{_IP_FORM}\]|(?<![a-z0-9_.:]){_IP_FORM}(?![a-z0-9_:]|\.\w)")
# Every IP address contains one of these, which are much faster to find.
_PART_OF_IP4: Final = re.compile(r"\.\d{1,3}\.\d")
_PART_OF_IP6: Final = re.compile(r":[0-9a-f]{0,4}:")
# `(from <us@example.org>, helo=<mail.example.org>, client 192.0.2.1)`: quoted, not refused.
_IN_BRACKETS: Final = re.compile(r"[(\[{]([^()\[\]{}]{1,200})[)\]}]")
_ASIDE: Final = re.compile(rf"{_IN_BRACKETS.pattern}|\b(?:envelope-)?\w{{2,9}}=(?:<>|#|<[\w.-]{{1,255}}>)")
_ASIDE_WORDS: Final = frozenset((
    "from", "to", "sender", "recipient", "rcpt", "mail", "envelope", "return", "path", "helo", "ehlo",
    "client", "ip", "host", "address", "via", "by", "connecting", "remote", "source", "for", "your", "proto",
    "id", "with", "smtp", "esmtp", "server", "relay", "at", "and", "is", "was",
))  # fmt: skip
_HOST: Final = re.compile(r"(?=[\d.]{0,64}[^\W\d])[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_TOKEN: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?|<>|#|[;,:!?()=]|\.(?=\s|$)")
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
# A dash between blanks, or a recipient on a new line, begins a clause.
_NEW_CLAUSE: Final = re.compile(
    r"\s(?:(?:--?|[–—/|])(?=\s)|(?<=\n)\s{0,8}(?=<>|(?:user|mailbox|recipient|account)\b))"
)
_POSSESSIVE: Final = re.compile(r"(?<=\w)'s\b")
_PUNCTUATION: Final = frozenset((";", ",", ":", "!", "?", "(", ")", "=", ".", ADDRESS, IP))


class Words(Struct, frozen=True):
    """A text in lower case, reduced to its words."""

    clauses: str
    """Words, punctuation, `<>` for each email address and `#` for each IP address, with single blanks
    around each; text that is only quoted is left out."""
    plain: str
    """The words alone, with single blanks around each."""
    raw: str
    """The text before it was split into words, addresses as `<>`, IP addresses as `#`."""


def read_words(text: str) -> Words:
    """Return the words of a reply."""
    text = _LINE_PREFIX.sub(" ", text[:_LOOKED_AT].lower()).replace("\u2019", "'").replace(IP, " ")
    if "://" in text:
        text = _URL.sub(_host_and_case, text)
    if "@" in text:
        text = _ADDRESS.sub(" <> ", text)
    if _PART_OF_IP4.search(text) or _PART_OF_IP6.search(text):
        text = _IP.sub(" # ", text)
    raw = text
    if "=<" in text or "=#" in text:
        text = _ASIDE.sub(_without_aside, text)
    elif "(" in text or "[" in text or "{" in text:
        text = _IN_BRACKETS.sub(_without_aside, text)
    text = _NEW_CLAUSE.sub(" ; ", text)
    if "'s" in text:
        text = _POSSESSIVE.sub("", text)
    tokens = _TOKEN.findall(text)
    plain = [token for token in tokens if token not in _PUNCTUATION]
    return Words(f" {' '.join(tokens)} ", f" {' '.join(plain)} ", raw)


def _host_and_case(found: re.Match[str]) -> str:
    case = _URL_CASE.search(found[2])
    return f" {found[1]} {case[1]} " if case else f" {found[1]} "


def _without_aside(found: re.Match[str]) -> str:
    """Return a blank for brackets that only quote addresses or hosts; otherwise the brackets."""
    inside = found[1]
    if inside is None:
        return " "
    bare = _HOST.sub(" ", inside)
    if bare != inside or ADDRESS in inside or IP in inside:
        words = _WORD.findall(bare)
        if all(word in _ASIDE_WORDS for word in words):
            return " "
    return found[0]


class PhraseBook:
    """Finds which of many phrases a text contains. Only looks for phrases whose first word occurs."""

    def __init__(self, phrases: Iterable[tuple[int, str]]) -> None:
        """Take pairs of a rank and a phrase."""
        self._by_word: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        self._by_prefix: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        self._unspaced: list[tuple[int, str]] = []
        self._punctuated: list[tuple[int, str]] = []
        for rank, phrase in phrases:
            self._add(rank, phrase)

    def ranks(self, words: Words) -> set[int]:
        """Return the ranks of all phrases that `words` contains."""
        plain = words.plain
        found: set[int] = set()
        by_word, by_prefix = self._by_word, self._by_prefix
        for word in set(plain.split()):
            for rank, parts in by_word.get(word, ()):
                if rank not in found and _contains(plain, parts):
                    found.add(rank)
            for rank, parts in by_prefix.get(word[:_PREFIX_LENGTH], ()):
                if rank not in found and _contains(plain, parts):
                    found.add(rank)
        if not plain.isascii():
            found.update(rank for rank, phrase in self._unspaced if phrase in plain)
        found.update(rank for rank, phrase in self._punctuated if phrase in words.clauses)
        return found

    def _add(self, rank: int, phrase: str) -> None:
        if ":" in phrase:
            self._punctuated.append((rank, f" {' '.join(_TOKEN.findall(phrase))} "))
            return
        parts = phrase.split("*")
        open_ended = parts[-1] == ""
        if open_ended:
            parts.pop()
        spaced = [f" {' '.join(_words_in(part))} " for part in parts]
        if not phrase.isascii() and len(spaced) == 1:
            # Languages without blanks between words.
            self._unspaced.append((rank, spaced[0].strip()))
            return
        if open_ended:
            spaced[-1] = spaced[-1].rstrip()
        first = spaced[0].split()[0]
        if open_ended and len(spaced) == 1 and spaced[0].strip() == first:
            self._by_prefix.setdefault(first[:_PREFIX_LENGTH], []).append((rank, (spaced[0],)))
        else:
            self._by_word.setdefault(first, []).append((rank, tuple(spaced)))


def _words_in(phrase: str) -> list[str]:
    return _WORD.findall(_POSSESSIVE.sub("", phrase.lower()))


def _contains(plain: str, parts: tuple[str, ...]) -> bool:
    """Return whether `plain` contains the parts one after another, each within `_GAP` of the last."""
    first = parts[0]
    if len(parts) == 1:
        return first in plain
    start = plain.find(first)
    while start >= 0:
        at = start + len(first) - 1
        for part in parts[1:]:
            found = plain.find(part, at, at + _GAP + len(part))
            if found < 0:
                break
            at = found + len(part) - 1
        else:
            return True
        start = plain.find(first, start + 1)
    return False
