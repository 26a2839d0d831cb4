"""A finding, and the report that holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum


class Level(StrEnum):
    """The level of a finding: errors stop `mailer send`, warnings do so with `--strict`."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, its place in the source, and its remedy."""

    check: str
    level: Level
    message: str
    remedy: str
    file: str = ""
    line: int | None = None
    """From 1; None if the place in the source is unknown."""
    column: int | None = None
    snippet: str = ""
    """The line of the source, or the text that was found if the line is unknown."""
    width: int = 0
    """The number of characters to mark, from `column` on."""

    @property
    def place(self) -> str:
        """`file`, `file:line` or `file:line:column`, as far as it is known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)


@dataclass(frozen=True, slots=True)
class LintReport:
    """The findings for one issue, and its size."""

    slug: str
    findings: tuple[Finding, ...]
    """Sorted by place; those without a line come first."""
    ignored: tuple[tuple[Finding, str], ...]
    """Waived findings, each with the author's reason."""
    words: int
    reading_time: str
    html_bytes: int
    """The size of the HTML part, decoded, as the sample reader gets it."""
    text_bytes: int
    message_bytes: int
    addresses: tuple[str, ...]
    """Web addresses that the message links to or loads from, except the newsletter's own pages."""

    def count(self, level: Level) -> int:
        """Return how many findings of this level there are."""
        return sum(finding.level is level for finding in self.findings)

    def fails(self, *, strict: bool = False) -> bool:
        """Whether there is an error or, with `strict`, a warning."""
        return bool(self.count(Level.ERROR) or (strict and self.count(Level.WARNING)))

    def as_dict(self) -> dict[str, object]:
        """Return the report as `mailer lint --format json` prints it."""
        return {
            "issue": self.slug,
            "findings": [asdict(finding) for finding in self.findings],
            "ignored": [{**asdict(finding), "reason": reason} for finding, reason in self.ignored],
            "errors": self.count(Level.ERROR),
            "warnings": self.count(Level.WARNING),
            "words": self.words,
            "reading_time": self.reading_time,
            "html_bytes": self.html_bytes,
            "text_bytes": self.text_bytes,
            "message_bytes": self.message_bytes,
        }

    def with_findings(self, more: Iterable[Finding], waived: dict[str, str]) -> LintReport:
        """Return the report with `more` findings; `waived` maps check ids to the author's reasons."""
        findings, ignored = list(self.findings), list(self.ignored)
        for finding in more:
            if finding.check in waived:
                ignored.append((finding, waived[finding.check]))
            else:
                findings.append(finding)
        findings.sort(key=lambda found: (found.file, found.line or 0, found.column or 0))
        return replace(self, findings=tuple(findings), ignored=tuple(ignored))
