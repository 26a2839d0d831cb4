"""The routes about statistics."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException

from mailer.api_tokens import Scope
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.delivery import issues
from mailer.reports import statistics
from mailer.reports.overview import overview
from mailer.web.api.schemas import Report, Slug


class StatisticsRoutes:
    """The routes of `/stats`. They read the counts that `mailer serve` and `mailer worker` refresh."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def router(self, may: Callable[[Scope], Any]) -> APIRouter:
        """Return the routes; `may` returns the dependency that checks for a scope."""
        router = APIRouter(tags=["stats"])
        read = may(Scope.READ_STATS)
        router.add_api_route("/stats", self.overview, methods=["GET"], dependencies=[read])
        router.add_api_route("/stats/issues/{issue}", self.issue, methods=["GET"], dependencies=[read])
        return router

    def overview(
        self, days: Annotated[int, Query(ge=1, le=3660, description="The length of the period.")] = 365
    ) -> Report:
        """Return growth, cohorts, the figures of issues, the list's health and the best hour (UTC)."""
        with self._database.reading() as connection:
            found = overview(connection, at=datetime.now(UTC), days=days, zone=UTC)
        return _plain(found)

    def issue(self, issue: Slug) -> Report:
        """Return the figures of an issue: links, providers, segments, hours, time to open, failures."""
        providers = self._settings.provider_of_domain
        with self._database.reading() as connection:
            queued = issues.find(connection, issue)
            if queued is None:
                raise HTTPException(404, "This issue was not queued.")
            found = statistics.issue_statistics(connection, queued.id, providers=providers)
        return _plain(found)


def _plain(found: object) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain
