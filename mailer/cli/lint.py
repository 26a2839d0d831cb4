"""`mailer lint`: what is wrong with an issue, before anybody gets it."""

from __future__ import annotations

import click

from mailer.cli.app import App, Command, finish, pass_app
from mailer.errors import ExitCode
from mailer.rendering.lint import Finding, Level, Report

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}
MAX_SHOWN_CHARACTERS = 110


@click.command(cls=Command)
@click.argument("issue")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@pass_app
def lint(app: App, issue: str, strict: bool) -> None:
    """Look for what is wrong with ISSUE before anybody gets it.

    ISSUE is a file, its name without .md, or the number it begins with. Exit code 3 says that there
    is an error (with --strict, or a warning).
    """
    from mailer.delivery import dispatch, linting
    from mailer.rendering.source import read_issue

    path = dispatch.find_source(app.settings, issue)
    report = linting.examine(app.settings, read_issue(path), dispatch.build(app.settings, path))
    for line in lines(report, strict=strict):
        app.out(line)
    finish(ExitCode.FINDINGS if report.fails(strict=strict) else ExitCode.DONE)


def lines(report: Report, *, strict: bool) -> list[str]:
    """Return the report as people read it: each finding with its place, then the measures."""
    out: list[str] = []
    for finding in report.findings:
        out += [*_shown(finding), ""]
    out.append(_summary(report, strict=strict))
    out.append(
        f"{report.words:,} words, {report.reading_time} to read; HTML {_kilobytes(report.html_bytes)},"
        f" text {_kilobytes(report.text_bytes)}, whole mail {_kilobytes(report.message_bytes)}"
    )
    return out


def _shown(finding: Finding) -> list[str]:
    level = click.style(finding.level.value, fg=_COLOURS[finding.level], bold=True)
    head = f"{click.style(finding.place, bold=True)}: {level} {finding.check}: {finding.message}"
    out = [head]
    if finding.line is not None and finding.snippet:
        out += _excerpt(finding)
    out.append(f"  = {finding.remedy}")
    return out


def _excerpt(finding: Finding) -> list[str]:
    """Return the line of the source with a mark below what is meant."""
    number = str(finding.line)
    column = finding.column or 1
    start = (
        max(0, column - 1 - MAX_SHOWN_CHARACTERS // 2) if len(finding.snippet) > MAX_SHOWN_CHARACTERS else 0
    )
    text = finding.snippet[start : start + MAX_SHOWN_CHARACTERS]
    before, after = "…" if start else "", "…" if len(finding.snippet) > start + len(text) else ""
    margin = " " * len(number)
    out = [f"  {number} | {before}{text}{after}"]
    if finding.column is not None:
        indent = len(before) + column - 1 - start
        mark = "^" * max(1, min(finding.width, len(text) + len(before) - indent))
        out.append(f"  {margin} | {' ' * indent}{click.style(mark, fg=_COLOURS[finding.level])}")
    return out


def _summary(report: Report, *, strict: bool) -> str:
    counts = [(report.count(level), level.value) for level in (Level.ERROR, Level.WARNING)]
    parts = [f"{number} {name}{'' if number == 1 else 's'}" for number, name in counts if number]
    if notes := report.count(Level.INFO):
        parts.append(f"{notes} note{'' if notes == 1 else 's'}")
    if report.ignored:
        parts.append(f"{len(report.ignored)} waived")
    if not report.findings:
        found = click.style("nothing found", fg="green")
        return f"{report.slug}: {found}" + (f" ({', '.join(parts)})" if parts else "")
    end = "; mailer send refuses it" if report.fails() else ""
    return f"{report.slug}: {', '.join(parts)}{end}"


def _kilobytes(octets: int) -> str:
    return f"{octets / 1000:,.1f} KB"
