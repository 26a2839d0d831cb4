"""`/p/TOKEN/…`: pausing, tracking, one's own data, and being forgotten.

GET only shows. What cannot be undone, or tells more than the page does, asks for the whole address:
mail is forwarded, and the links in it with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter
from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mailer.address import parse_address
from mailer.audience import erasing, preferences
from mailer.audience.preferences import Standing, standing
from mailer.audience.subscribers import Origin
from mailer.database.session import Database
from mailer.errors import AddressError
from mailer.tokens import Signer, Subject
from mailer.web.forms import client_ip, fields_of
from mailer.web.look import Look, masked
from mailer.web.writer import Writer

WEEKS: Final = (2, 4, 8, 12, 26)
_PROOFS: Final = RateLimitItemPerHour(10)
"""Addresses typed as a proof, for one subscriber."""


@dataclass(frozen=True, slots=True)
class Act:
    """What one person does, when, and from where."""

    subscriber_id: int
    origin: Origin
    at: datetime


class Deciding:
    """The routes below `/p/TOKEN/`."""

    def __init__(self, database: Database, signer: Signer, look: Look, writer: Writer) -> None:
        self._database = database
        self._signer = signer
        self._look = look
        self._writer = writer
        self._erasure_secret = database.secrets()[0]
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/p/{token}/data", self.ask_data, methods=["GET", "HEAD"])
        router.add_api_route("/p/{token}/erase", self.ask_erase, methods=["GET", "HEAD"])
        for path, act in (
            ("/p/{token}/pause", self.pause),
            ("/p/{token}/tracking", self.tracking),
            ("/p/{token}/data", self.give_data),
            ("/p/{token}/erase", self.erase),
        ):
            router.routes.append(Route(path, act, methods=["POST"]))
        return router

    async def pause(self, request: Request) -> Response:
        """Send nothing for some weeks; for 0 weeks, end the pause."""
        token, act = self._act(request)
        weeks = (await fields_of(request)).get("weeks", "")
        if weeks not in map(str, (0, *WEEKS)):
            return self._look.notice(400, "Nothing was changed", "The request did not say for how long.")
        until = act.at.replace(microsecond=0) + timedelta(weeks=int(weeks)) if weeks != "0" else None
        await asyncio.wrap_future(self._writer.submit(_pause, (act, until)))
        return RedirectResponse(f"/p/{token}", 303)

    async def tracking(self, request: Request) -> Response:
        """Allow or forbid that clicks and opens are noted for the person."""
        token, act = self._act(request)
        allowed = (await fields_of(request)).get("tracking") == "yes"
        await asyncio.wrap_future(self._writer.submit(_allow_tracking, (act, allowed)))
        return RedirectResponse(f"/p/{token}", 303)

    def ask_data(self, token: str) -> Response:
        """Show what is asked before the data are given."""
        return self._proof("data", token, self._person(self._signer.read_link(token)))

    def ask_erase(self, token: str) -> Response:
        """Show what is asked before the data are erased."""
        return self._proof("erase", token, self._person(self._signer.read_link(token)))

    async def give_data(self, request: Request) -> Response:
        """Give out all that is kept of the person, to who knows the address."""
        token, subject, person, problem = await self._proven(request)
        if person is None or problem:
            return self._proof("data", token, person, problem)
        content = await asyncio.to_thread(self._data, subject)
        headers = {"content-disposition": 'attachment; filename="my-data.json"'}
        return Response(content, media_type="application/json", headers=headers)

    async def erase(self, request: Request) -> Response:
        """Erase the person, if who asks knows the address."""
        token, _, person, problem = await self._proven(request)
        if person is None or problem:
            return self._proof("erase", token, person, problem)
        erased = (person.address, self._erasure_secret, datetime.now(UTC))
        await asyncio.wrap_future(self._writer.submit(_erase, erased))
        return self._proof("erase", token, None)

    def _act(self, request: Request) -> tuple[str, Act]:
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        origin = Origin("page", ip=client_ip(request), issue_id=subject.issue_id or None)
        return token, Act(subject.subscriber_id, origin, datetime.now(UTC))

    def _person(self, subject: Subject) -> Standing | None:
        with self._database.reading() as session:
            return standing(session, subject.subscriber_id)

    def _data(self, subject: Subject) -> str:
        with self._database.reading() as session:
            data = preferences.personal_data(session, subject.subscriber_id)
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"

    def _proof(self, kind: str, token: str, person: Standing | None, problem: str = "") -> Response:
        if person is None:
            return self._look.page("unsubscribed.html", token=token, address="")
        status = 403 if problem else 200
        return self._look.page(
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
        person = await asyncio.to_thread(self._person, subject)
        if not self._limiter.hit(_PROOFS, str(subject.subscriber_id)):
            return token, subject, person, "That was tried too often. Please try again in an hour."
        try:
            right = person is not None and parse_address(typed).key == person.address_key
        except AddressError:
            right = False
        return token, subject, person, "" if right else "That is not the address of this subscription."


def _pause(session: Session, acts: Sequence[tuple[Act, datetime | None]]) -> list[bool]:
    return [
        preferences.pause(session, act.subscriber_id, until, origin=act.origin, at=act.at)
        for act, until in acts
    ]


def _allow_tracking(session: Session, acts: Sequence[tuple[Act, bool]]) -> list[bool]:
    return [
        preferences.allow_tracking(session, act.subscriber_id, allowed, origin=act.origin, at=act.at)
        for act, allowed in acts
    ]


def _erase(session: Session, people: Sequence[tuple[str, bytes, datetime]]) -> list[None]:
    for address, secret, at in people:
        erasing.erase(session, parse_address(address), secret=secret, at=at, way="page")
    return [None] * len(people)
