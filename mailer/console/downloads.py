"""Downloads: files that are written first, however large, and recorded in the audit log."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from sqlalchemy import Connection
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from mailer.console.desk import Change, Desk, Visit
from mailer.console.guard import VISITOR
from mailer.console.users import Role


async def download(
    desk: Desk, request: Request, change: Change, filename: str, write: Callable[[Connection, TextIO], object]
) -> Response:
    """Return a file of people's data, for admins only. `write` fills it.

    The file is temporary: it goes once it is sent, or cannot be.
    """
    visit = Visit(request.scope[VISITOR], request.headers.get("user-agent", ""))
    folder = tempfile.TemporaryDirectory(prefix="mailer-export-")
    path = Path(folder.name, "export")

    def written() -> None:
        with desk.database.reading() as connection, path.open("w", encoding="utf-8", newline="") as target:
            write(connection, target)

    try:
        await desk.act(visit, Role.ADMIN, change, written)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path,
        media_type="text/csv",
        filename=filename,
        headers={"cache-control": "no-store"},
        background=BackgroundTask(folder.cleanup),
    )
