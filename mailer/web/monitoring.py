"""The routes that monitoring reads: `/healthz`, and `/api/v1/metrics` with a token."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, FastAPI
from sqlalchemy import text
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from mailer.database.engine import Database
from mailer.tasks import Health, Tasks
from mailer.web.api.app import PREFIX, create_metrics_api
from mailer.web.api.problems import show_problems
from mailer.web.requests import RequestIds
from mailer.web.shield import Shield


def create_monitoring(database: Database, tasks: Tasks) -> ASGIApp:
    """Return the application of a process that has no pages. The database must be open."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(health_routes(database, tasks))
    app.mount(PREFIX, create_metrics_api(database))
    show_problems(app)
    return RequestIds(Shield(app, private=("/",)))


def health_routes(database: Database, tasks: Tasks) -> APIRouter:
    """Return the route `/healthz`."""
    router = APIRouter()

    def health() -> Response:
        """List the tasks. Answer 503 if the database cannot be read, or a task has failed for long."""
        with database.reading() as connection:
            connection.execute(text("SELECT 1 FROM instance"))
        found, at = tasks.health(), datetime.now(UTC)
        failing = any(one.failing_for_long(at) for one in found)
        lines = ["failing" if failing else "ok", *(_health_line(one) for one in found)]
        return PlainTextResponse(
            "\n".join([*lines, ""]), 503 if failing else 200, headers={"cache-control": "no-store"}
        )

    router.add_api_route("/healthz", health, methods=["GET", "HEAD"])
    return router


def _health_line(health: Health) -> str:
    """Return a task's line. Anyone may read it, so it does not quote the error: the log does."""
    if health.failing_since is None:
        return f"{health.name}: ok"
    return f"{health.name}: failing since {health.failing_since:%Y-%m-%dT%H:%M:%SZ}"
