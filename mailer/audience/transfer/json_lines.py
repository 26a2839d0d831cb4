"""Read subscribers from JSON Lines, one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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

    `out` is why the other service would not have emailed this person; `problem` is why the row is invalid.
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
    """Yield the objects of a file, one per line.

    `attributes` and `tags` are read as such. Any other field becomes an attribute with its type, unless the
    preset gives it another meaning.
    """
    reader = _JsonReader(preset, doubts)
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        if len(line) == _MAX_LINE:
            while line and not line.endswith("\n"):
                line = file.readline(_MAX_LINE)
            yield Candidate(number, problem=f"is longer than {_MAX_LINE:,} characters")
        elif line.strip():
            yield reader.candidate(number, line)
    doubts.settle(1)


class _JsonReader:
    """Reads objects by the names that the preset gives their fields, or else by the usual names."""

    def __init__(self, preset: Preset, doubts: Doubts) -> None:
        self._preset = preset
        self._doubts = doubts
        self._emails = (preset.email,) if preset.email else _EMAIL
        self._names = (preset.name,) if preset.name else _NAME
        self._joined = (preset.joined, *_JOINED) if preset.joined else _JOINED
        self._tags = preset.tags or "tags"
        self._attributes = preset.attributes or "attributes"
        self._known = {self._tags, self._attributes, *preset.columns, *preset.ignored}

    def candidate(self, number: int, line: str) -> Candidate:
        """Return the subscriber in a line, or the problem with it."""
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            return Candidate(number, problem=f"is not JSON ({error})")
        if not isinstance(fields, dict):
            return Candidate(number, problem="is not a JSON object")
        email = _first(self._emails, fields)
        if not isinstance(fields.get(email), str):
            return Candidate(number, problem=f"has no text '{email}'")
        address = mailbox_in(fields[email])
        # An opt-out counts even if the rest of the row is invalid.
        cells = {key: _as_cell(fields[key]) for key in self._preset.columns if key in fields}
        if out := self._preset.why_out(cells):
            return Candidate(number, address, out=out)
        name, joined = _first(self._names, fields), _first(self._joined, fields)
        if problem := self._problem(fields, name):
            return Candidate(number, address, problem=problem)
        return Candidate(
            number,
            address,
            clean_name((fields.get(name) or "").strip(" ")),
            self._attributes_of(fields, (email, name, joined)),
            tuple(fields.get(self._tags) or ()),
            joined_at=parse_instant(_as_cell(fields.get(joined))),
        )

    def _problem(self, fields: dict[str, Any], name: str) -> str:
        """Return which field has a wrong type, or empty."""
        if not isinstance(fields.get(name) or "", str):
            return f"'{name}' is not text"
        if not isinstance(fields.get(self._attributes) or {}, dict):
            return "'attributes' is not an object"
        tags = fields.get(self._tags) or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            return "'tags' is not a list of texts"
        return ""

    def _attributes_of(self, fields: dict[str, Any], taken: tuple[str, ...]) -> dict[str, Any]:
        """Return the attributes of an object: those it lists, and its other fields except `taken`."""
        renamed = self._preset.renamed
        others = [key for key in fields if key not in self._known]
        doubtful = [key for key in others if key not in renamed and may_say_who_left(key)]
        self._doubts.see((key, _as_cell(fields[key])) for key in doubtful)
        found = dict(fields.get(self._attributes) or {})
        for key in others:
            kept = key not in doubtful or may_be_attribute(key)
            if kept and key not in taken and fields[key] is not None:
                found[renamed.get(key, key)] = fields[key]
        return found


def _first(names: Sequence[str], fields: dict[str, Any]) -> str:
    """Return the first of these names that a field has; if none does, the first name."""
    return next((name for name in names if name in fields), names[0])


def _as_cell(value: Any) -> str:
    """Return a value as a CSV file would contain it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
    return str(value)
