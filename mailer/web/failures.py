"""Error pages, which tell readers what to do."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mailer.catalogue import marked
from mailer.errors import StorageError, TokenError
from mailer.web.theme import Theme

TRY_AGAIN: Final = marked("Please try again in a minute")
NOT_SAVED: Final = marked("We could not save your request just now.")
_SAID: Final = {
    HTTPStatus.NOT_FOUND: (marked("Page not found"), marked("There is no page at this address.")),
    HTTPStatus.TOO_MANY_REQUESTS: (
        marked("Too many requests"),
        marked("Please try again in an hour."),
    ),
}
_log = logging.getLogger(__name__)


def show_failures(app: Starlette, theme: Theme) -> None:
    """Answer every error of an application with a page in the reader's language."""

    async def damaged(request: Request, error: Exception) -> Response:
        texts = theme.to(request)
        return texts.notice(
            404,
            texts.say("This link does not work"),
            texts.say("Part of it may be missing. Open it from the email again."),
        )

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        texts = theme.to(request)
        if said := _SAID.get(HTTPStatus(error.status_code)):
            title, text = map(texts.say, said)
        else:
            title = texts.say("This did not work")
            text = texts.say("The request cannot be answered (%(code)s).", code=error.status_code)
        answer = texts.notice(error.status_code, title, text)
        answer.headers.update(error.headers or {})
        return answer

    async def unavailable(request: Request, error: Exception) -> Response:
        _log.error("%s", error)
        texts = theme.to(request)
        answer = texts.notice(
            503,
            texts.say(TRY_AGAIN),
            texts.say(NOT_SAVED),
        )
        answer.headers["retry-after"] = "60"
        return answer

    async def broken(request: Request, error: Exception) -> Response:
        texts = theme.to(request)
        return texts.notice(
            500,
            texts.say("Something went wrong"),
            texts.say("We have logged the error. Please try again later."),
        )

    app.add_exception_handler(TokenError, damaged)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(StorageError, unavailable)
    app.add_exception_handler(Exception, broken)
