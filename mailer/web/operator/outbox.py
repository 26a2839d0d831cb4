"""The outbox in a browser: messages that were kept on this machine instead of being sent.

A sandboxed frame loads the HTML of a message from a separate URL, whose policy forbids scripts, forms and
everything from other hosts. The frame keeps its origin, so that the page can fit it to the message's height.
"""

from __future__ import annotations

import re
import secrets
from email.message import Message
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import ASGIApp

from mailer.config import Brand
from mailer.rendering.html.variants import with_links_beside
from mailer.review.viewing import SANDBOX
from mailer.web.operator import kept
from mailer.web.shield import PAGE_POLICY, LocalOnly, Shield
from mailer.web.theme import PAGES, Theme

_IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
# For the frame that shows a message: no scripts or forms, and nothing from other hosts.
_MESSAGE_POLICY: Final = (
    f"sandbox {SANDBOX}; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_VIEWS: Final = ("desktop", "phone", "text", "headers")
_MAX_QUERY: Final = 100


def create_outbox_app(maildir: Path, *, brand: Brand) -> ASGIApp:
    """Return the application that shows the messages in a Maildir; it only reads."""
    outbox = _Outbox(maildir, Theme(brand, name="Outbox", language="en"))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for path, answer in (
        ("/", outbox.index),
        ("/style.css", outbox.theme.style),
        ("/outbox.js", lambda: FileResponse(PAGES / "outbox.js", media_type="text/javascript")),
        ("/message/{name}", outbox.message),
        ("/message/{name}/html", outbox.html),
        ("/message/{name}/source", outbox.source),
        ("/message/{name}/images/{content_id}", outbox.image),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = "There is no such message." if error.status_code == 404 else str(error.detail)
        return outbox.theme.notice(error.status_code, "Not found", text)

    app.add_exception_handler(HTTPException, refused)
    return Shield(LocalOnly(app, "The outbox"), private=("/",))


class _Outbox:
    def __init__(self, maildir: Path, theme: Theme) -> None:
        self._kept = kept.KeptMessages(maildir)
        self.theme = theme

    def index(self, before: str = "", q: str = "", issue: str = "") -> Response:
        """List a page of messages by issue, newest first; `q` and `issue` search for some of them."""
        query = " ".join(q.split())[:_MAX_QUERY]
        listing = self._kept.page(before=before, query=query, issue=issue)
        search = {name: value for name, value in (("q", query), ("issue", issue)) if value}
        groups = groupby(listing.entries, key=lambda entry: (entry.issue, entry.is_letter))
        return self.theme.page(
            "outbox.html",
            title="Outbox",
            groups=[(name, is_letter, list(entries)) for (name, is_letter), entries in groups],
            count=listing.count,
            query=query,
            issue=issue,
            older=f"/?{urlencode({**search, 'before': listing.older})}" if listing.older else "",
            newest="" if not before else f"/?{urlencode(search)}" if search else "/",
            searched=kept.SEARCHED,
        )

    def message(self, name: str, view: str = "") -> Response:
        """Show one message: its HTML in a frame, its plain text, or its header."""
        parsed = self._parsed(name)
        parts = kept.parts(parsed)
        if view not in _VIEWS:
            view = "desktop" if parts.html is not None else "text"
        nonce = secrets.token_urlsafe(18)
        answer = self.theme.page(
            "message.html",
            title=kept.shown(parsed, "Subject") or "(no subject)",
            name=name,
            view=view,
            sender=kept.shown(parsed, "From"),
            to=kept.shown(parsed, "To"),
            date=kept.shown(parsed, "Date"),
            has_html=parts.html is not None,
            text=parts.text,
            headers=[(field, str(value)) for field, value in parsed.items()],
            sandbox=SANDBOX,
            nonce=nonce,
        )
        policy = f"{PAGE_POLICY}; script-src 'nonce-{nonce}'; frame-src 'self'"
        answer.headers["content-security-policy"] = policy
        return answer

    def html(self, name: str) -> Response:
        """Return the HTML part for the frame, with its inline images served from here."""
        html = kept.parts(self._parsed(name)).html
        if html is None:
            raise HTTPException(404)
        base = f"/message/{quote(name, safe='')}/images/"
        html = re.sub(
            r"cid:([^\s\"'<>()]+)", lambda found: base + quote(found[1].replace("&amp;", "&"), safe=""), html
        )
        return HTMLResponse(with_links_beside(html), headers={"content-security-policy": _MESSAGE_POLICY})

    def image(self, name: str, content_id: str) -> Response:
        """Return an inline image (RFC 2392); only types that cannot carry a script."""
        for part in kept.leaves(self._parsed(name)):
            if str(part.get("Content-ID", "")).strip().strip("<>") == content_id:
                if part.get_content_type() not in _IMAGE_TYPES:
                    break
                return Response(
                    kept.content(part),
                    media_type=part.get_content_type(),
                    headers={"content-security-policy": _MESSAGE_POLICY},
                )
        raise HTTPException(404)

    def source(self, name: str) -> Response:
        """Return the message as it was transmitted, as plain text."""
        return Response(self._read(name), media_type="text/plain")

    def _parsed(self, name: str) -> Message:
        return kept.parsed(self._read(name))

    def _read(self, name: str) -> bytes:
        raw = self._kept.read(name)
        if raw is None:
            raise HTTPException(404)
        return raw
