"""Read and change single values in the front matter of an issue, leaving everything else as written."""

from __future__ import annotations

import json
import re
from typing import Final

import yaml

_FENCE: Final = re.compile(r"-{3}\s*$")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def parts(text: str) -> tuple[str, str]:
    """Return the lines between the fences, and the body; without fences, everything is the body."""
    lines = text.split("\n")
    if lines and _FENCE.match(lines[0]):
        for index, line in enumerate(lines[1:], start=1):
            if _FENCE.match(line):
                return "\n".join(lines[1:index]), "\n".join(lines[index + 1 :])
    return "", text


def joined(front: str, body: str) -> str:
    """Return the text of a file with this front matter and body."""
    return f"---\n{front}\n---\n{body}" if front else f"---\n---\n{body}"


def value_of(front: str, key: str) -> str | None:
    """Return a value written on one line, or empty if the key is missing; None if it is not a plain text."""
    lines = front.split("\n")
    for index, line in enumerate(lines):
        if line.startswith(f"{key}:"):
            if index + 1 < len(lines) and lines[index + 1].startswith((" ", "\t", "-")):
                return None
            try:
                value = yaml.load(line, Loader=yaml.BaseLoader)[key]  # noqa: S506 - makes only texts
            except yaml.YAMLError:
                return None
            return value if isinstance(value, str) else None
    return ""


def with_value(front: str, key: str, value: str) -> str:
    """Return the front matter with another value for a key, on its line or at the end."""
    plain = _DATE.fullmatch(value)
    written = f"{key}: {value if plain else json.dumps(value, ensure_ascii=False)}"
    lines = front.split("\n") if front else []
    for index, line in enumerate(lines):
        if line.startswith(f"{key}:"):
            if not value and key != "title":
                return "\n".join(lines[:index] + lines[index + 1 :])
            return "\n".join([*lines[:index], written, *lines[index + 1 :]])
    return "\n".join([*lines, written]) if value else front
