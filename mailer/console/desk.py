"""The newsletter as the pages use it, and the only way to change anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from mailer.config import Settings, load
from mailer.console import audit
from mailer.console.pace import Pace
from mailer.console.provider_counts import ProviderCounts
from mailer.console.sessions import Visitor, visitor_of
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.errors import MailerError, RefusedError
from mailer.reports.progress import ProviderBooks, by_provider
from mailer.reports.rollups import refresh
from mailer.tokens import Signer

Result = TypeVar("Result")
_COUNT_EVERY_SECONDS: Final = 1.0
_COUNT_REST: Final = 5
"""Counting takes at most one part in so many of the time, however large the list is."""
_COUNT_WITHIN_SECONDS: Final = 0.25
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Visit:
    """A page that a person has open: who they are, and their browser's User-Agent."""

    visitor: Visitor
    agent: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change as the audit log records it."""

    act: str
    """Such as `issue.send`."""
    about: str = ""
    details: Mapping[str, Any] | None = None


class Desk:
    """The newsletter, as all pages share it. Work with the database runs in threads."""

    def __init__(self, config_path: Path, database: Database, signer: Signer) -> None:
        self.config_path = config_path
        self.database = database
        self.signer = signer
        self._counting: asyncio.Future[None] | None = None
        self._count_pace = Pace(_COUNT_EVERY_SECONDS, _COUNT_REST)
        self.provider_counts = ProviderCounts(self._by_provider)

    @property
    def settings(self) -> Settings:
        """The settings as they are in config.toml now; raises `ConfigError`."""
        return load(self.config_path)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`, which reads from the database, and return its result."""

        def reading() -> Result:
            with self.database.reading() as connection:
                return work(connection)

        return await asyncio.to_thread(reading)

    async def _by_provider(self, issue_id: int) -> Sequence[ProviderBooks]:
        domains = self.settings.provider_of_domain
        return await self.read(lambda connection: by_provider(connection, issue_id, domains))

    async def change(
        self, visit: Visit, needed: Role, change: Change, work: Callable[[Connection], Result]
    ) -> Result:
        """Change the database and record it, in one transaction. Raises `RefusedError` without the role."""

        def changing() -> Result:
            with self.database.transaction() as connection:
                visitor = self._allowed(connection, visit, needed)
                result = work(connection)
                self._record(connection, visitor, change)
            return result

        return await asyncio.to_thread(changing)

    async def act(self, visit: Visit, needed: Role, change: Change, work: Callable[[], Result]) -> Result:
        """Do what has transactions of its own, or none, and then record it; like `change` otherwise."""

        def acting() -> Result:
            with self.database.reading() as connection:
                visitor = self._allowed(connection, visit, needed)
            result = work()
            with self.database.transaction() as connection:
                self._record(connection, visitor, change)
            return result

        return await asyncio.to_thread(acting)

    async def count(self) -> None:
        """Bring the statistics up to date; if that takes long, it goes on while the page shows older ones."""
        if self._counting is None or (self._counting.done() and self._count_pace.due):
            self._counting = asyncio.ensure_future(asyncio.to_thread(self._refresh))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._counting), _COUNT_WITHIN_SECONDS)

    def _refresh(self) -> None:
        try:
            with self._count_pace.looking():
                refresh(
                    self.database,
                    at=datetime.now(UTC),
                    segments=self.settings.segments,
                    quiet_days=self.settings.bounces.quiet_days,
                )
        except MailerError as error:
            _log.error("the statistics were not counted: %s", error)

    async def check(self, visit: Visit, needed: Role) -> None:
        """Raise `RefusedError` if the person is logged out by now, or lacks a role."""
        await self.read(lambda connection: self._allowed(connection, visit, needed))

    def _allowed(self, connection: Connection, visit: Visit, needed: Role) -> Visitor:
        """Return the visitor as the database knows them now: the role may have changed since."""
        found = visitor_of(connection, visit.visitor.digest, visit.agent, at=datetime.now(UTC))
        if found is None:
            raise RefusedError("You are logged out", remedy="reload the page and log in again")
        if not found.role.may(needed):
            raise RefusedError(
                f"This needs the role '{needed}'; yours is '{found.role}'",
                remedy="ask someone with that role",
            )
        return found

    def _record(self, connection: Connection, visitor: Visitor, change: Change) -> None:
        audit.record(
            connection, visitor.name, change.act, change.about, change.details or {}, at=datetime.now(UTC)
        )
