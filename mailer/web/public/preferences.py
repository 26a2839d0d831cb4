"""`/p/TOKEN`: where subscribers decide about their mail and their data.

GET only shows. Each change is a line in the ledger. What cannot be undone, or tells more than the page
does, asks for the whole address: mail is forwarded, and the links in it with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter
from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mailer.address import parse_address
from mailer.audience import preferences
from mailer.audience.ledger import Change, change_status
from mailer.audience.preferences import Standing, standing
from mailer.audience.privacy import erasing
from mailer.catalogue import marked
from mailer.database.models import SubscriberStatus
from mailer.database.session import Database
from mailer.errors import AddressError
from mailer.tokens import Signer, Subject
from mailer.web.forms import fields_of
from mailer.web.public.unsubscribe import UnsubscribeRoutes, options, origin_of
from mailer.web.public.wording import wording
from mailer.web.theme import Theme, masked, name_problem
from mailer.web.writer import Work, Writer

WEEKS: Final = (2, 4, 8, 12, 26)
_PROOFS: Final = RateLimitItemPerHour(10)
"""Addresses typed as a proof, for one subscriber."""
_CHANGES: Final = RateLimitItemPerHour(60)
"""Changes of one subscriber, each a line in the ledger; to leave is never among them."""


_STANDING: Final = {
    SubscriberStatus.PENDING: marked("Waiting for your confirmation"),
    SubscriberStatus.ACTIVE: marked("Subscribed"),
    SubscriberStatus.UNSUBSCRIBED: marked("Unsubscribed"),
    SubscriberStatus.BOUNCED: marked("Mail to this address came back, so we stopped"),
    SubscriberStatus.COMPLAINED: marked("Our mail was reported as unwanted, so we stopped"),
}


class PreferencesRoutes:
    """The routes of `/p/`. `tags` are on offer, with their labels; `tracked` is whether anything is."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        theme: Theme,
        writer: Writer,
        leaving: UnsubscribeRoutes,
        *,
        tags: Mapping[str, str],
        tracked: bool,
    ) -> None:
        self._database = database
        self._signer = signer
        self._theme = theme
        self._writer = writer
        self._leaving = leaving
        self._tags = tags
        self._tracked = tracked
        self._erasure_secret = database.secrets()[0]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/p/{token}", self.show, methods=["GET", "HEAD"])
        router.add_api_route("/p/{token}/data", self.ask_data, methods=["GET", "HEAD"])
        router.add_api_route("/p/{token}/erase", self.ask_erase, methods=["GET", "HEAD"])
        for path, act in (
            ("/p/{token}", self.prefer),
            ("/p/{token}/pause", self.pause),
            ("/p/{token}/tracking", self.tracking),
            ("/p/{token}/data", self.give_data),
            ("/p/{token}/erase", self.erase),
        ):
            router.routes.append(Route(path, act, methods=["POST"]))
        router.routes.append(Route("/p/{token}", options, methods=["OPTIONS"]))
        return router

    def show(self, request: Request, token: str) -> Response:
        """Show where the subscriber stands and what they can change."""
        return self._preferences(request, token, self._signer.read_link(token))

    async def prefer(self, request: Request) -> Response:
        """Change what the page asked for, and show it anew."""
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        texts = self._theme.to(request)
        fields = await fields_of(request)
        status = 200
        match fields.get("action"):
            case "unsubscribe":
                await self._leaving.unsubscribe(request, subject, "page", fields.get("reason", ""))
                done = texts.say("You are unsubscribed.")
            case "subscribe":
                back = await self._write(request, _bring_back, None, agreeing="return")
                status = 200 if back else 409
                done = texts.say("You are subscribed again.") if back else texts.say("Nothing was changed.")
            case "name":
                status, done = await self._rename(request, fields.get("name", "").strip())
            case "tags":
                chosen = frozenset(tag for tag in self._tags if fields.get(f"tag:{tag}") == "yes")
                await self._write(request, _choose, (chosen, frozenset(self._tags)))
                done = texts.say("Your choice is saved.")
            case _:
                return texts.notice(
                    400,
                    texts.say("Nothing was changed"),
                    texts.say("The request did not say what to change."),
                )
        return await asyncio.to_thread(self._preferences, request, token, subject, done=done, status=status)

    async def pause(self, request: Request) -> Response:
        """Send nothing for some weeks; for 0 weeks, end the pause."""
        token = request.path_params["token"]
        self._signer.read_link(token)
        weeks = (await fields_of(request)).get("weeks", "")
        if weeks not in map(str, (0, *WEEKS)):
            texts = self._theme.to(request)
            return texts.notice(
                400, texts.say("Nothing was changed"), texts.say("The request did not say for how long.")
            )
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(weeks=int(weeks))
        await self._write(request, _pause, until if weeks != "0" else None)
        return RedirectResponse(f"/p/{token}", 303)

    async def tracking(self, request: Request) -> Response:
        """Allow or forbid that clicks and opens are noted for the person."""
        token = request.path_params["token"]
        self._signer.read_link(token)
        if not self._tracked:
            # A consent to what is not done would count once it is, and nobody would have asked.
            texts = self._theme.to(request)
            return texts.notice(
                409, texts.say("Nothing was changed"), texts.say("Opens and clicks are not noted here.")
            )
        allowed = (await fields_of(request)).get("tracking") == "yes"
        await self._write(request, _allow_tracking, allowed, agreeing="tracking" if allowed else "")
        return RedirectResponse(f"/p/{token}", 303)

    def ask_data(self, request: Request, token: str) -> Response:
        """Show what is asked before the data are given."""
        return self._proof(request, "data", token, self._person(self._signer.read_link(token)))

    def ask_erase(self, request: Request, token: str) -> Response:
        """Show what is asked before the data are erased."""
        return self._proof(request, "erase", token, self._person(self._signer.read_link(token)))

    async def give_data(self, request: Request) -> Response:
        """Give out all that is kept of the person, to who knows the address."""
        token, subject, person, problem = await self._proven(request)
        if person is None or problem:
            return self._proof(request, "data", token, person, problem)
        content = await asyncio.to_thread(self._data, subject)
        headers = {"content-disposition": 'attachment; filename="my-data.json"'}
        return Response(content, media_type="application/json", headers=headers)

    async def erase(self, request: Request) -> Response:
        """Erase the person, if who asks knows the address."""
        token, _, person, problem = await self._proven(request)
        if person is None or problem:
            return self._proof(request, "erase", token, person, problem)
        erased = (person.address, self._erasure_secret, datetime.now(UTC))
        await self._writer.submit(_erase, erased)
        return self._proof(request, "erase", token, None)

    async def _write(
        self, request: Request, work: Work[tuple[Change, Any], bool], wish: object, *, agreeing: str = ""
    ) -> bool:
        """Write what the person of a request wants; return whether that changed anything.

        `agreeing` names the form, if they agree to something by it.
        """
        subject = self._signer.read_link(request.path_params["token"])
        if not self._limiter.hit(_CHANGES, "change", str(subject.subscriber_id)):
            raise HTTPException(429, headers={"retry-after": "3600"})
        origin = origin_of(request, subject, "page")
        if agreeing:
            said = wording(self._theme.to(request), agreeing)
            origin = replace(origin, form=agreeing, wording=said)
        change = Change(subject.subscriber_id, origin, datetime.now(UTC))
        return await self._writer.submit(work, (change, wish))

    async def _rename(self, request: Request, name: str) -> tuple[int, str]:
        texts = self._theme.to(request)
        if problem := name_problem(texts, name):
            return 400, problem
        await self._write(request, _rename, name)
        return 200, texts.say("Your name is saved.")

    def _preferences(
        self, request: Request, token: str, subject: Subject, *, done: str = "", status: int = 200
    ) -> Response:
        person = self._person(subject)
        if person is None:
            return self._leaving.left(request, token, None)
        texts = self._theme.to(request)
        return texts.page(
            "preferences.html",
            status=status,
            token=token,
            address=masked(person.address),
            person=person,
            offered={tag: texts.say(label) for tag, label in self._tags.items()},
            can_pause=person.status is SubscriberStatus.ACTIVE,
            paused_until=_still(person.paused_until),
            weeks=WEEKS,
            tracked=self._tracked,
            standing=texts.say(_STANDING[person.status]),
            can_leave=person.status in (SubscriberStatus.ACTIVE, SubscriberStatus.PENDING),
            can_return=person.status is SubscriberStatus.UNSUBSCRIBED,
            reasons=self._leaving.said_in(texts),
            done=done,
            problem=done if status != 200 else "",
            bad_name=status == 400,
        )

    def _person(self, subject: Subject) -> Standing | None:
        with self._database.reading() as session:
            return standing(session, subject.subscriber_id)

    def _data(self, subject: Subject) -> str:
        with self._database.reading() as session:
            data = preferences.personal_data(session, subject.subscriber_id)
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"

    def _proof(
        self, request: Request, kind: str, token: str, person: Standing | None, problem: str = ""
    ) -> Response:
        if person is None:
            return self._leaving.left(request, token, None)
        status = 403 if problem else 200
        return self._theme.to(request).page(
            "proof.html",
            status=status,
            kind=kind,
            token=token,
            address=masked(person.address),
            problem=problem,
        )

    async def _proven(self, request: Request) -> tuple[str, Subject, Standing | None, str]:
        """Return whom a request is about, and what is wrong with the address that was typed."""
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        typed = (await fields_of(request)).get("email", "").strip()
        texts = self._theme.to(request)
        person = await asyncio.to_thread(self._person, subject)
        if not self._limiter.hit(_PROOFS, str(subject.subscriber_id)):
            return token, subject, person, texts.say("That was tried too often. Please try again in an hour.")
        try:
            right = person is not None and parse_address(typed).key == person.address_key
        except AddressError:
            right = False
        return (
            token,
            subject,
            person,
            "" if right else texts.say("That is not the address of this subscription."),
        )


