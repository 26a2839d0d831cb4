"""Errors of the API as problem details (RFC 9457)."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mailer.errors import (
    AddressError,
    FindingsError,
    RecipientError,
    RefusedError,
    SegmentError,
    SourceError,
    StorageError,
)

MEDIA_TYPE: Final = "application/problem+json"
_FOLDERS: Final = re.compile(r"(?<![\w:/.])(?:/[^/\s:']+)+/(?=[^/\s:']+)")
_log = logging.getLogger(__name__)


class FieldProblem(BaseModel):
    """An error in one part of a request, named by a JSON pointer (RFC 6901)."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """The description of the error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


def _documented(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


# For `FastAPI(responses=…)`: the errors that any route may answer with.
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, **_documented(400)},
    **{status: _documented(status) for status in (401, 403, 404, 405, 409, 413, 422, 429, 503)},
}


def show_problems(api: FastAPI) -> None:
    """Answer every error of an application as problem details."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            FieldProblem(pointer=_pointer(problem["loc"]), detail=str(problem["msg"]))
            for problem in error.errors()[:50]
        ]
        return _problem(422, "The request does not match the documented schema.", errors=errors)

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, AddressError | SegmentError)
        return _problem(422, error.message)

    async def wrong_file(request: Request, error: Exception) -> Response:
        assert isinstance(error, SourceError | RecipientError)
        return _problem(422, _without_folders(error.message))

    async def declined(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError | FindingsError)
        remedy = f" Next: {error.remedy}." if error.remedy else ""
        return _problem(409, _without_folders(f"{error.message}.{remedy}"))

    async def unavailable(request: Request, error: Exception) -> Response:
        _log.error("%s", error)
        return _problem(503, "The database is not available just now.", headers={"retry-after": "60"})

    async def broken(request: Request, error: Exception) -> Response:
        return _problem(500, "Internal error; it has been logged.")

    api.add_exception_handler(HTTPException, refused)
    api.add_exception_handler(RequestValidationError, malformed)
    api.add_exception_handler(AddressError, unfit)
    api.add_exception_handler(SegmentError, unfit)
    api.add_exception_handler(SourceError, wrong_file)
    api.add_exception_handler(RecipientError, wrong_file)
    api.add_exception_handler(RefusedError, declined)
    api.add_exception_handler(FindingsError, declined)
    api.add_exception_handler(StorageError, unavailable)
    api.add_exception_handler(Exception, broken)


def _problem(
    status: int,
    detail: str,
    *,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)


def _without_folders(text: str) -> str:
    """Return an error without the folders of the server: `/srv/news/issues/007.md:3` becomes `007.md:3`."""
    return _FOLDERS.sub("", text)


def _pointer(location: tuple[str | int, ...]) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location]
    return "/" + "/".join(part.encode("ascii", "backslashreplace").decode("ascii") for part in parts)
