"""`/c/TOKEN/N` and `/o/TOKEN.gif`: clicks and opens of tracked issues.

A click goes only to an address that was stored with the issue. What is counted is written in
batches by the writer; with tracking off nothing is, and the links of mail already sent still work.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy import insert
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailer.config import Tracking
from mailer.database.models import Event
from mailer.errors import StorageError
from mailer.tokens import Signer, Subject
from mailer.web.archive import Editions
from mailer.web.writer import Writer

# One transparent pixel (GIF89a).
PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_PREFETCH_HEADERS: Final = ("purpose", "x-purpose", "sec-purpose", "x-moz")
_MACHINES: Final = (
    "bot",
    "crawl",
    "spider",
    "preview",
    "scan",
    "curl/",
    "wget/",
    "python-",
    "go-http-client",
)


class Intake:
    """The routes of `/c/` and `/o/`."""

    def __init__(self, signer: Signer, editions: Editions, writer: Writer, tracking: Tracking) -> None:
        self._signer = signer
        self._editions = editions
        self._writer = writer
        self._tracking = tracking

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/c/{token}/{place:int}", self.click, methods=["GET", "HEAD"])
        router.add_api_route("/o/{token}.gif", self.opened, methods=["GET", "HEAD"])
        return router

    def click(self, request: Request, token: str, place: int) -> Response:
        """Send the reader to link number `place` of the issue, and count it."""
        subject = self._signer.read_link(token)
        edition = self._editions.of_issue(subject.issue_id)
        if edition is None or place >= len(edition.links):
            raise HTTPException(404)
        target = edition.links[place]
        if not target.lower().startswith(("https://", "http://")):
            raise HTTPException(404)
        if self._tracking.clicks:
            self._count(request, "click", subject, {"link": place})
        return RedirectResponse(target, 302)

    def opened(self, request: Request, token: str) -> Response:
        """Return the pixel, and count the opening."""
        subject = self._signer.read_link(token)
        if self._tracking.opens:
            self._count(request, "open", subject, {})
        return Response(PIXEL, media_type="image/gif")

    def _count(self, request: Request, kind: str, subject: Subject, details: dict[str, Any]) -> None:
        """Leave the event to the writer. HEAD is a machine's look and counts as nothing."""
        if request.method == "HEAD":
            return
        if _is_machine(request):
            details = details | {"machine": True}
        event = {
            "at": datetime.now(UTC),
            "kind": kind,
            "issue_id": subject.issue_id or None,
            "subscriber_id": subject.subscriber_id,
            "details": details,
        }
        try:
            self._writer.submit(_write, event)
        except StorageError:
            # A statistic must not keep a reader from the page: under such a burst it goes uncounted.
            return


def _write(session: Session, events: Sequence[dict[str, Any]]) -> list[None]:
    session.execute(insert(Event), list(events))
    return [None] * len(events)


def _is_machine(request: Request) -> bool:
    """Whether the request says of itself that no person made it."""
    if any("prefetch" in request.headers.get(name, "").lower() for name in _PREFETCH_HEADERS):
        return True
    agent = request.headers.get("user-agent", "").lower()
    return not agent or any(word in agent for word in _MACHINES)
