"""Fingerprints of refusals: equal for recipients who were refused for the same reason."""

from __future__ import annotations

import re
from typing import Final

from mailer.replies.verdict import Verdict

_ADDRESS: Final = re.compile(r"[^\s<>()\"',;:]*@[^\s<>()\"',;:]+")
_WORD: Final = re.compile(r"[^\W_]+(?:[-_.=+][^\W_]+)*")


def fingerprint(verdict: Verdict, recipient: str) -> str:
    """Return a reply without what differs between recipients: addresses, names and numbers."""
    return fingerprint_of(verdict.code, verdict.enhanced, verdict.text, recipient)


def fingerprint_of(code: int | None, enhanced: str, text: str, recipient: str) -> str:
    """Return the `fingerprint` of a stored reply."""
    local, _, domain = recipient.lower().partition("@")
    words = (
        "@" if "." in word or word in (local, domain) else "#" if any(map(str.isdigit, word)) else word
        for word in _WORD.findall(_ADDRESS.sub("@", text.lower()))
    )
    return f"{code} {enhanced} {' '.join(words)}"
