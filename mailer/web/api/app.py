"""`/api/v1`: manage a newsletter from other programs, with JSON and bearer tokens.

The API uses no cookies and allows no other origin (CORS): a token belongs on a server, not in a web page.
Errors are problem details (RFC 9457). No token can bring back people who unsubscribed, bounced,
complained or were erased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from mailer import api_tokens as tokens
from mailer.address import Address, parse_address
from mailer.api_tokens import Scope, Token
from mailer.audience import ledger, subscribers
from mailer.audience.fields import (
    MAX_NAME,
    MAX_TAG,
    MAX_TAGS,
    check_attributes,
    check_name,
    check_tags,
    check_value,
)
from mailer.audience.privacy.erasing import erase
from mailer.audience.segments import parse_segment
from mailer.audience.subscribers import AddResult, SubscriberView
from mailer.audience.transfer import exporting
from mailer.audience.transitions import Origin
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus
from mailer.web.api.issues import IssueRoutes
from mailer.web.api.messages import MessageRoutes
from mailer.web.api.metrics import MetricsRoutes
from mailer.web.api.problems import PROBLEMS, show_problems
from mailer.web.api.sequences import SequenceRoutes
from mailer.web.api.stats import StatisticsRoutes
from mailer.web.forms import client_ip, network

PREFIX: Final = "/api/v1"
_PER_TOKEN: Final = RateLimitItemPerMinute(1200)
_WRONG_TOKENS: Final = RateLimitItemPerMinute(30)
_MAX_PAGE: Final = 500
_MAX_ID: Final = 2**53

Attributes = Annotated[
    dict[str, Any],
    Field(description="Custom fields: text, numbers, booleans, lists.", examples=[{"country": "RO"}]),
]
Tag = Annotated[str, Field(min_length=1, max_length=MAX_TAG)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS, examples=[["vip", "gardening"]])]
Name = Annotated[str, Field(max_length=MAX_NAME, examples=["Ana Popescu"])]
Identifier = Annotated[int, Path(ge=1, le=_MAX_ID)]


class Invite(Protocol):
    """Stores a sign-up request; a confirmation letter follows.

    Returns False if there were too many requests. Raises `AddressError` for an address that may not sign up.
    """

    def __call__(
        self,
        address: Address,
        name: str,
        origin: Origin,
        *,
        attributes: Mapping[str, Any],
        tags: tuple[str, ...],
    ) -> bool: ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StatedConsent(_Body):
    """Where and when a person agreed, outside this program. The consent ledger keeps it."""

    source: Annotated[str, Field(min_length=1, max_length=500, examples=["The form on our shop's checkout"])]
    at: Annotated[AwareDatetime, Field(examples=["2026-03-02T09:00:00+02:00"])]
    ip: Annotated[str, Field(max_length=45, pattern=r"^[0-9A-Fa-f:.]*$", examples=["192.0.2.7"])] = ""


class NewSubscriber(_Body):
    """A person to add. Without `consent`, a letter asks them to confirm first."""

    address: Annotated[str, Field(min_length=3, max_length=320, examples=["ana@example.com"])]
    name: Name = ""
    attributes: Attributes = {}
    tags: Tags = []
    consent: StatedConsent | None = None


class SubscriberChanges(_Body):
    """The fields to change; others stay. A null attribute is removed (RFC 7396)."""

    name: Name | None = None
    attributes: Attributes | None = None
    tags: Tags | None = None


class SubscriberDetails(BaseModel):
    """A subscriber."""

    id: int
    address: str
    name: str
    status: SubscriberStatus
    joined_at: datetime
    attributes: dict[str, Any]
    tags: list[str]


class Page(BaseModel):
    """A page of subscribers. `next` is the cursor of the next page, or null on the last."""

    items: list[SubscriberDetails]
    next: str | None


class Requested(BaseModel):
    """The same response for every address, known or not."""

    status: str = "If this address can be subscribed, a confirmation email is on its way."


def create_api(
    database: Database, settings: Settings, *, invite: Invite, wake: Callable[[], object] = lambda: None
) -> FastAPI:
    """Return the application to mount at `PREFIX`. `wake` is called after a letter was queued."""
    api = FastAPI(
        title="mailer",
        version="1",
        summary="A newsletter: its subscribers, issues and statistics.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEMS,
    )
    show_problems(api)
    desk = _SubscriberRoutes(database, settings.segments, invite)
    guard = _TokenCheck(database)

    def may(scope: Scope) -> Any:
        return Depends(guard.allowing(scope))

    route = api.add_api_route
    route("/subscribers", desk.list, methods=["GET"], dependencies=[may(Scope.READ)])
    route(
        "/subscribers",
        desk.create,
        methods=["POST"],
        responses={
            200: {"model": SubscriberDetails, "description": "Already known; updated"},
            201: {"model": SubscriberDetails, "description": "Added"},
            202: {"model": Requested, "description": "Asked to confirm by email"},
        },
        dependencies=[may(Scope.SUBSCRIBE)],
        response_model=None,
    )
    one = "/subscribers/{subscriber_id}"
    route(one, desk.get, methods=["GET"], dependencies=[may(Scope.READ)])
    route(one, desk.change, methods=["PATCH"], dependencies=[may(Scope.WRITE)])
    route(one, desk.erase, methods=["DELETE"], status_code=204, dependencies=[may(Scope.ERASE)])
    route(one + "/unsubscribe", desk.unsubscribe, methods=["POST"], dependencies=[may(Scope.WRITE)])
    api.include_router(IssueRoutes(database, settings).router(may))
    api.include_router(StatisticsRoutes(database, settings).router(may))
    api.include_router(MessageRoutes(database, settings, wake).router(may))
    api.include_router(SequenceRoutes(database).router(may))
    api.include_router(MetricsRoutes(database).router(may))
    return api


def create_metrics_api(database: Database) -> FastAPI:
    """Return an application with only the route `/metrics`, to mount at `PREFIX`."""
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    show_problems(api)
    guard = _TokenCheck(database)
    api.include_router(MetricsRoutes(database).router(lambda scope: Depends(guard.allowing(scope))))
    return api


_BEARER: Final = HTTPBearer(auto_error=False, description="A token made by `mailer tokens create`.")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


class _TokenCheck:
    """Checks a request's token, its scope and its rate."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def allowing(self, scope: Scope) -> Callable[..., None]:
        """Return the dependency that checks for `scope`."""

        def check(request: Request, credentials: _Credentials) -> None:
            token = self._token(request, credentials)
            if scope not in token.scopes:
                raise HTTPException(403, f"This token lacks the scope {scope.value}.")
            request.state.token = token

        return check

    def _token(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> Token:
        client = network(client_ip(request))
        if not self._limiter.test(_WRONG_TOKENS, "wrong", client):
            raise HTTPException(429, "Too many invalid tokens.", {"retry-after": "60"})
        at = datetime.now(UTC)
        token = None
        if credentials is not None:
            with self._database.reading() as connection:
                token = tokens.check(connection, credentials.credentials)
        if token is None:
            self._limiter.hit(_WRONG_TOKENS, "wrong", client)
            raise HTTPException(401, "The token is missing or invalid.", {"www-authenticate": "Bearer"})
        if not self._limiter.hit(_PER_TOKEN, "token", str(token.id)):
            raise HTTPException(429, "Too many requests with this token.", {"retry-after": "60"})
        if tokens.needs_note(token, at):
            with self._database.transaction() as connection:
                tokens.note_use(connection, token, at)
        return token


class _SubscriberRoutes:
    """The routes about subscribers."""

    def __init__(self, database: Database, segments: Mapping[str, str], invite: Invite) -> None:
        self._database = database
        self._segments = segments
        self._invite = invite

    @cached_property
    def _secret(self) -> bytes:
        return self._database.secrets()[0]

    def list(
        self,
        where: Annotated[str, Query(max_length=2000, description="A segment, for example `tag:vip`.")] = "",
        address: Annotated[str, Query(max_length=320, description="Exactly this address.")] = "",
        cursor: Annotated[str, Query(pattern=r"^[0-9]{0,16}$")] = "",
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 50,
    ) -> Page:
        """List subscribers, oldest first."""
        condition = parse_segment(where, self._segments).condition if where else None
        if address:
            exactly = Subscriber.c.address_key == parse_address(address).key
            condition = exactly if condition is None else condition & exactly
        with self._database.reading() as connection:
            views = exporting.views(connection, condition, after=int(cursor or 0), limit=limit + 1)
        following = str(views[limit - 1].id) if len(views) > limit else None
        return Page(items=[_subscriber(view) for view in views[:limit]], next=following)

    def create(
        self, request: Request, response: Response, new: NewSubscriber
    ) -> SubscriberDetails | Requested:
        """Add a person: with stated consent immediately, without it once they confirm by email."""
        address = parse_address(new.address)
        name, tags, attributes = check_name(new.name), check_tags(new.tags), check_attributes(new.attributes)
        token: Token = request.state.token
        origin = Origin("api", form=f"token {token.id}", note=f"token '{token.name}'")
        if new.consent is None:
            if not self._invite(address, name, origin, attributes=attributes, tags=tags):
                raise HTTPException(429, "Too many confirmation emails requested.", {"retry-after": "3600"})
            response.status_code = 202
            return Requested()
        if Scope.IMPORT not in token.scopes:
            raise HTTPException(403, f"This token lacks the scope {Scope.IMPORT.value}.")
        source = check_value("source", new.consent.source)
        agreed = f"{origin.note}: agreed at {new.consent.at.isoformat()}: {source}"
        with self._database.transaction() as connection:
            added = subscribers.add(
                connection,
                address,
                secret=self._secret,
                origin=Origin("api", ip=new.consent.ip, form=origin.form, note=agreed),
                at=datetime.now(UTC),
                name=name,
                attributes=attributes,
                tags=tags,
            )
            if added.result is AddResult.KEPT_OUT or added.subscriber_id is None:
                raise HTTPException(
                    409,
                    "This person unsubscribed, bounced, complained or was erased; only they can come back.",
                )
            view = self._known(connection, added.subscriber_id)
        response.status_code = 201 if added.result is AddResult.ADDED else 200
        if response.status_code == 201:
            response.headers["location"] = f"{PREFIX}/subscribers/{view.id}"
        return _subscriber(view)

    def get(self, subscriber_id: Identifier) -> SubscriberDetails:
        """Return one subscriber."""
        with self._database.reading() as connection:
            return _subscriber(self._known(connection, subscriber_id))

    def change(self, subscriber_id: Identifier, changes: SubscriberChanges) -> SubscriberDetails:
        """Change name, attributes or tags."""
        with self._database.transaction() as connection:
            subscribers.revise(
                connection,
                subscriber_id,
                at=datetime.now(UTC),
                name=changes.name,
                attributes=changes.attributes,
                tags=changes.tags,
            )
            return _subscriber(self._known(connection, subscriber_id))

    def unsubscribe(self, request: Request, subscriber_id: Identifier) -> SubscriberDetails:
        """Unsubscribe a person immediately. Repeating it is harmless."""
        token: Token = request.state.token
        origin = Origin("api", form=f"token {token.id}", note=f"token '{token.name}'")
        with self._database.transaction() as connection:
            ledger.unsubscribe(connection, subscriber_id, origin=origin, at=datetime.now(UTC))
            return _subscriber(self._known(connection, subscriber_id))

    def erase(self, subscriber_id: Identifier) -> None:
        """Permanently erase everything about a person. A keyed hash keeps imports from adding them again."""
        with self._database.transaction() as connection:
            address = parse_address(self._known(connection, subscriber_id).address)
            erase(connection, address, secret=self._secret, at=datetime.now(UTC), way="api")

    def _known(self, connection: Connection, subscriber_id: int) -> SubscriberView:
        view = subscribers.get(connection, subscriber_id)
        if view is None or view.status is SubscriberStatus.ERASED:
            raise HTTPException(404, "No such subscriber.")
        return view


def _subscriber(view: SubscriberView) -> SubscriberDetails:
    return SubscriberDetails(
        id=view.id,
        address=view.address,
        name=view.name,
        status=view.status,
        joined_at=view.created_at,
        attributes=dict(view.attributes),
        tags=list(view.tags),
    )
