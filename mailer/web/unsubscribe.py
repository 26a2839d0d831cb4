"""`/u/TOKEN` and `/p/TOKEN`: leaving at once, and the page where a subscriber decides.

GET and HEAD only show, since scanners follow the links in mail. What changes something is a POST:
the one-click of a mailbox provider (RFC 8058), or the button of our own page. The token is all the
authority there is: no cookie, no login, no expiry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mailer.address import check_header_text
from mailer.audience.preferences import Standing, standing
from mailer.audience.subscribers import Change, Origin, change_status, unsubscribe_all
from mailer.database.models import Subscriber, SubscriberStatus
from mailer.database.session import Database
from mailer.errors import AddressError
from mailer.tokens import Signer, Subject
from mailer.web.forms import MAX_NAME, client_ip, fields_of
from mailer.web.look import Look, masked
from mailer.web.preferences import WEEKS
from mailer.web.writer import Writer

_STANDING: Final = {
    SubscriberStatus.PENDING: "Waiting for your confirmation",
    SubscriberStatus.ACTIVE: "Subscribed",
    SubscriberStatus.UNSUBSCRIBED: "Unsubscribed",
    SubscriberStatus.BOUNCED: "Mail to this address came back, so we stopped",
    SubscriberStatus.COMPLAINED: "Our mail was reported as unwanted, so we stopped",
}


class Leaving:
    """The routes of `/u/` and `/p/`."""

    def __init__(
        self, database: Database, signer: Signer, look: Look, writer: Writer, *, tracked: bool = False
    ) -> None:
        self._tracked = tracked
        self._database = database
        self._signer = signer
        self._look = look
        self._writer = writer

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/u/{token}", self.ask, methods=["GET", "HEAD"])
        router.add_api_route("/p/{token}", self.preferences, methods=["GET", "HEAD"])
        router.routes.append(Route("/p/{token}", self.prefer, methods=["POST"]))
        for path in ("/u/{token}", "/p/{token}"):
            router.routes.append(Route(path, _options, methods=["OPTIONS"]))
        return router

    def one_click(self) -> Route:
        """Return the route of the POST that unsubscribes; it belongs before all others.

        A send to many brings a burst of these, and looking through the routes, and FastAPI's handling of
        parameters, would cost more than all that is done here.
        """
        return Route("/u/{token}", self.leave, methods=["POST"])

    def ask(self, token: str) -> Response:
        """Show the page with the button. Changes nothing, however often it is fetched."""
        person = self._person(self._subject(token))
        if person is None or person.status is SubscriberStatus.UNSUBSCRIBED:
            return self._left(token, person)
        return self._look.page("unsubscribe.html", token=token, address=masked(person.address))

    async def leave(self, request: Request) -> Response:
        """Unsubscribe at once; the answer is sent when it is on the disk. Doing it twice is fine."""
        token = request.path_params["token"]
        subject = self._subject(token)
        fields = await fields_of(request)
        one_click = fields.get("List-Unsubscribe", "").strip().lower() == "one-click"
        if not one_click and fields.get("confirm") != "yes":
            # RFC 8058 section 3.2 names the one body that asks for it; a stray POST is not a wish.
            return self._look.notice(400, "Nothing was changed", "The request did not ask to unsubscribe.")
        await self._unsubscribe(request, subject, "one-click" if one_click else "page")
        if one_click:
            return PlainTextResponse("Unsubscribed.\n")
        return self._left(token, await asyncio.to_thread(self._person, subject))

    def preferences(self, token: str) -> Response:
        """Show where the subscriber stands and what they can change."""
        return self._preferences(token, self._subject(token))

    async def prefer(self, request: Request) -> Response:
        """Change what the preferences page asked for, and show it anew."""
        token = request.path_params["token"]
        subject = self._subject(token)
        fields = await fields_of(request)
        status = 200
        match fields.get("action"):
            case "unsubscribe":
                await self._unsubscribe(request, subject, "page")
                done = "You are unsubscribed."
            case "subscribe":
                back = await self._return(request, subject)
                status = 200 if back else 409
                done = "You are subscribed again." if back else "Nothing was changed."
            case "name":
                status, done = await self._rename(subject, fields.get("name", "").strip())
            case _:
                return self._look.notice(
                    400, "Nothing was changed", "The request did not say what to change."
                )
        return await asyncio.to_thread(self._preferences, token, subject, done=done, status=status)

    async def _unsubscribe(self, request: Request, subject: Subject, way: str) -> None:
        change = Change(subject.subscriber_id, _origin(request, subject, way), datetime.now(UTC))
        await asyncio.wrap_future(self._writer.submit(unsubscribe_all, change))

    async def _return(self, request: Request, subject: Subject) -> bool:
        """Bring back who left by their own will; an address that bounced must confirm anew."""
        change = Change(subject.subscriber_id, _origin(request, subject, "page"), datetime.now(UTC))
        return await asyncio.wrap_future(self._writer.submit(_bring_back, change))

    async def _rename(self, subject: Subject, name: str) -> tuple[int, str]:
        if len(name) > MAX_NAME:
            return 400, f"That name is longer than {MAX_NAME} characters."
        try:
            check_header_text(name, field="The name")
        except AddressError as error:
            return 400, f"{error.message}."

        await asyncio.wrap_future(self._writer.submit(_rename, (subject.subscriber_id, name)))
        return 200, "Your name is saved."

    def _preferences(self, token: str, subject: Subject, *, done: str = "", status: int = 200) -> Response:
        person = self._person(subject)
        if person is None:
            return self._left(token, None)
        return self._look.page(
            "preferences.html",
            status=status,
            token=token,
            address=masked(person.address),
            name=person.name,
            since=person.changed_at,
            can_pause=person.status is SubscriberStatus.ACTIVE,
            paused_until=_still(person.paused_until),
            weeks=WEEKS,
            tracked=self._tracked,
            tracking_consent=person.tracking_consent,
            standing=_STANDING[person.status],
            can_leave=person.status in (SubscriberStatus.ACTIVE, SubscriberStatus.PENDING),
            can_return=person.status is SubscriberStatus.UNSUBSCRIBED,
            done=done,
        )

    def _left(self, token: str, person: Standing | None) -> Response:
        address = masked(person.address) if person else ""
        return self._look.page("unsubscribed.html", token=token, address=address)

    def _subject(self, token: str) -> Subject:
        return self._signer.read_link(token)

    def _person(self, subject: Subject) -> Standing | None:
        """Return the subscriber, or None when their data were erased."""
        with self._database.reading() as session:
            return standing(session, subject.subscriber_id)


def _bring_back(session: Session, people: Sequence[Change]) -> list[bool]:
    outcomes: list[bool] = []
    for one in people:
        stored = session.get(Subscriber, one.subscriber_id)
        outcomes.append(
            stored is not None
            and stored.status == SubscriberStatus.UNSUBSCRIBED
            and change_status(session, stored.id, SubscriberStatus.ACTIVE, origin=one.origin, at=one.at)
        )
    return outcomes


def _rename(session: Session, names: Sequence[tuple[int, str]]) -> list[None]:
    for subscriber_id, name in names:
        stored = session.get(Subscriber, subscriber_id)
        if stored is not None and stored.status != SubscriberStatus.ERASED:
            stored.name = name
    return [None] * len(names)


def _still(until: datetime | None) -> datetime | None:
    return until if until is not None and until > datetime.now(UTC) else None


def _origin(request: Request, subject: Subject, way: str) -> Origin:
    return Origin(way, ip=client_ip(request), issue_id=subject.issue_id or None)


async def _options(request: Request) -> Response:
    return Response(status_code=204, headers={"allow": "GET, HEAD, POST, OPTIONS"})
