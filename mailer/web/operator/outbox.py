"""The outbox in a browser: messages that were kept on this machine instead of being sent.

Messages are treated as hostile, as in any email client. A sandboxed frame loads their HTML from a separate
URL, whose policy forbids scripts, forms and everything from other hosts. The folder may contain a million
messages: a page reads their names one by one and keeps the few that it shows.
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
from urllib.parse import quote

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from mailer.config import Brand
from mailer.web.shield import PAGE_POLICY, LocalOnly, Shield
from mailer.web.theme import Theme

PAGE_SIZE: Final = 50
# The parser recurses, and checks every line for every boundary.
_MOST_MULTIPARTS: Final = 50
_HEAD_OCTETS: Final = 64 * 1024
_NAME: Final = re.compile(r"(\d{1,15})\.[\w.@+=,:-]{1,200}")
_IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
# For the frame that shows a message: no scripts, forms or navigation, and nothing from other hosts.
_MESSAGE_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_LIST_POLICY: Final = f"{PAGE_POLICY}; frame-src 'self'"
_VIEWS: Final = ("html", "text", "headers")


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One message in the list."""

    name: str
    subject: str
    to: str
    at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a message that can be shown; None if there is no such part."""

    html: str | None
    text: str | None


def create_outbox_app(maildir: Path, *, brand: Brand) -> ASGIApp:
    """Return the application that shows the messages in a Maildir; it only reads."""
    outbox = _Outbox(maildir, Theme(brand, name="Outbox", language="en"))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for path, answer in (
        ("/", outbox.index),
        ("/style.css", outbox.theme.style),
        ("/message/{name}", outbox.message),
        ("/message/{name}/html", outbox.html),
        ("/message/{name}/source", outbox.source),
        ("/message/{name}/images/{content_id}", outbox.image),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"])

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = "There is no such message." if error.status_code == 404 else str(error.detail)
        return outbox.theme.notice(error.status_code, "Not found", text)

    app.add_exception_handler(HTTPException, refused)
    return Shield(LocalOnly(app, "The outbox"), policy=_LIST_POLICY, private=("/",))


class _Outbox:
    def __init__(self, maildir: Path, theme: Theme) -> None:
        self._maildir = maildir
        self.theme = theme

    def index(self, before: str = "") -> Response:
        """List a page of messages, newest first, starting after `before`."""
        limit = _order(before) if before else None
        count = 0

        def older() -> Iterator[str]:
            nonlocal count
            for name in _names(self._maildir):
                count += 1
                if limit is None or _order(name) < limit:
                    yield name

        names = heapq.nlargest(PAGE_SIZE + 1, older(), key=_order)
        kept = [one for name in names[:PAGE_SIZE] if (one := self._summary(name))]
        return self.theme.page(
            "outbox.html",
            title="Outbox",
            messages=kept,
            count=count,
            older=quote(names[PAGE_SIZE - 1]) if len(names) > PAGE_SIZE else "",
            newest=not before,
        )

    def message(self, name: str, view: str = "") -> Response:
        """Show one message: its HTML in a frame, its plain text, or its header."""
        parsed = _parsed(self._read(name))
        parts = _parts(parsed)
        if view not in _VIEWS:
            view = "html" if parts.html is not None else "text"
        return self.theme.page(
            "message.html",
            title=_shown(parsed, "Subject") or "(no subject)",
            name=name,
            view=view,
            sender=_shown(parsed, "From"),
            to=_shown(parsed, "To"),
            date=_shown(parsed, "Date"),
            has_html=parts.html is not None,
            text=parts.text,
            headers=[(field, str(value)) for field, value in parsed.items()],
        )

    def html(self, name: str) -> Response:
        """Return the HTML part for the frame, with its inline images served from here."""
        html = _parts(_parsed(self._read(name))).html
        if html is None:
            raise HTTPException(404)
        base = f"/message/{quote(name, safe='')}/images/"
        html = re.sub(
            r"cid:([^\s\"'<>()]+)", lambda found: base + quote(found[1].replace("&amp;", "&"), safe=""), html
        )
        return HTMLResponse(html, headers={"content-security-policy": _MESSAGE_POLICY})

    def image(self, name: str, content_id: str) -> Response:
        """Return an inline image (RFC 2392); only types that cannot carry a script."""
        for part in _leaves(_parsed(self._read(name))):
            if str(part.get("Content-ID", "")).strip().strip("<>") == content_id:
                if part.get_content_type() not in _IMAGE_TYPES:
                    break
                return Response(
                    _content(part),
                    media_type=part.get_content_type(),
                    headers={"content-security-policy": _MESSAGE_POLICY},
                )
        raise HTTPException(404)

    def source(self, name: str) -> Response:
        """Return the message as it was transmitted, as plain text."""
        return Response(self._read(name), media_type="text/plain")

    def _read(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError as error:
            raise HTTPException(404) from error

    def _path(self, name: str) -> Path:
        """Return the path of a message; only valid Maildir names are looked up."""
        if not _NAME.fullmatch(name):
            raise HTTPException(404)
        new = self._maildir / "new" / name
        return new if new.exists() else self._maildir / "cur" / name

    def _summary(self, name: str) -> OutboxEntry | None:
        """Return a message's entry in the list, or None if it has been removed or is not ours."""
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
        at = datetime.fromtimestamp(_order(name)[0], UTC)
        return OutboxEntry(name, _shown(parsed, "Subject") or "(no subject)", _shown(parsed, "To"), at, size)


def _names(maildir: Path) -> Iterator[str]:
    for folder in ("new", "cur"):
        try:
            with os.scandir(maildir / folder) as entries:
                for entry in entries:
                    if entry.name[0].isdecimal():
                        yield entry.name
        except FileNotFoundError:
            # The first message creates the folders.
            continue


def _order(name: str) -> tuple[int, int, str]:
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


def _parsed(raw: bytes) -> Message:
    """Return the message, or only its header if its parts are nested too deeply."""
    if raw.lower().count(b"multipart/") > _MOST_MULTIPARTS:
        return BytesHeaderParser(policy=compat32).parsebytes(raw)
    return BytesParser(policy=compat32).parsebytes(raw)


def _leaves(message: Message) -> Iterator[Message]:
    """Yield the parts with content, without recursion, because the sender chooses the nesting."""
    waiting: list[Message] = [message]
    while waiting:
        part = waiting.pop()
        payload = part.get_payload()
        if isinstance(payload, list):
            waiting.extend(reversed([inner for inner in payload if isinstance(inner, Message)]))
        else:
            yield part


def _parts(message: Message) -> Parts:
    found: dict[str, str] = {}
    for part in _leaves(message):
        if part.get_filename() is None:
            found.setdefault(part.get_content_type(), _text(part))
    return Parts(found.get("text/html"), found.get("text/plain"))


def _content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    if part.get_content_maintype() != "text":
        return ""
    try:
        return _content(part).decode(str(part.get_content_charset("utf-8")), "replace")
    except LookupError:
        return _content(part).decode("utf-8", "replace")


def _shown(message: Message, field: str) -> str:
    """Return a decoded header field, or the raw value if it cannot be decoded."""
    value = str(message.get(field, ""))
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, MessageError, ValueError, LookupError):
        return value
