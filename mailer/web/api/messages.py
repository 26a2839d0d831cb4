"""The route about messages to single subscribers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from mailer.address import parse_address
from mailer.api_tokens import Scope, Token
from mailer.audience import subscribers
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.delivery import letters, messages, requests
from mailer.web.api.schemas import Accepted, IdempotencyKey, NewMessage


class MessageRoutes:
    """The route of `/messages`. `wake` wakes the thread that sends letters."""

    def __init__(self, database: Database, settings: Settings, wake: Callable[[], object]) -> None:
        self._database = database
        self._settings = settings
        self._wake = wake

    def router(self, may: Callable[[Scope], Any]) -> APIRouter:
        """Return the routes; `may` returns the dependency that checks for a scope."""
        router = APIRouter(tags=["messages"])
        dependencies = [may(Scope.SEND_MESSAGES)]
        router.add_api_route(
            "/messages", self.send, methods=["POST"], status_code=202, dependencies=dependencies
        )
        return router

    def send(self, request: Request, idempotency_key: IdempotencyKey, new: NewMessage) -> Accepted:
        """Send a message to one subscriber, before the messages of issues.

        Suppressed addresses answer 409. A message has no link to unsubscribe, so it must not advertise.
        """
        token: Token = request.state.token
        address = parse_address(new.to)
        asked = requests.digest("message", new.model_dump())
        source = messages.source_of(new.subject, new.text)
        messages.check(self._settings, source)
        try:
            answer = self._put(token, idempotency_key, asked, str(address), source)
        except IntegrityError:
            # Another request with this key was faster, so this one repeats it.
            answer = self._put(token, idempotency_key, asked, str(address), source)
        self._wake()
        return Accepted(**answer)

    def _put(self, token: Token, key: str, asked: str, address: str, source: str) -> dict[str, Any]:
        with self._database.transaction() as connection:
            if (known := requests.answered(connection, token.id, key, asked)) is not None:
                return known
            found = subscribers.find(connection, parse_address(address))
            if found is None or found.status is SubscriberStatus.ERASED:
                raise HTTPException(404, "No such subscriber.")
            at = datetime.now(UTC)
            answer = {"id": letters.put_message(connection, found.id, source, at=at), "status": "queued"}
            requests.remember(connection, token.id, key, asked, answer, at=at)
            return answer
