"""The messages in a Maildir: list and search them, and read their parts.

Messages are treated as hostile, as in any email client. The folder may contain a million messages: their
names are read one by one, and only the newest that can be shown are opened.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError, MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32
from pathlib import Path
from typing import Final

PAGE_SIZE: Final = 50
SEARCHED: Final = 2_000
"""How many messages a search opens before it asks to continue, so that a page takes a second at most."""
# The parser recurses, and checks every line for every boundary.
_MOST_MULTIPARTS: Final = 50
_HEAD_OCTETS: Final = 64 * 1024
_NAME: Final = re.compile(r"(\d{1,15})\.[\w.@+=,:-]{1,200}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in the list."""

    name: str
    subject: str
    to: str
    issue: str
    """The issue that it belongs to, as in its Feedback-ID; empty for letters and anything else."""
    is_letter: bool
    at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of messages, newest first."""

    entries: list[Entry]
    count: int
    """How many messages there are in all."""
    older: str
    """The name after which the next page starts; empty on the last page."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a message that can be shown; None if there is no such part."""

    html: str | None
    text: str | None


class KeptMessages:
    """The messages in one Maildir."""

    def __init__(self, maildir: Path) -> None:
        self._maildir = maildir

    def page(self, *, before: str = "", query: str = "", issue: str = "") -> Listing:
        """Return a page of messages that start after the message `before`.

        `query` is searched for in subject, recipient and sender; `issue` selects the messages of one issue.
        A search stops after `SEARCHED` messages; `older` then continues it.
        """
        limit = order(before) if before else None
        wanted = SEARCHED if query or issue else PAGE_SIZE
        count = 0

        def older() -> Iterator[str]:
            nonlocal count
            for name in self._names():
                count += 1
                if limit is None or order(name) < limit:
                    yield name

        names = heapq.nlargest(wanted + 1, older(), key=order)
        entries: list[Entry] = []
        last = ""
        for name in names[:wanted]:
            if len(entries) == PAGE_SIZE:
                break
            last = name
            entry = self._entry(name, query.casefold(), issue)
            if entry is not None:
                entries.append(entry)
        return Listing(entries, count, last if last and last != names[-1] else "")

    def read(self, name: str) -> bytes | None:
        """Return a message, or None if there is none of this name; only valid names are looked up."""
        if not _NAME.fullmatch(name):
            return None
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def _names(self) -> Iterator[str]:
        for folder in ("new", "cur"):
            try:
                with os.scandir(self._maildir / folder) as entries:
                    for entry in entries:
                        if entry.name[0].isdecimal():
                            yield entry.name
            except FileNotFoundError:
                # The first message creates the folders.
                continue

    def _path(self, name: str) -> Path:
        new = self._maildir / "new" / name
        return new if new.exists() else self._maildir / "cur" / name

    def _entry(self, name: str, query: str, issue: str) -> Entry | None:
        """Return a message's entry, or None if it is not sought, has been removed or is not ours."""
        if not _NAME.fullmatch(name):
            return None
        path = self._path(name)
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(_HEAD_OCTETS)
        except FileNotFoundError:
            return None
        parsed = BytesHeaderParser(policy=compat32).parsebytes(head)
        subject, to = shown(parsed, "Subject") or "(no subject)", shown(parsed, "To")
        of_issue = shown(parsed, "Feedback-ID").partition(":")[0].strip()
        if issue and of_issue != issue:
            return None
        if query and query not in f"{subject}\n{to}\n{shown(parsed, 'From')}\n{of_issue}".casefold():
            return None
        is_letter = not of_issue and shown(parsed, "Auto-Submitted").startswith("auto-")
        return Entry(
            name, subject, to, of_issue, is_letter, datetime.fromtimestamp(order(name)[0], UTC), size
        )


def order(name: str) -> tuple[int, int, str]:
    """Return a key that sorts names by time: seconds, then the server's count within a second.

    This is called once for each message in the folder, so it does as little as possible.
    """
    seconds, _, rest = name.partition(".")
    counter = rest.partition(".")[0].rpartition("Q")[2]
    return (
        int(seconds) if seconds.isdecimal() and len(seconds) < 16 else 0,
        int(counter) if counter.isdecimal() and len(counter) < 16 else 0,
        name,
    )


def parsed(raw: bytes) -> Message:
    """Return the message, or only its header if its parts are nested too deeply."""
    if raw.lower().count(b"multipart/") > _MOST_MULTIPARTS:
        return BytesHeaderParser(policy=compat32).parsebytes(raw)
    return BytesParser(policy=compat32).parsebytes(raw)


def leaves(message: Message) -> Iterator[Message]:
    """Yield the parts with content, without recursion, because the sender chooses the nesting."""
    waiting: list[Message] = [message]
    while waiting:
        part = waiting.pop()
        payload = part.get_payload()
        if isinstance(payload, list):
            waiting.extend(reversed([inner for inner in payload if isinstance(inner, Message)]))
        else:
            yield part


def parts(message: Message) -> Parts:
    """Return the HTML and the plain text of a message."""
    found: dict[str, str] = {}
    for part in leaves(message):
        if part.get_filename() is None:
            found.setdefault(part.get_content_type(), _text(part))
    return Parts(found.get("text/html"), found.get("text/plain"))


def content(part: Message) -> bytes:
    """Return the decoded octets of a part."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    if part.get_content_maintype() != "text":
        return ""
    try:
        return content(part).decode(str(part.get_content_charset("utf-8")), "replace")
    except LookupError:
        return content(part).decode("utf-8", "replace")


def shown(message: Message, field: str) -> str:
    """Return a decoded header field, or the raw value if it cannot be decoded."""
    value = str(message.get(field, ""))
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, MessageError, ValueError, LookupError):
        return value
