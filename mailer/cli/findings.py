"""Lint findings as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from mailer.rendering.lint import Finding, Level, LintReport

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}
MAX_SHOWN_CHARACTERS = 100


def lines(report: LintReport, notes: Iterable[str] = ()) -> Iterator[str]:
    """Yield the report as text: each finding with its place, then word counts and sizes."""
    sources: dict[str, list[str]] = {}
    for finding in report.findings:
        yield from finding_lines(finding, sources)
        yield ""
    yield _summary(report)
    yield (
        f"{report.words:,} words, {report.reading_time} to read; HTML {_kilobytes(report.html_bytes)}, "
        f"text {_kilobytes(report.text_bytes)}, whole message {_kilobytes(report.message_bytes)}"
    )
    yield from notes


def finding_lines(finding: Finding, sources: dict[str, list[str]]) -> Iterator[str]:
    """Yield one finding: place, message, source line and remedy. `sources` caches files."""
    level = click.style(finding.level.value, fg=_COLOURS[finding.level], bold=True)
    yield f"{click.style(finding.place, bold=True)}: {level} {finding.check}: {finding.message}"
    if finding.line is not None:
        if finding.file not in sources:
            path = Path(finding.file)
            text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
            sources[finding.file] = text.split("\n")
        whole = sources[finding.file]
        text = whole[finding.line - 1] if finding.line <= len(whole) else finding.snippet
        yield from _excerpt(finding, text.rstrip("\r"))
    yield f"  {click.style('=', dim=True)} {finding.remedy}"


def _excerpt(finding: Finding, text: str) -> Iterator[str]:
    """Yield the source line, cut to fit a terminal, and a marker below the place."""
    number, column = str(finding.line), finding.column or 1
    start = 0
    if len(text) > MAX_SHOWN_CHARACTERS:
        start = max(0, min(column - 1 - MAX_SHOWN_CHARACTERS // 3, len(text) - MAX_SHOWN_CHARACTERS))
    shown = text[start : start + MAX_SHOWN_CHARACTERS].replace("\t", " ")
    before, after = "…" if start else "", "…" if len(text) > start + len(shown) else ""
    bar = click.style("|", dim=True)
    yield f"  {number} {bar} {before}{shown}{after}"
    if finding.column is not None:
        indent = len(before) + column - 1 - start
        mark = "^" * max(1, min(finding.width, len(before) + len(shown) - indent))
        yield f"  {' ' * len(number)} {bar} {' ' * indent}{click.style(mark, fg=_COLOURS[finding.level])}"


def _summary(report: LintReport) -> str:
    counts = [(report.count(level), level.value) for level in (Level.ERROR, Level.WARNING)]
    parts = [f"{number} {name}{'' if number == 1 else 's'}" for number, name in counts if number]
    if notes := report.count(Level.INFO):
        parts.append(f"{notes} note{'' if notes == 1 else 's'}")
    if not parts:
        parts.append(click.style("nothing found", fg="green"))
    if report.ignored:
        parts.append(f"{len(report.ignored)} waived")
    end = "; mailer send will refuse it" if report.fails() else ""
    return f"{report.slug}: {', '.join(parts)}{end}"


def _kilobytes(octets: int) -> str:
    return f"{octets / 1000:,.1f} KB"
