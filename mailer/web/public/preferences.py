"""`/p/TOKEN`: where subscribers change their settings and get, or delete, their data.

GET changes nothing. Each change is a line in the ledger. Downloading and deleting data ask for the whole
address, because people forward emails together with their links.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter
from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mailer.address import parse_address
from mailer.audience import preferences
from mailer.audience.preferences import Standing, standing
from mailer.audience.privacy import erasing
from mailer.audience.privacy.personal_data import personal_data
from mailer.audience.transitions import SubscriberRequest
from mailer.catalogue import marked
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.errors import AddressError
from mailer.tokens import Signer, Subject
from mailer.web.forms import fields_of
from mailer.web.public.unsubscribe import UnsubscribeRoutes, options, origin_of
from mailer.web.public.wording import wording
from mailer.web.theme import Theme, masked, name_problem
from mailer.web.writer import Work, Writer, each

WEEKS: Final = (2, 4, 8, 12, 26)
_PROOFS: Final = RateLimitItemPerHour(10)
"""Addresses typed as a proof, for one subscriber."""
_CHANGES: Final = RateLimitItemPerHour(60)
"""Changes by one subscriber; each is a line in the ledger. Unsubscribing has no limit."""


_STATUS: Final = {
    SubscriberStatus.PENDING: marked("Waiting for your confirmation"),
    SubscriberStatus.ACTIVE: marked("Subscribed"),
    SubscriberStatus.UNSUBSCRIBED: marked("Unsubscribed"),
    SubscriberStatus.BOUNCED: marked("Emails to this address came back, so we stopped sending"),
    SubscriberStatus.COMPLAINED: marked("Our email was reported as spam, so we stopped sending"),
}


def _work(act: Callable[..., bool]) -> Work[tuple[SubscriberRequest, dict[str, Any]], bool]:
    """Return work for the writer that calls a function of `audience.preferences` for each change."""

    def do(connection: Connection, asked: tuple[SubscriberRequest, dict[str, Any]]) -> bool:
        change, values = asked
        return act(connection, change.subscriber_id, origin=change.origin, at=change.at, **values)

    return each(do)


_RESUBSCRIBE: Final = _work(preferences.resubscribe)
_RENAME: Final = _work(preferences.rename)
_CHOOSE_TAGS: Final = _work(preferences.choose_tags)
_PAUSE: Final = _work(preferences.pause)
_ALLOW_TRACKING: Final = _work(preferences.allow_tracking)


class PreferencesRoutes:
    """The routes of `/p/`. `tags` maps tags on offer to labels; `tracked` is whether anything is tracked."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        theme: Theme,
        writer: Writer,
        unsubscribing: UnsubscribeRoutes,
        *,
        tags: Mapping[str, str],
        tracked: bool,
    ) -> None:
        self._database = database
        self._signer = signer
        self._theme = theme
        self._writer = writer
        self._unsubscribing = unsubscribing
        self._tags = tags
        self._tracked = tracked
        secret = database.secrets()[0]
        self._erase: Work[Standing, None] = each(
            lambda connection, person: _erase(connection, person, secret=secret)
        )
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/p/{token}", self.show, methods=["GET", "HEAD"])
        router.add_api_route("/p/{token}/data", self.ask_data, methods=["GET", "HEAD"])
        router.add_api_route("/p/{token}/erase", self.ask_erase, methods=["GET", "HEAD"])
        for path, act in (
            ("/p/{token}", self.change),
            ("/p/{token}/pause", self.pause),
            ("/p/{token}/tracking", self.tracking),
            ("/p/{token}/data", self.data),
            ("/p/{token}/erase", self.erase),
        ):
            router.routes.append(Route(path, act, methods=["POST"]))
        router.routes.append(Route("/p/{token}", options, methods=["OPTIONS"]))
        return router

    def show(self, request: Request, token: str) -> Response:
        """Show a subscriber's settings."""
        return self._preferences(request, token, self._signer.read_link(token))

    async def change(self, request: Request) -> Response:
        """Make the change that the page's form asks for, and show the page again."""
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        texts = self._theme.to(request)
        fields = await fields_of(request)
        status = 200
        match fields.get("action"):
            case "unsubscribe":
                await self._unsubscribing.unsubscribe(request, subject, "page", fields.get("reason", ""))
                done = texts.say("You are unsubscribed.")
            case "subscribe":
                back = await self._write(request, _RESUBSCRIBE, agreeing="return")
                status = 200 if back else 409
                done = texts.say("You are subscribed again.") if back else texts.say("Nothing was changed.")
            case "name":
                status, done = await self._rename(request, fields.get("name", "").strip())
            case "tags":
                chosen = {tag for tag in self._tags if fields.get(f"tag:{tag}") == "yes"}
                await self._choose_tags(request, chosen)
                done = texts.say("Your choice is saved.")
            case _:
                return texts.notice(
                    400,
                    texts.say("Nothing was changed"),
                    texts.say("The request did not say what to change."),
                )
        return await asyncio.to_thread(self._preferences, request, token, subject, done=done, status=status)

    async def pause(self, request: Request) -> Response:
        """Pause for some weeks; with 0 weeks, end the pause."""
        token = request.path_params["token"]
        self._signer.read_link(token)
        weeks = (await fields_of(request)).get("weeks", "")
        if weeks not in map(str, (0, *WEEKS)):
            texts = self._theme.to(request)
            return texts.notice(
                400, texts.say("Nothing was changed"), texts.say("The request did not say for how long.")
            )
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(weeks=int(weeks))
        await self._write(request, _PAUSE, {"until": until if weeks != "0" else None})
        return RedirectResponse(f"/p/{token}", 303)

    async def tracking(self, request: Request) -> Response:
        """Allow or stop tracking this person's clicks and opens."""
        token = request.path_params["token"]
        self._signer.read_link(token)
        if not self._tracked:
            # Such consent would take effect once tracking is turned on, although nobody agreed to it.
            texts = self._theme.to(request)
            return texts.notice(
                409, texts.say("Nothing was changed"), texts.say("We do not track opens or clicks.")
            )
        allowed = (await fields_of(request)).get("tracking") == "yes"
        agreeing = "tracking" if allowed else ""
        await self._write(request, _ALLOW_TRACKING, {"allowed": allowed}, agreeing=agreeing)
        return RedirectResponse(f"/p/{token}", 303)

    def ask_data(self, request: Request, token: str) -> Response:
        """Ask for the address before showing the data."""
        return self._proof(request, "data", token, self._person(self._signer.read_link(token)))

    def ask_erase(self, request: Request, token: str) -> Response:
        """Ask for the address before deleting the data."""
        return self._proof(request, "erase", token, self._person(self._signer.read_link(token)))

    async def data(self, request: Request) -> Response:
        """Return everything stored about a person, to someone who knows the address."""
        token, subject, person, typed, problem = await self._proven(request)
        if person is None or problem:
            return self._proof(request, "data", token, person, typed, problem)
        content = await asyncio.to_thread(self._personal_data, subject)
        headers = {"content-disposition": 'attachment; filename="my-data.json"'}
        return Response(content, media_type="application/json", headers=headers)

    async def erase(self, request: Request) -> Response:
        """Delete a person's data, for someone who knows the address."""
        token, _, person, typed, problem = await self._proven(request)
        if person is None or problem:
            return self._proof(request, "erase", token, person, typed, problem)
        await self._writer.submit(self._erase, person)
        texts = self._theme.to(request)
        return texts.notice(
            200,
            texts.say("Your data is deleted"),
            texts.say(
                "You get no more emails from us. The only trace of your address that we keep is a code that "
                "cannot be turned back into it; it keeps the address from being added again."
            ),
        )

    async def _write(
        self,
        request: Request,
        work: Work[tuple[SubscriberRequest, dict[str, Any]], bool],
        values: dict[str, Any] | None = None,
        *,
        agreeing: str = "",
    ) -> bool:
        """Make a change for the subscriber of a request; return whether anything changed.

        `agreeing` is the form by which the subscriber consents, if any.
        """
        subject = self._signer.read_link(request.path_params["token"])
        if not self._limiter.hit(_CHANGES, "change", str(subject.subscriber_id)):
            raise HTTPException(429, headers={"retry-after": "3600"})
        origin = origin_of(request, subject, "page")
        if agreeing:
            said = wording(self._theme.to(request), agreeing)
            origin = replace(origin, form=agreeing, wording=said)
        change = SubscriberRequest(subject.subscriber_id, origin, datetime.now(UTC))
        return await self._writer.submit(work, (change, values or {}))

    async def _rename(self, request: Request, name: str) -> tuple[int, str]:
        texts = self._theme.to(request)
        if problem := name_problem(texts, name):
            return 400, problem
        await self._write(request, _RENAME, {"name": name})
        return 200, texts.say("Your name is saved.")

    async def _choose_tags(self, request: Request, chosen: Collection[str]) -> None:
        await self._write(request, _CHOOSE_TAGS, {"chosen": chosen, "offered": frozenset(self._tags)})

    def _preferences(
        self, request: Request, token: str, subject: Subject, *, done: str = "", status: int = 200
    ) -> Response:
        person = self._person(subject)
        if person is None:
            return self._unsubscribing.unsubscribed(request, token, None)
        texts = self._theme.to(request)
        return texts.page(
            "preferences.html",
            status=status,
            token=token,
            address=masked(person.address),
            person=person,
            offered={tag: texts.say(label) for tag, label in self._tags.items()},
            can_pause=person.status is SubscriberStatus.ACTIVE,
            paused_until=_if_future(person.paused_until),
            weeks=WEEKS,
            tracked=self._tracked,
            standing=texts.say(_STATUS[person.status]),
            can_leave=person.status in (SubscriberStatus.ACTIVE, SubscriberStatus.PENDING),
            can_return=person.status is SubscriberStatus.UNSUBSCRIBED,
            reasons=self._unsubscribing.labels(texts),
            done=done,
            problem=done if status != 200 else "",
            bad_name=status == 400,
        )

    def _person(self, subject: Subject) -> Standing | None:
        with self._database.reading() as connection:
            return standing(connection, subject.subscriber_id)

    def _personal_data(self, subject: Subject) -> str:
        with self._database.reading() as connection:
            data = personal_data(connection, subject.subscriber_id)
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"

    def _proof(
        self,
        request: Request,
        kind: str,
        token: str,
        person: Standing | None,
        typed: str = "",
        problem: str = "",
    ) -> Response:
        if person is None:
            return self._unsubscribing.unsubscribed(request, token, None)
        return self._theme.to(request).page(
            "proof.html",
            status=403 if problem else 200,
            kind=kind,
            token=token,
            address=masked(person.address),
            typed=typed,
            problem=problem,
        )

    async def _proven(self, request: Request) -> tuple[str, Subject, Standing | None, str, str]:
        """Return the token, its subject, the subscriber, the typed address, and its problem."""
        token = request.path_params["token"]
        subject = self._signer.read_link(token)
        typed = (await fields_of(request)).get("email", "").strip()
        texts = self._theme.to(request)
        person = await asyncio.to_thread(self._person, subject)
        if not self._limiter.hit(_PROOFS, str(subject.subscriber_id)):
            return token, subject, person, typed, texts.say("Too many attempts. Please try again in an hour.")
        try:
            right = person is not None and parse_address(typed).key == person.address_key
        except AddressError:
            right = False
        problem = "" if right else texts.say("This is not the address of this subscription.")
        return token, subject, person, typed, problem


def _if_future(until: datetime | None) -> datetime | None:
    return until if until is not None and until > datetime.now(UTC) else None


def _erase(connection: Connection, person: Standing, *, secret: bytes) -> None:
    erasing.erase(connection, parse_address(person.address), secret=secret, at=datetime.now(UTC), way="page")
