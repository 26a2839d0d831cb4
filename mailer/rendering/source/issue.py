"""Read and check an issue: YAML front matter followed by Markdown."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mailer.errors import SourceError
from mailer.rendering.edition import ABTest, Resend
from mailer.rendering.source import front_matter
from mailer.rendering.source.front_values import FrontValues, Timing

MAX_ISSUE_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue, as written. `subject`, `preheader` and `body` may contain Jinja."""

    path: Path
    slug: str
    """The file name without its suffix, which identifies the issue everywhere else."""
    title: str
    subtitle: str
    subject: str
    preheader: str
    author: str
    date: datetime.date | None
    number: int | None
    tags: tuple[str, ...]
    language: str
    """BCP 47; empty for the newsletter's own."""
    send_at: datetime.datetime | None
    """When `mailer schedule` sends it: a local time in `send_zone`, unless it is aware."""
    send_zone: str
    """An IANA time zone; empty for the machine's."""
    lint_ignores: tuple[tuple[str, str], ...]
    """Lint checks that the author has waived for this issue, each with the reason as written."""
    body: str
    body_line: int
    """The line of the file on which `body` begins, counted from 1."""
    key_lines: tuple[tuple[str, int], ...]
    """Front-matter keys with their lines, for messages."""
    other_subjects: tuple[str, ...] = ()
    """The subjects of the arms B, C and D of an A/B test."""
    other_files: tuple[str, ...] = ()
    """The files of the arms B, C and D, as paths below the folder of this one."""
    test: ABTest = field(default_factory=ABTest)
    """How the A/B test is decided, if there is one."""
    resend: Resend | None = None
    """The issue that this one repeats for readers who did not react."""
    timing: Timing | None = None
    """For a step of a sequence; None for an issue."""

    def line_of(self, key: str) -> int:
        """Return the line of a front-matter key, or 1."""
        return dict(self.key_lines).get(key, 1)


def read_issue(path: Path) -> Issue:
    """Return the issue in the file at `path`, or raise `SourceError` with place and remedy."""
    try:
        if path.stat().st_size > MAX_ISSUE_BYTES:
            raise SourceError(
                f"{path}: larger than {MAX_ISSUE_BYTES:,} bytes",
                remedy="split it, or move images out of the text",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}", remedy="check the path") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SourceError(f"{path}:{line}: not UTF-8", remedy="save the file as UTF-8") from error
    return parse_issue(text, path)


def parse_issue(text: str, path: Path) -> Issue:
    """Return the issue written in `text`; `path` names it in messages and gives the slug."""
    if len(text) > MAX_ISSUE_BYTES:
        raise SourceError(f"{path}: larger than {MAX_ISSUE_BYTES:,} bytes", remedy="split it")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]", text):
        raise SourceError(
            f"{path}:{text.count(chr(10), 0, found.start()) + 1}: control character U+{ord(found[0]):04X}",
            remedy="delete it",
        )
    front, body, body_line = front_matter.split(text, path)
    values, lines = front_matter.load(front, path)
    reader = FrontValues(values, lines, path)
    title = reader.title("title")
    timing = reader.timing()
    send_at, send_zone = reader.moment("send_at") if timing is None else (None, "")
    arms = reader.arms()
    return Issue(
        path=path,
        slug=path.stem,
        title=title,
        subtitle=reader.text("subtitle", header=True),
        subject=arms.subjects[0] if arms.subjects else _literal(title),
        preheader=reader.text("preheader", header=True),
        author=reader.text("author", header=True),
        date=reader.date("date"),
        number=reader.number("number"),
        tags=reader.tags("tags"),
        language=reader.language("language"),
        send_at=send_at,
        send_zone=send_zone,
        lint_ignores=reader.lint_ignores("lint"),
        body=body,
        body_line=body_line,
        key_lines=tuple(lines.items()),
        other_subjects=tuple(arms.subjects[1:]),
        other_files=arms.files,
        test=arms.test,
        resend=reader.resend("resend"),
        timing=timing,
    )


def _literal(text: str) -> str:
    """Return a Jinja template that renders as `text`."""
    return re.sub(r"\{(?=[{%#])", "{{ '{' }}", text)
