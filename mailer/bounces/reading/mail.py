"""Parse a returned mail: its text, its delivery status, and the mail that it returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from mailer.bounces.reading import kinds
from mailer.bounces.reading.dsn import has_fields
from mailer.bounces.reading.mime import Headers, Leaf, decoded_words, parse_headers, read_mail
from mailer.bounces.reading.prose import split_copy

_TOKEN: Final = re.compile(r"b\.(?<!\wb\.)([a-z2-7]{20,62})(?:@|=)")
_ENVELOPE_FIELDS: Final = (
    "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-delivered-to", "x-rcpt-to",
    "to", "apparently-to",
    "resent-to", "cc",
)  # fmt: skip
_MESSAGE_ID: Final = re.compile(r"<([^<>\s]{3,250})>")
_REPORT_TYPES: Final = ("message/delivery-status", "message/global-delivery-status")
_ORIGINAL_TYPES: Final = (
    "message/rfc822", "message/global", "text/rfc822-headers", "text/rfc822-header",
    "message/global-headers",
    "message/rfc822-headers", "message/partial",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReturnedMail:
    """A parsed mail: its text, its delivery status, and the mail that it returns."""

    raw: bytes
    headers: Headers
    leaves: list[Leaf]
    notice: str
    status_texts: list[str]
    original: Headers
    copy: bytes
    """The returned mail, as much of it as is quoted."""
    subject: str
    is_report: bool
    """Declared as a delivery report, sent by a mail system, or with the subject of a failure notification."""
    is_from_system: bool
    """Not written by a person: declared a report, from a mail system, or with an empty envelope sender."""

    @staticmethod
    def read(raw: bytes) -> ReturnedMail:
        """Parse a mail."""
        headers, leaves = read_mail(raw)
        notice, status_texts, copies = _sorted(leaves)
        quoted = "\n".join(copies).lstrip("\n-").encode("utf-8", "replace")
        original = parse_headers(quoted.partition(b"\n\n")[0] if len(copies) == 1 else quoted)
        subject = decoded_words(headers.get("subject"))
        is_from_system = bool(status_texts) or kinds.is_from_mail_system(headers)
        return ReturnedMail(
            raw=raw,
            headers=headers,
            leaves=leaves,
            notice=notice,
            status_texts=status_texts,
            original=original,
            copy=quoted,
            subject=subject,
            is_report=is_from_system or kinds.names_failure(subject),
            is_from_system=is_from_system or kinds.has_null_sender(headers),
        )

    def wraps_a_report(self) -> bool:
        """Return whether the returned mail is a report itself: some systems wrap theirs in another mail."""
        original = self.original
        return "report" in original.get("content-type") and kinds.is_from_mail_system(original)

    def sent_at(self) -> datetime | None:
        """Return the date of the mail (RFC 5322 section 3.6.1); None if it has none that can be read."""
        try:
            found = parsedate_to_datetime(self.headers.get("date")[:100])
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            return None

    def tokens(self) -> tuple[str, ...]:
        """Return the return-path tokens: from the mail's own envelope fields, then from what it quotes."""
        places = (
            "\n".join(self.headers.all(*_ENVELOPE_FIELDS)),
            "\n".join(value for _, value in self.original.fields),
            "\n".join(self.status_texts)[:65536],
            self.notice[:65536],
        )
        found = [token for text in map(str.lower, places) if "b." in text for token in _TOKEN.findall(text)]
        return tuple(dict.fromkeys(found))[:20]

    def original_message_id(self) -> str:
        """Return the Message-ID of the returned mail, or of the mail that this one answers."""
        for value in (
            self.original.get("message-id"),
            self.headers.get("in-reply-to"),
            self.headers.get("references"),
        ):
            if found := _MESSAGE_ID.search(value):
                return found[1]
        return ""


def _sorted(leaves: Sequence[Leaf]) -> tuple[str, list[str], list[str]]:
    """Return the text for people, the texts of delivery status, and the copies of the returned mail."""
    notices: list[str] = []
    statuses: list[str] = []
    copies: list[str] = []
    for leaf in leaves:
        if leaf.kind in _REPORT_TYPES:
            statuses.append(leaf.text())
        elif _holds_a_copy(leaf):
            copies.append(leaf.text()[:65536])
        elif leaf.kind == "text/html" and any(text.strip() for text in notices):
            continue
        elif not copies and (not leaf.kind or leaf.kind.startswith(("text/", "multipart/"))):
            notices.append(leaf.text())
    notice, copy = split_copy("\n".join(notices))
    if not statuses and has_fields(notice):
        statuses.append(notice)
    if copy:
        copies.append(copy)
    return notice, statuses, copies


def _holds_a_copy(leaf: Leaf) -> bool:
    if leaf.kind in _ORIGINAL_TYPES:
        return True
    return leaf.kind.startswith("message/") and leaf.kind != "message/feedback-report"