def _still(until: datetime | None) -> datetime | None:
    return until if until is not None and until > datetime.now(UTC) else None


def _bring_back(session: Session, changes: Sequence[tuple[Change, None]]) -> list[bool]:
    """Bring back who left by their own will; an address that bounced must confirm anew."""
    outcomes: list[bool] = []
    for one, _ in changes:
        person = standing(session, one.subscriber_id)
        outcomes.append(
            person is not None
            and person.status is SubscriberStatus.UNSUBSCRIBED
            and change_status(session, person.id, SubscriberStatus.ACTIVE, origin=one.origin, at=one.at)
        )
    return outcomes


def _rename(session: Session, names: Sequence[tuple[Change, str]]) -> list[bool]:
    return [
        preferences.rename(session, one.subscriber_id, name, origin=one.origin, at=one.at)
        for one, name in names
    ]


def _choose(
    session: Session, choices: Sequence[tuple[Change, tuple[frozenset[str], frozenset[str]]]]
) -> list[bool]:
    return [
        preferences.choose_tags(
            session, one.subscriber_id, chosen, offered=offered, origin=one.origin, at=one.at
        )
        for one, (chosen, offered) in choices
    ]


def _pause(session: Session, pauses: Sequence[tuple[Change, datetime | None]]) -> list[bool]:
    return [
        preferences.pause(session, one.subscriber_id, until, origin=one.origin, at=one.at)
        for one, until in pauses
    ]


def _allow_tracking(session: Session, consents: Sequence[tuple[Change, bool]]) -> list[bool]:
    return [
        preferences.allow_tracking(session, one.subscriber_id, allowed, origin=one.origin, at=one.at)
        for one, allowed in consents
    ]


def _erase(session: Session, people: Sequence[tuple[str, bytes, datetime]]) -> list[None]:
    for address, secret, at in people:
        erasing.erase(session, parse_address(address), secret=secret, at=at, way="page")
    return [None] * len(people)
