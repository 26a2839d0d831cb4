"""The files of a sequence: one Markdown file for each step, in the order of their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mailer.audience.segments import parse_segment
from mailer.config import Sequence, Settings
from mailer.delivery import editions
from mailer.errors import SegmentError, SourceError
from mailer.rendering.edition import Edition

if TYPE_CHECKING:
    from mailer.rendering.source.front_values import Timing


@dataclass(frozen=True, slots=True)
class WrittenStep:
    """A step as its file describes it."""

    name: str
    path: Path
    timing: Timing
    edition: Edition


def written_steps(
    settings: Settings, name: str, links: Mapping[str, tuple[str, ...]] | None = None
) -> list[WrittenStep]:
    """Return the steps of a sequence, rendered; `links` are those of stored steps, which keep their numbers.

    Raises `SourceError` for a mistake in a file, or if there is none.
    """
    # Imported here: Markdown takes long to load.
    from mailer.rendering.source import read_issue

    found = []
    folder = settings.path(folder_of(name, configured(settings, name)))
    for path in sorted(folder.glob("*.md")):
        issue = read_issue(path)
        if issue.timing is None:
            raise SourceError(
                f"{path}:1: this step does not say when it is sent",
                remedy="write after: P3D in its front matter; P0D for the first step",
            )
        if issue.other_subjects or issue.other_files or issue.resend:
            raise SourceError(f"{path}:1: a step cannot have an A/B test or be a resend", remedy="remove it")
        _check_segment(issue.timing.only, settings, f"{path}:{issue.line_of('only')}")
        step = replace(issue, slug=slug_of(name, path.stem))
        edition = editions.build_issue(settings, step, links=(links or {}).get(path.stem, ()))
        found.append(WrittenStep(path.stem, path, issue.timing, edition))
    if not found:
        raise SourceError(f"{folder} has no steps", remedy=f"write {folder}/01-hello.md, with after: P0D")
    return found


def configured(settings: Settings, name: str) -> Sequence:
    """Return a sequence of config.toml; raise `SourceError` if there is none with this name."""
    if name not in settings.sequences:
        known = ", ".join(settings.sequences) or "none"
        raise SourceError(f"config.toml has no [sequences.{name}]", remedy=f"the sequences are: {known}")
    sequence = settings.sequences[name]
    _check_segment(sequence.goal, settings, f"sequences.{name}.goal")
    return sequence


def folder_of(name: str, sequence: Sequence) -> Path:
    """Return the folder of a sequence's files, as it is configured."""
    return sequence.folder if sequence.folder != Path() else Path("sequences", name)


def slug_of(sequence: str, step: str) -> str:
    """Return the slug of the issue that a step is."""
    return f"{sequence}-{step}"


def _check_segment(segment: str, settings: Settings, place: str) -> None:
    if not segment:
        return
    try:
        parse_segment(segment, settings.segments)
    except SegmentError as error:
        raise SourceError(f"{place}: {error.message}", remedy=error.remedy) from error
