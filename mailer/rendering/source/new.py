"""Create the source file of an issue."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Final

from anyascii import anyascii

from mailer.errors import RefusedError

_MAX_SLUG_CHARACTERS: Final = 60
_NUMBER: Final = re.compile("[0-9]{1,9}")


def create_issue(folder: Path, title: str, name: str, *, on: date) -> Path:
    """Write a new issue and return its path. Its number follows the highest in the folder.

    Raises `RefusedError` if the file exists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(found[0]) for path in folder.glob("*.md") if (found := _NUMBER.match(path.name))]
    number = max(taken, default=0) + 1
    path = folder / f"{number:03}-{name}.md"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(
                f'---\ntitle: {json.dumps(title, ensure_ascii=False)}\npreheader: ""\n'
                f"date: {on}\nnumber: {number}\n---\n\n"
                'Hello {{ subscriber.name | default("there") }},\n'
            )
    except FileExistsError:
        raise RefusedError(f"{path} already exists", remedy="edit it, or choose another title") from None
    return path


def slug(title: str) -> str:
    """Return `title` for use in a file name: ASCII letters, digits and hyphens, never empty.

    Other scripts are written in Latin letters.
    """
    latin = re.sub("['`’]", "", anyascii(title)).lower()
    return re.sub("[^a-z0-9]+", "-", latin)[:_MAX_SLUG_CHARACTERS].strip("-") or "issue"
