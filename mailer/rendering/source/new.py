"""Create the source file of an issue."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Final

from anyascii import anyascii

from mailer.errors import RefusedError
from mailer.rendering.source.issue import Issue

_MAX_SLUG_CHARACTERS: Final = 60
_NUMBER: Final = re.compile("[0-9]{1,9}")
_NOT_REPEATED: Final = ("subject", "date", "number", "send_at", "arms", "test", "resend")
"""The keys that a resend does not take over from the original."""


def create_issue(folder: Path, title: str, name: str, *, on: date, body: str = "") -> Path:
    """Write a new issue and return its path. Its number follows the highest in the folder.

    `body` follows the greeting.

    Raises `RefusedError` if the file exists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = _next_number(folder)
    return _write(
        folder / f"{number:03}-{name}.md",
        f'---\ntitle: {json.dumps(title, ensure_ascii=False)}\npreheader: ""\n'
        f"date: {on}\nnumber: {number}\n---\n\n"
        f'Hello {{{{ subscriber.name | default("there") }}}},\n{body and chr(10)}{body}',
    )


def _next_number(folder: Path) -> int:
    taken = [int(found[0]) for path in folder.glob("*.md") if (found := _NUMBER.match(path.name))]
    return max(taken, default=0) + 1


def _write(path: Path, text: str) -> Path:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RefusedError(f"{path} already exists", remedy="edit it, or choose another title") from None
    except OSError as error:
        if path.exists():
            # A full disk leaves an empty file, which would take the number.
            path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path


def create_resend(folder: Path, original: Issue, source: str, subject: str, *, on: date) -> Path:
    """Write an issue that repeats another one under a new subject, and return its path.

    `source` is the text of the original. Raises `RefusedError` if the file exists.
    """
    lines = source.replace("\r\n", "\n").split("\n")
    starts = sorted(line for _, line in original.key_lines)
    for key, line in sorted(original.key_lines, key=lambda one: -one[1]):
        if key in _NOT_REPEATED:
            # The value may continue over several lines, up to the next key or the end of the front matter.
            end = next((start for start in starts if start > line), original.body_line - 1)
            del lines[line - 1 : end - 1]
    front = (
        f"subject: {json.dumps(subject, ensure_ascii=False)}\nresend: {json.dumps(original.slug)}\ndate: {on}"
    )
    number = _next_number(folder)
    name = re.sub(r"^[0-9]+-", "", original.slug)
    return _write(folder / f"{number:03}-{name}-again.md", "\n".join([lines[0], front, *lines[1:]]))


def slug(title: str) -> str:
    """Return `title` for use in a file name: ASCII letters, digits and hyphens, never empty.

    Other scripts are written in Latin letters.
    """
    latin = re.sub("['`’]", "", anyascii(title)).lower()
    return re.sub("[^a-z0-9]+", "-", latin)[:_MAX_SLUG_CHARACTERS].strip("-") or "issue"
