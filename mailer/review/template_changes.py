"""Compare the templates of a new version with the operator's, and update the unchanged ones.

`mailer init` keeps the templates as they were in `.mailer/templates`, so that both can be told apart later.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never

from mailer.errors import SourceError

ORIGIN: Final = ".mailer/templates"
"""Where the newsletter's folder keeps the templates that the operator's were made from."""
_NEW: Final = ".new"
_BASE: Final = ".base"


class Change(StrEnum):
    """Who changed a template since it was made."""

    NOBODY = "unchanged"
    YOU = "yours"
    MAILER = "new version"
    BOTH = "both"
    """It differs from the origin on both sides, and the two are not the same."""
    UNKNOWN = "unknown"
    """It differs from the new version, and what it was made from is not known."""
    ADDED = "added"
    """The new version has it, and you don't."""
    REMOVED = "removed"
    """You have deleted it."""
    OWN = "own"
    """You made it, or the new version no longer has it."""


@dataclass(frozen=True, slots=True)
class Template:
    """One file, by its path below the templates' folder."""

    name: str
    change: Change


def keep_origin(origin: Path, source: Path) -> None:
    """Copy the shipped templates that an operator's are made from."""
    shutil.rmtree(origin, ignore_errors=True)
    shutil.copytree(source, origin)


def compare(templates: Path, source: Path, origin: Path) -> list[Template]:
    """Compare an operator's templates with the shipped ones, and both with the origin."""
    if not templates.is_dir():
        raise SourceError(f"{templates}: no such folder", remedy="set paths.templates, or run mailer init")
    names = sorted({*_names(templates), *_names(source)})
    return [Template(name, _change(templates / name, source / name, origin / name)) for name in names]


def unmerged(templates: Path) -> list[Path]:
    """Return the files that an update put beside changed templates, and that are still there."""
    return sorted(path for path in templates.rglob("*") if path.suffix in (_NEW, _BASE))


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (_NEW, _BASE):
            yield path.relative_to(folder).as_posix()


def _change(yours: Path, ours: Path, origin: Path) -> Change:
    mine, new, old = (_content(path) for path in (yours, ours, origin))
    if mine is None:
        return Change.ADDED if old is None else Change.REMOVED
    if new is None:
        return Change.OWN
    if mine == new:
        return Change.NOBODY
    if old is None:
        return Change.UNKNOWN
    if mine == old:
        return Change.MAILER
    return Change.YOU if new == old else Change.BOTH


def _content(path: Path) -> bytes | None:
    return path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else None


def difference(templates: Path, source: Path, origin: Path, name: str) -> str:
    """Return what the new version changed in a template, as a unified diff.

    If its origin is not known, the diff leads from the operator's template to the new one.
    """
    before = origin / name if (origin / name).is_file() else templates / name
    old, new = (_content(path) or b"" for path in (before, source / name))
    lines = difflib.unified_diff(
        old.decode(errors="replace").splitlines(keepends=True),
        new.decode(errors="replace").splitlines(keepends=True),
        str(before),
        f"{name} (new version)",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def update(templates: Path, source: Path, origin: Path) -> list[tuple[Template, Path]]:
    """Update the templates to the new version, without touching the operator's changes.

    A template that they did not change is replaced, and a new one is added. Where both changed it, the new
    version is written beside it with `.new` after its name, and the origin with `.base`, for a three-way
    merge. Returns what was written, and where. Raises `SourceError` if an earlier update is not merged yet.
    """
    if waiting := unmerged(templates):
        raise SourceError(
            f"{waiting[0]} is left from an earlier update",
            remedy="merge it into your template, delete it, and try again",
        )
    written: list[tuple[Template, Path]] = []
    for one in compare(templates, source, origin):
        path = templates / one.name
        match one.change:
            case Change.MAILER | Change.ADDED:
                target = path
            case Change.BOTH | Change.UNKNOWN:
                target = path.with_name(path.name + _NEW)
            case Change.NOBODY | Change.YOU | Change.REMOVED | Change.OWN:
                continue
            case _:
                assert_never(one.change)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / one.name, target)
        if one.change is Change.BOTH:
            shutil.copyfile(origin / one.name, path.with_name(path.name + _BASE))
        written.append((one, target))
    keep_origin(origin, source)
    return written
