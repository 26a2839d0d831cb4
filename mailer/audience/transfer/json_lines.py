"""Read subscribers from JSON Lines, one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TextIO

from mailer.address import mailbox_in
from mailer.audience.fields import clean_name
from mailer.audience.transfer.columns import may_be_attribute, may_say_who_left
from mailer.audience.transfer.doubts import Doubts
from mailer.audience.transfer.presets import Out, Preset, parse_instant

_MAX_LINE: Final = 100_000
# Field names for the address, the name and the sign-up date; the first one present counts.
_EMAIL: Final = ("email", "email_address", "address")
_NAME: Final = ("name",)
_JOINED: Final = ("joined", "joined_at", "created_at", "subscribed_at")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An unchecked row of a file; `line` is where it begins.

    `out` says why the service that wrote the file would not have mailed this person; `problem` is what is
    wrong with the row, if anything.
    """

    line: int
    address: str = ""
    name: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    out: Out | None = None
    joined_at: datetime | None = None
    problem: str = ""


def json_rows(file: TextIO, preset: Preset, doubts: Doubts) -> Iterator[Candidate]:
    """Yield the objects of a file, one a line.

    `attributes` and `tags` are what they say; whatever else an object has becomes an attribute, with
    its type, unless the preset knows it better.
    """
    emails = (preset.email,) if preset.email else _EMAIL
    names = (preset.name,) if preset.name else _NAME
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        if len(line) == _MAX_LINE:
            while line and not line.endswith("\n"):
                line = file.readline(_MAX_LINE)
            yield Candidate(number, problem=f"is longer than {_MAX_LINE:,} characters")
        elif line.strip():
            yield _candidate(number, line, emails, names, preset, doubts)
    doubts.settle(1)


def _candidate(
    number: int,
    line: str,
    emails: tuple[str, ...],
    names: tuple[str, ...],
    preset: Preset,
    doubts: Doubts,
) -> Candidate:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Candidate(number, problem=f"is not JSON ({error})")
    if not isinstance(fields, dict):
        return Candidate(number, problem="is not a JSON object")
    known = {preset.tags or "tags", preset.attributes or "attributes", *preset.columns, *preset.ignored}
    email = next((one for one in emails if one in fields), emails[0])
    name = next((one for one in names if one in fields), names[0])
    attributes = fields.get(preset.attributes or "attributes") or {}
    tags = fields.get(preset.tags or "tags") or []
    address, called = fields.get(email), fields.get(name) or ""
    if not isinstance(address, str):
        return Candidate(number, problem=f"has no text '{email}'")
    address = mailbox_in(address)
    # An opt-out counts even if the rest of the row is invalid.
    if out := preset.why_out({key: _as_cell(fields[key]) for key in preset.columns if key in fields}):
        return Candidate(number, address, out=out)
    if not isinstance(called, str):
        return Candidate(number, address, problem=f"'{name}' is not text")
    if not isinstance(attributes, dict):
        return Candidate(number, address, problem="'attributes' is not an object")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return Candidate(number, address, problem="'tags' is not a list of texts")
    doubtful = [
        key for key in fields if key not in known and key not in preset.renamed and may_say_who_left(key)
    ]
    doubts.see((key, _as_cell(fields[key])) for key in doubtful)
    joined = next((one for one in (preset.joined, *_JOINED) if one and one in fields), "")
    others = {
        preset.renamed.get(key, key): value
        for key, value in fields.items()
        if value is not None
        and key not in known
        and key not in (email, name, joined)
        and (key not in doubtful or may_be_attribute(key))
    }
    return Candidate(
        number,
        address,
        clean_name(called.strip(" ")),
        {**attributes, **others},
        tuple(tags),
        joined_at=parse_instant(_as_cell(fields.get(joined))),
    )


def _as_cell(value: Any) -> str:
    """Return a value as a CSV file would contain it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
    return str(value)
