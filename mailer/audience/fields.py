"""Limits for names, tags and attributes, shared by forms, API, commands and imports."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

from mailer.address import check_header_text
from mailer.errors import AddressError

MAX_NAME: Final = 255
MAX_TAG: Final = 64
MAX_TAGS: Final = 100
MAX_ATTRIBUTES: Final = 200
MAX_KEY: Final = 64
MAX_VALUE: Final = 2_000
MAX_ATTRIBUTES_CHARACTERS: Final = 16_000
"""For all attributes of one person, as JSON."""
_BREAKS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKS: Final = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_MAX_DEPTH: Final = 4
# Beyond this, JSON readers that keep numbers as doubles (RFC 8259 section 6) would change them.
_MAX_INTEGER: Final = 2**53


def check_name(name: str) -> str:
    """Return the name if it is safe in a header, or raise `AddressError`."""
    if len(name) > MAX_NAME:
        raise AddressError(f"name: longer than {MAX_NAME} characters")
    return _storable(check_header_text(name, field="name"), "name")


def clean_name(name: str) -> str:
    """Return a name without characters that headers may not contain: line breaks, controls, direction marks.

    Spreadsheets leave such characters behind; they are no reason to reject the row.
    """
    if name.isascii() and name.isprintable():
        return name
    return " ".join(_MARKS.sub("", _BREAKS.sub(" ", name)).split(" ")).strip()


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags without repetition, or raise `AddressError`."""
    found = tuple(dict.fromkeys(tag.strip() for tag in tags))
    if len(found) > MAX_TAGS:
        raise AddressError(f"tags: more than {MAX_TAGS}")
    for tag in found:
        if not tag:
            raise AddressError("tag: is empty")
        if len(_storable(check_header_text(tag, field="tag"), "tag")) > MAX_TAG:
            raise AddressError(f"tag: longer than {MAX_TAG} characters")
    return found


def check_attributes(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the attributes if they are within the limits, or raise `AddressError` naming the field."""
    if len(fields) > MAX_ATTRIBUTES:
        raise AddressError(f"attributes: more than {MAX_ATTRIBUTES}")
    for key, value in fields.items():
        if not key or len(key) > MAX_KEY or not key.isprintable():
            raise AddressError(f"attributes: a name has 1 to {MAX_KEY} printable characters")
        _check_value(key, value, 1)
    if not _surely_short(fields) and len(json.dumps(fields, ensure_ascii=False)) > MAX_ATTRIBUTES_CHARACTERS:
        raise AddressError(f"attributes: longer than {MAX_ATTRIBUTES_CHARACTERS:,} characters in all")
    return dict(fields)


def _surely_short(fields: Mapping[str, object]) -> bool:
    """Return whether the texts are short enough that their JSON, escapes included, is within the limit."""
    octets = 0
    for key, value in fields.items():
        if not isinstance(value, str):
            return False
        octets += 6 * (len(key) + len(value)) + 8
    return octets < MAX_ATTRIBUTES_CHARACTERS


def check_value(key: str, value: str) -> str:
    """Return the text if it can be stored under `key`, or raise `AddressError`."""
    if len(value) > MAX_VALUE:
        raise AddressError(f"{key}: longer than {MAX_VALUE:,} characters")
    return _storable(value, key)


def _check_value(key: str, value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise AddressError(f"{key}: is nested too deeply")
    if isinstance(value, str):
        check_value(key, value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise AddressError(f"{key}: is not a number that JSON has")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise AddressError(f"{key}: too large for JSON readers to keep exactly")
    elif isinstance(value, list):
        for item in value:
            _check_value(key, item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            check_value(key, name)
            _check_value(key, item, depth + 1)


def _storable(text: str, field: str) -> str:
    """Return the text if every database can store it: no NUL and no lone surrogate."""
    if "\x00" in text:
        raise AddressError(f"{field}: contains NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise AddressError(f"{field}: contains half of a surrogate pair")
    return text
