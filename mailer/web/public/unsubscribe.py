"""`/u/TOKEN`: unsubscribe, with an optional reason.

GET and HEAD change nothing, because scanners follow links in email. Only a POST unsubscribes: the
one-click request of a mailbox provider (RFC 8058), or the button of our own page. The token is the only
credential: no cookie, no login, no expiry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mailer.audience import preferences
from mailer.audience.ledger import unsubscribe_all
from mailer.audience.preferences import Standing, standing
from mailer.audience.transitions import Origin, SubscriberRequest
from mailer.catalogue import marked
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.delivery.sign_up import unsubscribe_with_goodbye
from mailer.tokens import Signer, Subject
from mailer.web.forms import client_ip, fields_of
from mailer.web.theme import PageText, Theme, masked
from mailer.web.writer import Writer, each

REASONS: Final = {
    "too-many": marked("Too many emails"),
    "not-relevant": marked("It no longer interests me"),
    "never-signed-up": marked("I never signed up"),
    "other": marked("Something else"),
}


def _give_reason(connection: Connection, given: tuple[SubscriberRequest, str]) -> bool:
    change, reason = given
    return preferences.give_reason(
        connection, change.subscriber_id, reason, origin=change.origin, at=change.at
    )


_GIVE_REASON: Final = each(_give_reason)


class UnsubscribeRoutes:
    """The routes of `/u/`.

    `reasons` maps the reasons on offer to their labels. With `goodbye`, people who unsubscribe on a page
    get a letter; `wake_sender` is called when one is waiting.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        theme: Theme,
        writer: Writer,
        wake_sender: Callable[[], None],
        *,
        reasons: Mapping[str, str],
        goodbye: bool,
    ) -> None:
        self.reasons = reasons
        self._goodbye = goodbye
        self._wake_sender = wake_sender
        self._database = database
        self._signer = signer
        self._theme = theme
        self._writer = writer

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/u/{token}", self.show, methods=["GET", "HEAD"])
        router.routes.append(Route("/u/{token}", options, methods=["OPTIONS"]))
        return router

    def one_click(self) -> Route:
        """Return the route of the POST that unsubscribes; it goes before all others.

        Sending an issue brings a burst of these requests, and FastAPI's overhead would cost more than
        everything here.
        """
        return Route("/u/{token}", self.post, methods=["POST"])

    def show(self, request: Request, token: str) -> Response:
        """Show the page with the button. Changes nothing, however often it is fetched."""
        person = self._person(self._signer.read_link(token))
        if person is None or person.status is SubscriberStatus.UNSUBSCRIBED:
            return self.unsubscribed(request, token, person)
        texts = self._theme.to(request)
        return texts.page(
            "unsubscribe.html", token=token, address=masked(person.address), reasons=self.labels(texts)
        )

    async def post(self, request: Request) -> Response:
        """Unsubscribe, and answer once that is on disk. Repeating it is harmless."""
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        fields = await fields_of(request)
        one_click = fields.get("List-Unsubscribe", "").strip().lower() == "one-click"
        if not one_click and fields.get("confirm") != "yes":
            # RFC 8058 section 3.2 defines the only body that unsubscribes; a stray POST does not.
            texts = self._theme.to(request)
            return texts.notice(
                400, texts.say("Nothing was changed"), texts.say("The request did not ask to unsubscribe.")
            )
        if one_click:
            await self.unsubscribe(request, subject, "one-click")
            return PlainTextResponse("Unsubscribed.\n")
        reason = await self.unsubscribe(request, subject, "page", fields.get("reason", ""))
        return self.unsubscribed(request, token, await asyncio.to_thread(self._person, subject), reason)

    async def unsubscribe(self, request: Request, subject: Subject, way: str, reason: str = "") -> str:
        """Unsubscribe someone, on disk, and return the stored reason; unknown reasons are dropped.

        Someone who is already unsubscribed may still give a reason.
        """
        reason = reason if reason in self.reasons else ""
        origin = origin_of(request, subject, way, preferences.reason_note(reason))
        change = SubscriberRequest(subject.subscriber_id, origin, datetime.now(UTC))
        # One-click unsubscribe is not answered with another email.
        with_letter = self._goodbye and way == "page"
        if with_letter:
            language = self._theme.to(request).language
            changed = await self._writer.submit(unsubscribe_with_goodbye, (change, language))
        else:
            changed = await self._writer.submit(unsubscribe_all, change)
        if changed and with_letter:
            self._wake_sender()
        if reason and not changed:
            await self._writer.submit(_GIVE_REASON, (change, reason))
        return reason

    def unsubscribed(
        self, request: Request, token: str, person: Standing | None, reason: str = ""
    ) -> Response:
        """Show that someone is unsubscribed, or that we store nothing about them."""
        texts = self._theme.to(request)
        return texts.page(
            "unsubscribed.html",
            token=token,
            address=masked(person.address) if person else "",
            reasons=self.labels(texts),
            reason=reason,
        )

    def labels(self, texts: PageText) -> dict[str, str]:
        """Return the reasons on offer in the language of a page."""
        return {reason: texts.say(label) for reason, label in self.reasons.items()}

    def _person(self, subject: Subject) -> Standing | None:
        with self._database.reading() as connection:
            return standing(connection, subject.subscriber_id)


def origin_of(request: Request, subject: Subject, way: str, note: str = "") -> Origin:
    """Return the ledger's details of a change on the page of a token."""
    return Origin(way, ip=client_ip(request), issue_id=subject.issue_id or None, note=note)


async def options(request: Request) -> Response:
    """Answer OPTIONS with the methods of a token's page."""
    return Response(status_code=204, headers={"allow": "GET, HEAD, POST, OPTIONS"})
