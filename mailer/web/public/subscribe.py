"""`/subscribe` and `/confirm/TOKEN`: nobody is on the list who did not ask twice.

The form answers every address alike, known or not, and before anything is looked up: neither the
page nor its timing tells who is subscribed. What follows happens behind it, one request after the
other: a pending subscriber and one letter, at most one a day for an address. The letter's link only
shows a page; its button confirms, since scanners follow the links in mail.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mailer.address import Address, parse_address
from mailer.audience.ledger import Change, Origin, change_status
from mailer.audience.subscribers import add, find, get
from mailer.catalogue import marked
from mailer.database.models import SubscriberStatus
from mailer.database.session import Database
from mailer.delivery import letters
from mailer.delivery.letters import LetterKind
from mailer.errors import AddressError, MailerError
from mailer.tokens import Signer
from mailer.web.forms import client_ip, fields_of
from mailer.web.public.admission import Admission
from mailer.web.public.wording import wording
from mailer.web.theme import PageText, Theme, name_problem
from mailer.web.writer import Writer

# What the field `form` begins with in the form for other pages; its language follows.
_EMBEDDED: Final = "embedded-"
# RFC 6454 section 7; "null" says nothing.
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,200}")
_BETWEEN_LETTERS: Final = timedelta(hours=24)
_BAD_ADDRESS: Final = marked("No mail can reach this address. It should look like jo@example.org.")
_log = logging.getLogger(__name__)


class SubscribeRoutes:
    """The routes of `/subscribe` and `/confirm/`. `call` says that a letter waits.

    `admission` refuses who may not ask, or asks too often. `welcome` is whether who has confirmed gets a
    letter.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        theme: Theme,
        writer: Writer,
        admission: Admission,
        call: Callable[[], None],
        *,
        welcome: bool,
    ) -> None:
        self._database = database
        self._signer = signer
        self._theme = theme
        self._writer = writer
        self._call = call
        self._welcome = welcome
        self._erasure_secret = database.secrets()[0]
        self._admission = admission
        self._behind = ThreadPoolExecutor(1, "mailer-wishes")

    def close(self) -> None:
        """Note the wishes that were taken."""
        self._behind.shutdown()

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/subscribe", self.form, methods=["GET", "HEAD"])
        router.routes.append(Route("/subscribe", self.ask, methods=["POST"]))
        router.add_api_route("/confirm/{token}", self.confirmation, methods=["GET", "HEAD"])
        router.routes.append(Route("/confirm/{token}", self.confirm, methods=["POST"]))
        return router

    def form(self, request: Request) -> Response:
        """Show the form."""
        return _form(self._theme.to(request), "", "", "")

    async def ask(self, request: Request) -> Response:
        """Take a wish to subscribe; the answer is the same for every address."""
        texts = self._theme.to(request)
        fields = await fields_of(request)
        text, name = fields.get("email", "").strip(), fields.get("name", "").strip()
        try:
            address = parse_address(text)
        except AddressError:
            return _form(texts, text, name, texts.say(_BAD_ADDRESS), 400, faulty="email")
        if problem := self._admission.problem(address):
            return _form(texts, text, name, texts.say(problem), 400, faulty="email")
        if problem := name_problem(texts, name):
            return _form(texts, text, name, problem, 400, faulty="name")
        ip = client_ip(request)
        if not (self._admission.take_client(ip) and self._admission.take_letter(address)):
            return texts.notice(
                429, texts.say("Too many requests"), texts.say("Please try again in an hour.")
            )
        # People do not see this field and leave it empty; programs that fill in forms do not.
        if not fields.get("website"):
            origin = self._origin(request, texts, fields.get("form", ""))
            self._behind.submit(self._invite, address, name, origin, language=texts.language)
        return texts.notice(
            200,
            texts.say("Check your inbox"),
            texts.say(
                "If the address can be subscribed, a mail is on its way to it. "
                "Open the link in it to confirm."
            ),
        )

    def _origin(self, request: Request, texts: PageText, form: str) -> Origin:
        """Return what the ledger says of a wish: which form it was, and on whose page that stood."""
        ip = client_ip(request)
        if not form.startswith(_EMBEDDED):
            return Origin("form", ip=ip, form="subscribe", wording=wording(texts, "subscribe"))
        said = wording(self._theme.speaking(form.removeprefix(_EMBEDDED)[:20]), "embedded")
        page = request.headers.get("origin", "")
        note = f"on a page of {page}" if _ORIGIN.fullmatch(page) else ""
        return Origin("form", ip=ip, form="embedded", wording=said, note=note)

    def confirmation(self, request: Request, token: str) -> Response:
        """Show the button that confirms. Changes nothing."""
        subject = self._signer.read_confirmation(token)
        with self._database.reading() as session:
            person = get(session, subject.subscriber_id)
        if person is None or person.status is SubscriberStatus.ERASED:
            raise HTTPException(404)
        return self._theme.to(request).page("confirm.html", token=token)

    async def confirm(self, request: Request) -> Response:
        """Subscribe who confirmed; doing it twice is fine."""
        subject = self._signer.read_confirmation(request.path_params["token"])
        texts = self._theme.to(request)
        if (await fields_of(request)).get("confirm") != "yes":
            return texts.notice(
                400, texts.say("Nothing was changed"), texts.say("The request did not confirm anything.")
            )
        origin = Origin("form", ip=client_ip(request), form="confirm", wording=wording(texts, "confirm"))
        change = Change(subject.subscriber_id, origin, datetime.now(UTC))
        if not await self._writer.submit(_activate, (change, texts.language if self._welcome else None)):
            raise HTTPException(404)
        self._call()
        return texts.notice(
            200, texts.say("You are subscribed"), texts.say("The next issue comes to your mailbox.")
        )

    def invite(
        self,
        address: Address,
        name: str,
        origin: Origin,
        *,
        attributes: Mapping[str, Any],
        tags: tuple[str, ...],
    ) -> bool:
        """Take a wish that came by the API; False when too many letters were asked for.

        Raises `AddressError` for an address that may not sign up.
        """
        if problem := self._admission.problem(address):
            raise AddressError(problem)
        if not self._admission.take_letter(address):
            return False
        self._behind.submit(self._invite, address, name, origin, attributes, tags)
        return True

    def _invite(
        self,
        address: Address,
        name: str,
        origin: Origin,
        attributes: Mapping[str, Any] = MappingProxyType({}),
        tags: tuple[str, ...] = (),
        *,
        language: str = "",
    ) -> None:
        """Note the wish and let the letter wait. Runs behind the answer, so failures go to the log."""
        try:
            at = datetime.now(UTC)
            with self._database.transaction() as session:
                subscriber_id = self._pending(session, address, name, origin, at, attributes, tags)
                if subscriber_id is None:
                    return
                letters.put(session, subscriber_id, LetterKind.CONFIRMATION, at=at, language=language)
        except MailerError as error:
            _log.error("%s", error)
        except Exception:
            _log.exception("a wish to subscribe was not noted")
        else:
            self._call()

    def _pending(
        self,
        session: Session,
        address: Address,
        name: str,
        origin: Origin,
        at: datetime,
        attributes: Mapping[str, Any],
        tags: tuple[str, ...],
    ) -> int | None:
        """Return whom to write, or None: subscribed already, erased, or written to in the last day."""
        known = find(session, address)
        if known is None:
            added = add(
                session,
                address,
                secret=self._erasure_secret,
                origin=origin,
                at=at,
                name=name,
                attributes=attributes,
                tags=tags,
                status=SubscriberStatus.PENDING,
            )
            return added.subscriber_id
        # What a stranger typed into the form does not change what is known of a person.
        if known.status in (SubscriberStatus.ACTIVE, SubscriberStatus.ERASED):
            return None
        if letters.asked_since(session, known.id, LetterKind.CONFIRMATION, since=at - _BETWEEN_LETTERS):
            return None
        return known.id


def _form(
    texts: PageText, address: str, name: str, problem: str, status: int = 200, *, faulty: str = ""
) -> Response:
    """Return the form; `faulty` names the field that the problem is with."""
    return texts.page(
        "subscribe.html", status=status, address=address, name=name, problem=problem, faulty=faulty
    )


def embedded_form(texts: PageText, public_url: str) -> str:
    """Return the form as HTML for a page of the operator's own."""
    return texts.rendered("embedded.html", url=public_url.rstrip("/"))


def _activate(session: Session, changes: Sequence[tuple[Change, str | None]]) -> list[bool]:
    """Return for each whether they are subscribed now; the first time brings a letter in a language."""
    outcomes: list[bool] = []
    for one, language in changes:
        active = SubscriberStatus.ACTIVE
        changed = change_status(session, one.subscriber_id, active, origin=one.origin, at=one.at)
        if changed and language is not None:
            letters.put(session, one.subscriber_id, LetterKind.WELCOME, at=one.at, language=language)
        person = get(session, one.subscriber_id)
        outcomes.append(person is not None and person.status is active)
    return outcomes
