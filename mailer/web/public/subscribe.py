"""`/subscribe` and `/confirm/TOKEN`: double opt-in sign-up.

The form stores the request and gives every address the same answer; nothing is looked up before that, so
neither the page nor its timing shows who is subscribed. A thread then sends one confirmation letter, at
most one a day to each address. The link in the letter only shows a page, because scanners follow links
in email; the button on that page confirms.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mailer.address import Address, parse_address
from mailer.audience.subscribers import get
from mailer.audience.transitions import Origin, SubscriberRequest
from mailer.catalogue import marked
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.delivery import sign_up
from mailer.delivery.sign_up import NewSignUp
from mailer.errors import AddressError, StorageError
from mailer.tasks import Task, Tasks
from mailer.tokens import Signer
from mailer.web.failures import NOT_SAVED, TRY_AGAIN
from mailer.web.forms import client_ip, fields_of
from mailer.web.public.admission import Admission
from mailer.web.public.wording import wording
from mailer.web.theme import PageText, Theme, name_problem
from mailer.web.writer import Writer

# The field `form` starts with this in the form for other websites; its language follows.
_EMBEDDED: Final = "embedded-"
# RFC 6454 section 7; "null" names no origin.
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,200}")
_LOOK_SECONDS: Final = 60.0
"""How often to look for requests that another process has stored."""
_BAD_ADDRESS: Final = marked("This is not a valid email address. It should look like jo@example.org.")
_log = logging.getLogger(__name__)


class SubscribeRoutes:
    """The routes of `/subscribe` and `/confirm/`.

    `admission` refuses addresses and limits requests. `wake_sender` is called when a letter is waiting.
    With `welcome`, a confirmed subscriber gets a letter.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        theme: Theme,
        writer: Writer,
        admission: Admission,
        wake_sender: Callable[[], None],
        *,
        welcome: bool,
    ) -> None:
        self._database = database
        self._signer = signer
        self._theme = theme
        self._writer = writer
        self._wake_sender = wake_sender
        self._welcome = welcome
        self._erasure_secret = database.secrets()[0]
        self._admission = admission
        self._answering: Task | None = None

    def start(self, tasks: Tasks) -> None:
        """Start answering requests, including those that an earlier process left behind."""
        self._answering = tasks.start("sign-ups", self._answer, every_seconds=_LOOK_SECONDS)

    def close(self) -> None:
        """Stop; requests that were stored a moment ago are answered after the next start."""
        if self._answering is not None:
            self._answering.close()

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/subscribe", self.form, methods=["GET", "HEAD"])
        router.routes.append(Route("/subscribe", self.request, methods=["POST"]))
        router.add_api_route("/confirm/{token}", self.confirmation, methods=["GET", "HEAD"])
        router.routes.append(Route("/confirm/{token}", self.confirm, methods=["POST"]))
        return router

    def form(self, request: Request) -> Response:
        """Show the form."""
        return _form(self._theme.to(request), "", "", "")

    async def request(self, request: Request) -> Response:
        """Store a sign-up request. Every address gets the same answer, once the request is on disk."""
        texts = self._theme.to(request)
        fields = await fields_of(request)
        typed, name = fields.get("email", "").strip(), fields.get("name", "").strip()
        try:
            address = parse_address(typed)
        except AddressError:
            return _form(texts, typed, name, texts.say(_BAD_ADDRESS), 400, faulty="email")
        if problem := self._admission.problem(address):
            return _form(texts, typed, name, texts.say(problem), 400, faulty="email")
        if problem := name_problem(texts, name):
            return _form(texts, typed, name, problem, 400, faulty="name")
        if not (self._admission.take_client(client_ip(request)) and self._admission.take_letter(address)):
            raise HTTPException(429, headers={"retry-after": "3600"})
        # People do not see this field and leave it empty; bots fill it in.
        if not fields.get("website"):
            origin = self._origin(request, texts, fields.get("form", ""))
            stored = NewSignUp(address, origin, datetime.now(UTC), name, texts.language)
            try:
                await self._writer.submit(sign_up.store_requests, stored)
            except StorageError as error:
                _log.error("%s", error)
                return _not_stored(texts, typed, name)
            self._wake_answering()
        return texts.notice(
            200,
            texts.say("Check your inbox"),
            texts.say(
                "If this address can be subscribed, an email is on its way to it. "
                "Open the link in it to confirm."
            ),
        )

    def _origin(self, request: Request, texts: PageText, form: str) -> Origin:
        """Return the ledger's details of a request: the form and the website it was on."""
        ip = client_ip(request)
        if not form.startswith(_EMBEDDED):
            ours = "box" if form == "box" else "subscribe"
            return Origin("form", ip=ip, form=ours, wording=wording(texts, ours))
        said = wording(self._theme.speaking(form.removeprefix(_EMBEDDED)[:20]), "embedded")
        page = request.headers.get("origin", "")
        note = f"on a page of {page}" if _ORIGIN.fullmatch(page) else ""
        return Origin("form", ip=ip, form="embedded", wording=said, note=note)

    def confirmation(self, request: Request, token: str) -> Response:
        """Show the button that confirms. Changes nothing."""
        subject = self._signer.read_confirmation(token)
        with self._database.reading() as connection:
            person = get(connection, subject.subscriber_id)
        if person is None or person.status is SubscriberStatus.ERASED:
            raise HTTPException(404)
        return self._theme.to(request).page("confirm.html", token=token)

    async def confirm(self, request: Request) -> Response:
        """Make the subscriber active. Confirming again is harmless."""
        subject = self._signer.read_confirmation(request.path_params["token"])
        texts = self._theme.to(request)
        if (await fields_of(request)).get("confirm") != "yes":
            return texts.notice(
                400, texts.say("Nothing was changed"), texts.say("The request did not confirm anything.")
            )
        origin = Origin("form", ip=client_ip(request), form="confirm", wording=wording(texts, "confirm"))
        change = SubscriberRequest(subject.subscriber_id, origin, datetime.now(UTC))
        if not await self._writer.submit(
            sign_up.confirm, (change, texts.language if self._welcome else None)
        ):
            raise HTTPException(404)
        self._wake_sender()
        return texts.notice(
            200, texts.say("You are subscribed"), texts.say("The next issue will come to your inbox.")
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
        """Store a request that came through the API; return False if there were too many.

        Raises `AddressError` for an address that may not sign up.
        """
        if problem := self._admission.problem(address):
            raise AddressError(problem)
        if not self._admission.take_letter(address):
            return False
        at = datetime.now(UTC)
        with self._database.transaction() as connection:
            stored = NewSignUp(address, origin, at, name, attributes=attributes, tags=tags)
            sign_up.store_requests(connection, [stored])
        self._wake_answering()
        return True

    def _wake_answering(self) -> None:
        if self._answering is not None:
            self._answering.wake()

    def _answer(self) -> None:
        """Answer the stored requests."""
        if sign_up.answer_requests(self._database, secret=self._erasure_secret):
            self._wake_sender()


def _form(
    texts: PageText, address: str, name: str, problem: str, status: int = 200, *, faulty: str = ""
) -> Response:
    """Return the form; `faulty` is the field with the problem."""
    return texts.page(
        "subscribe.html", status=status, address=address, name=name, problem=problem, faulty=faulty
    )


def _not_stored(texts: PageText, address: str, name: str) -> Response:
    """Return the form as it was filled in, to be sent again while the database cannot be written."""
    problem = f"{texts.say(NOT_SAVED)} {texts.say(TRY_AGAIN)}"
    answer = _form(texts, address, name, problem, 503)
    answer.headers["retry-after"] = "60"
    return answer


def embedded_form(texts: PageText, public_url: str) -> str:
    """Return the form as HTML for the operator's own website."""
    return texts.rendered("embedded.html", url=public_url.rstrip("/"))
