"""`/u/TOKEN`: leaving at once, and saying why if one likes.

GET and HEAD only show, since scanners follow the links in mail. What changes something is a POST:
the one-click of a mailbox provider (RFC 8058), or the button of our own page. The token is all the
authority there is: no cookie, no login, no expiry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mailer.audience import preferences
from mailer.audience.ledger import Change, Origin, unsubscribe_all
from mailer.audience.preferences import Standing, standing
from mailer.catalogue import marked
from mailer.database.models import SubscriberStatus
from mailer.database.session import Database
from mailer.delivery import letters
from mailer.delivery.letters import LetterKind
from mailer.tokens import Signer, Subject
from mailer.web.forms import client_ip, fields_of
from mailer.web.theme import PageText, Theme, masked
from mailer.web.writer import Writer

REASONS: Final = {
    "too-many": marked("Too many mails"),
    "not-relevant": marked("It does not interest me any more"),
    "never-signed-up": marked("I never signed up for it"),
    "other": marked("Something else"),
}


class UnsubscribeRoutes:
    """The routes of `/u/`. `reasons` are what people choose from, with the words of the page.

    With `goodbye` who leaves by a page gets a letter; `call` says that one waits.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        theme: Theme,
        writer: Writer,
        call: Callable[[], None],
        *,
        reasons: Mapping[str, str],
        goodbye: bool,
    ) -> None:
        self.reasons = reasons
        self._goodbye = goodbye
        self._call = call
        self._database = database
        self._signer = signer
        self._theme = theme
        self._writer = writer

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/u/{token}", self.ask, methods=["GET", "HEAD"])
        router.routes.append(Route("/u/{token}", options, methods=["OPTIONS"]))
        return router

    def one_click(self) -> Route:
        """Return the route of the POST that unsubscribes; it belongs before all others.

        A send to many brings a burst of these, and what FastAPI does for each request would cost more
        than all that is done here.
        """
        return Route("/u/{token}", self.leave, methods=["POST"])

    def ask(self, request: Request, token: str) -> Response:
        """Show the page with the button. Changes nothing, however often it is fetched."""
        person = self._person(self._signer.read_link(token))
        if person is None or person.status is SubscriberStatus.UNSUBSCRIBED:
            return self.left(request, token, person)
        texts = self._theme.to(request)
        return texts.page(
            "unsubscribe.html", token=token, address=masked(person.address), reasons=self.said_in(texts)
        )

    async def leave(self, request: Request) -> Response:
        """Unsubscribe at once; the answer is sent when it is on the disk. Doing it twice is fine."""
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        fields = await fields_of(request)
        one_click = fields.get("List-Unsubscribe", "").strip().lower() == "one-click"
        if not one_click and fields.get("confirm") != "yes":
            # RFC 8058 section 3.2 names the one body that asks for it; a stray POST is not a wish.
            texts = self._theme.to(request)
            return texts.notice(
                400, texts.say("Nothing was changed"), texts.say("The request did not ask to unsubscribe.")
            )
        if one_click:
            await self.unsubscribe(request, subject, "one-click")
            return PlainTextResponse("Unsubscribed.\n")
        reason = await self.unsubscribe(request, subject, "page", fields.get("reason", ""))
        return self.left(request, token, await asyncio.to_thread(self._person, subject), reason)

    async def unsubscribe(self, request: Request, subject: Subject, way: str, reason: str = "") -> str:
        """Take somebody off, on the disk, and return the reason that was kept; one not on offer is not.

        Who has left before may still say why.
        """
        reason = reason if reason in self.reasons else ""
        origin = origin_of(request, subject, way, preferences.reason_note(reason))
        change = Change(subject.subscriber_id, origin, datetime.now(UTC))
        # A mail program's one click is answered by no more mail.
        with_letter = self._goodbye and way == "page"
        if with_letter:
            leaving = self._writer.submit(_leave_with_goodbye, (change, self._theme.to(request).language))
        else:
            leaving = self._writer.submit(unsubscribe_all, change)
        changed = await leaving
        if changed and with_letter:
            self._call()
        if reason and not changed:
            await self._writer.submit(_give_reason, (change, reason))
        return reason

    def left(self, request: Request, token: str, person: Standing | None, reason: str = "") -> Response:
        """Show that somebody has left, or that nothing is kept of them."""
        texts = self._theme.to(request)
        return texts.page(
            "unsubscribed.html",
            token=token,
            address=masked(person.address) if person else "",
            reasons=self.said_in(texts),
            reason=reason,
        )

    def said_in(self, texts: PageText) -> dict[str, str]:
        """Return the reasons on offer as a page says them."""
        return {reason: texts.say(label) for reason, label in self.reasons.items()}

    def _person(self, subject: Subject) -> Standing | None:
        with self._database.reading() as session:
            return standing(session, subject.subscriber_id)


def origin_of(request: Request, subject: Subject, way: str, note: str = "") -> Origin:
    """Return what the ledger says of an act on a page that a token opens."""
    return Origin(way, ip=client_ip(request), issue_id=subject.issue_id or None, note=note)


async def options(request: Request) -> Response:
    """Name the methods of a token's page."""
    return Response(status_code=204, headers={"allow": "GET, HEAD, POST, OPTIONS"})


def _give_reason(session: Session, reasons: Sequence[tuple[Change, str]]) -> list[bool]:
    return [
        preferences.give_reason(session, one.subscriber_id, reason, origin=one.origin, at=one.at)
        for one, reason in reasons
    ]


def _leave_with_goodbye(session: Session, changes: Sequence[tuple[Change, str]]) -> list[bool]:
    """Do what `unsubscribe_all` does, with a letter in their language to each who has left by it."""
    outcomes = unsubscribe_all(session, [change for change, _ in changes])
    for (change, language), left in zip(changes, outcomes, strict=True):
        if left:
            letters.put(session, change.subscriber_id, LetterKind.GOODBYE, at=change.at, language=language)
    return outcomes
