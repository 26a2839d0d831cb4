"""The emails that previews show, each in a frame of its own without scripts."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from mailer.console.guard import VISITOR
from mailer.review.viewing import mail_policy

_MOST: Final = 60


class Frames:
    """Keeps the latest emails that were shown, for the sessions that asked for them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def add_to(self, app: FastAPI) -> None:
        """Add the route to an application."""
        app.add_api_route("/frame/{name}", self.show, methods=["GET"], response_model=None)

    def keep(self, session_digest: str, html: str) -> str:
        """Keep an email; return the path under which its session can see it."""
        name = secrets.token_urlsafe(16)
        self._kept[name] = (session_digest, html)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return f"/frame/{name}"

    def show(self, request: Request, name: str) -> Response:
        """Return an email under a policy that allows no scripts."""
        owner, html = self._kept.get(name, ("", ""))
        if not owner or owner != request.scope[VISITOR].digest:
            return PlainTextResponse("This preview is gone. Reload the page.\n", 404)
        headers = {"content-security-policy": mail_policy(images=True), "cache-control": "no-store"}
        return HTMLResponse(html, headers=headers)
