"""Check what an inbox shows before a message is opened, and the text part."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from mailer.rendering.lint.findings import Finding, Level
from mailer.rendering.lint.mail import Mail

MAX_SUBJECT_CHARACTERS: Final = 70
LEAST_SHARE_OF_WORDS: Final = 0.2


def subject(mail: Mail) -> Iterator[Finding]:
    """Find subjects that are empty, too long, or contain suspicious characters."""
    text = str(mail.headers["Subject"] or "").strip()
    key = "subject" if dict(mail.issue.key_lines).get("subject") else "title"
    if not text:
        yield mail.finding("subject", "the subject is empty", key=key)
        return
    if len(text) > MAX_SUBJECT_CHARACTERS:
        yield mail.finding(
            "subject",
            f"the subject has {len(text)} characters; inboxes show about {MAX_SUBJECT_CHARACTERS}",
            key=key,
            level=Level.WARNING,
        )
    written = f"{text}{mail.edition.subject}"
    odd = sorted({f"U+{ord(c):04X}" for c in written if unicodedata.category(c) == "Cc" or _is_bidi(c)})
    if odd:
        yield mail.finding(
            "subject",
            f"the subject contains {', '.join(odd)}",
            key=key,
            level=Level.WARNING,
            remedy="delete it",
        )


def preheader(mail: Mail) -> Iterator[Finding]:
    """Find missing preheaders, and those that repeat the subject."""
    preview = mail.edition.preheader.strip()
    if not preview:
        yield mail.finding("preheader", "there is no preheader: inboxes show the first words instead")
    elif preview.casefold() == mail.edition.subject.strip().casefold():
        yield mail.finding("preheader", "the preheader repeats the subject", key="preheader")


def text_part(mail: Mail) -> Iterator[Finding]:
    """Find text parts that lack most of the words."""
    shown, written = len(_words(mail.shown_text)), len(_words(mail.text))
    if not written:
        yield mail.finding("text-part", "there is no text part")
    elif written < LEAST_SHARE_OF_WORDS * shown:
        yield mail.finding("text-part", f"the text part has {written} words, the HTML {shown}")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _is_bidi(character: str) -> bool:
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"


RULES: Final = (subject, preheader, text_part)
