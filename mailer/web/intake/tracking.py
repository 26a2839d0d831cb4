"""`/c/TOKEN/N` and `/o/TOKEN.gif`: clicks and opens of tracked issues.

A click leads only to an address that was stored with the issue. The writer stores events in batches.
With tracking off, nothing is stored, and links in emails already sent still work. An event names the
subscriber only if that person has agreed to tracking.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mailer.config import Tracking
from mailer.database.among import among
from mailer.database.rows import insert_rows
from mailer.database.tables import Event, Subscriber
from mailer.errors import StorageError
from mailer.tokens import Signer, Subject
from mailer.web.intake.bots import bot_kind
from mailer.web.public.editions import Editions
from mailer.web.writer import Writer

# One transparent pixel (GIF89a).
PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_CACHED_ISSUES: Final = 64
_PLACE: Final = re.compile(r"[0-9]{1,6}")
_AGREED: Final = select(Subscriber.c.id).where(
    among(Subscriber.c.id, "ids"), Subscriber.c.tracking_consent.is_(True)
)


class TrackingRoutes:
    """The routes of `/c/` and `/o/`."""

    def __init__(self, signer: Signer, editions: Editions, writer: Writer, tracking: Tracking) -> None:
        self._signer = signer
        self._editions = editions
        self._writer = writer
        self._tracking = tracking
        self._links: dict[int, tuple[str, ...]] = {}

    def routes(self) -> list[Route]:
        """Return the routes, which go first, because they are requested most."""
        return [
            Route("/c/{token}/{place}", self.click, methods=["GET"]),
            Route("/o/{token}.gif", self.opened, methods=["GET"]),
        ]

    async def click(self, request: Request) -> Response:
        """Redirect to link number `place` of the issue, and count the click."""
        # Not Starlette's int convertor: Python refuses to read thousands of digits, which would be a 500.
        if (found := _PLACE.fullmatch(request.path_params["place"])) is None:
            raise HTTPException(404)
        place = int(found[0])
        subject = self._signer.read_link(request.path_params["token"])
        links = self._links.get(subject.issue_id, ())
        if place >= len(links):
            # Unknown so far, or numbered by an amendment: later editions only add links.
            links = await self._read_links(subject.issue_id)
        if place >= len(links):
            raise HTTPException(404)
        target = links[place]
        if not target.lower().startswith(("https://", "http://")):
            raise HTTPException(404)
        if self._tracking.clicks:
            self._count(request, "click", subject, {"link": place})
        return RedirectResponse(target, 302)

    async def opened(self, request: Request) -> Response:
        """Return the pixel, and count the open."""
        subject = self._signer.read_link(request.path_params["token"])
        if self._tracking.opens:
            self._count(request, "open", subject, {})
        return Response(PIXEL, media_type="image/gif")

    async def _read_links(self, issue_id: int) -> tuple[str, ...]:
        """Return the destinations of an issue's links, or none if there is no such issue."""
        edition = await asyncio.to_thread(self._editions.of_issue, issue_id)
        if edition is None:
            return ()
        if len(self._links) >= _CACHED_ISSUES:
            self._links.clear()
        self._links[issue_id] = edition.links
        return edition.links

    def _count(self, request: Request, kind: str, subject: Subject, details: dict[str, Any]) -> None:
        """Pass the event to the writer. HEAD requests come from bots and are not counted."""
        if request.method == "HEAD":
            return
        if machine := bot_kind(request.headers):
            details = details | {"machine": machine}
        event = {
            "at": datetime.now(UTC),
            "kind": kind,
            "issue_id": subject.issue_id or None,
            "subscriber_id": subject.subscriber_id,
            "details": details,
        }
        try:
            self._writer.submit_unattended(write, event)
        except StorageError:
            # Statistics must not keep a reader from the page: in such a burst the event is not counted.
            return


def write(connection: Connection, events: Sequence[dict[str, Any]]) -> list[None]:
    """Store events; those of subscribers who have not agreed to tracking are stored without a name."""
    asked = {event["subscriber_id"] for event in events}
    agreed = set(connection.scalars(_AGREED, {"ids": list(asked)}))
    insert_rows(
        connection,
        Event,
        [event if event["subscriber_id"] in agreed else event | {"subscriber_id": None} for event in events],
    )
    return [None] * len(events)
