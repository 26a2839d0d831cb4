"""A webhook request, the steps that each provider defines, and bounded decoding of bodies."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mailer.bounces.providers.events import Native, WebhookEvent
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError

MAX_BODY_OCTETS: Final = 4 * 1_048_576
MAX_DEPTH: Final = 64
"""How deeply JSON may be nested; providers need about ten levels."""
MAX_EVENTS: Final = 10_000
_MAX_FIELDS: Final = 200
_MAX_FIELD_OCTETS: Final = 1_048_576
_FORM: Final = "application/x-www-form-urlencoded"
# Slow to decode, and sent by no provider.
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MULTIPART: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as received, at the time `now`."""

    headers: Headers
    body: bytes
    now: datetime


def nothing_more(request: Request, payload: object, secrets: Secrets) -> None:
    """The proof was complete before the body was decoded."""


@dataclass(frozen=True, slots=True)
class Provider:
    """How to check and read one provider's webhooks, step by step; each step may raise `WebhookError`."""

    admit: Callable[[Headers, Secrets], None]
    """Check the headers, before the body is read."""
    check: Callable[[Request, Secrets], None]
    """Check the signature of the raw body, before it is decoded."""
    natives: Callable[[object], list[object]]
    """Return the events of a decoded body, as the provider sends them."""
    events: Callable[[Native], Iterator[WebhookEvent]]
    """Yield one of them as an event for each of its recipients."""
    verify: Callable[[Request, object, Secrets], None] = nothing_more
    """Check a proof inside the decoded body."""
    max_octets: int = MAX_BODY_OCTETS
    """The largest body; smaller where anybody's body is decoded before its proof can be checked."""


def one_or_many(payload: object) -> list[object]:
    """Return a list as it is, and anything else as a list of one."""
    return payload if isinstance(payload, list) else [payload]


def decode(request: Request) -> object:
    """Return the JSON of a body, or a form as a table of lists.

    Takes time linear in the body: a form has at most 200 fields, parts within parts stay octets, and JSON
    has at most 64 levels. Raises `WebhookError` 400 for any other body.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == _FORM:
            if _BAD_ESCAPE.search(request.body):
                raise ValueError("the form has a broken percent sign")
            fields = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
            return _by_name(fields)
        if kind == _MULTIPART:
            return _by_name(_multipart(content_type, request.body))
    except (ValueError, FormParserError) as error:
        raise WebhookError(400, "the body cannot be read") from error
    return load_json(request.body)


def load_json(text: str | bytes) -> object:
    """Return decoded JSON. Raises `WebhookError` 400 if it is invalid or nested too deeply."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WebhookError(400, "the body cannot be read") from error
    level = [found]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return found
    raise WebhookError(400, "the body is nested too deeply")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _by_name(fields: list[tuple[str, str]]) -> dict[str, list[str]]:
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, value in fields:
        by_name[name].append(value)
    return dict(by_name)


def _multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """Return the fields of a multipart form (RFC 7578)."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise ValueError("the boundary is missing")
    form = _Form()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.begin,
            "on_header_field": form.header_name,
            "on_header_value": form.header_value,
            "on_header_end": form.header_end,
            "on_part_data": form.data,
            "on_part_end": form.end,
        },
    )
    parser.write(body)
    parser.finalize()
    return form.fields


class _Form:
    """Collects what python-multipart finds, within bounds."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self._header: list[bytes] = [b"", b""]
        self._name = ""
        self._content = bytearray()

    def begin(self) -> None:
        """Start a part."""
        if len(self.fields) >= _MAX_FIELDS:
            raise ValueError("the form has too many fields")
        self._name = ""
        self._content.clear()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """Add to a header's name."""
        self._header[0] += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """Add to a header's value."""
        self._header[1] += data[start:end]

    def header_end(self) -> None:
        """Keep the field's name."""
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition":
            self._name = parse_options_header(value)[1].get(b"name", b"").decode("utf-8", "replace")

    def data(self, data: bytes, start: int, end: int) -> None:
        """Add to the part's content."""
        self._content += data[start:end]
        if len(self._content) > _MAX_FIELD_OCTETS:
            raise ValueError("a field is too large")

    def end(self) -> None:
        """Finish a part."""
        if self._name:
            self.fields.append((self._name, self._content.decode("utf-8", "replace")))
