"""The route that lets subscribers enter a sequence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from sqlalchemy import select
from starlette.exceptions import HTTPException

from mailer.address import parse_address
from mailer.api_tokens import Scope
from mailer.database.engine import Database
from mailer.database.tables import StoredSequence
from mailer.delivery.sequences import looking
from mailer.web.api.schemas import Entered, NewMember

_Name = Annotated[str, Path(max_length=64, examples=["welcome"])]


class SequenceRoutes:
    """The route of `/sequences`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def router(self, may: Callable[[Scope], Any]) -> APIRouter:
        """Return the routes; `may` returns the dependency that checks for a scope."""
        router = APIRouter(tags=["sequences"])
        router.add_api_route(
            "/sequences/{name}/members",
            self.enter,
            methods=["POST"],
            status_code=201,
            dependencies=[may(Scope.WRITE)],
        )
        return router

    def enter(self, name: _Name, new: NewMember) -> Entered:
        """Let a subscriber enter a sequence, whatever its trigger.

        Someone who is not an active subscriber, or was in the sequence before, answers 409.
        """
        address = parse_address(new.address)
        with self._database.transaction() as connection:
            if connection.scalar(select(StoredSequence.c.id).where(StoredSequence.c.name == name)) is None:
                raise HTTPException(404, "No such sequence, or it was never applied.")
            looking.enter_one(connection, name, address, at=datetime.now(UTC))
        return Entered(sequence=name, address=str(address))
