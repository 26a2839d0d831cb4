"""`mailer lint`: check an issue before it is sent."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from mailer.cli import findings as shown
from mailer.cli.app import App, Command, finish, pass_app
from mailer.errors import ExitCode
from mailer.rendering.edition import Edition
from mailer.rendering.lint import Level, LintReport
from mailer.rendering.source import Issue


@click.command(cls=Command)
@click.argument("issue")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="For people (text), programs (json) or continuous integration (junit).",
)
@click.option(
    "--clients",
    default="",
    metavar="NAMES",
    help="List everything that these email clients don't support, e.g. 'gmail,outlook' or 'outlook/windows'.",
)
@click.option("--browser", is_flag=True, help="Also measure the issue with Chromium, at 320 and 700 pixels.")
@click.option("--links", is_flag=True, help="Check that every link works (uses the network).")
@click.option("--audience", is_flag=True, help="Render the issue for every subscriber who would get it.")
@click.option(
    "--to",
    "segment",
    default="",
    metavar="SEGMENT",
    help="With --audience: only these subscribers, e.g. 'tag:vip'.",
)
@pass_app
def lint(
    app: App,
    issue: str,
    strict: bool,
    form: str,
    clients: str,
    browser: bool,
    links: bool,
    audience: bool,
    segment: str,
) -> None:
    """Check ISSUE for mistakes before you send it.

    ISSUE is a file, its name without .md, or the number its name begins with. You can waive a
    finding in the front matter, with a reason: lint: {ignore: {insecure-link: "their server has no TLS"}}

    Exit codes: 0 no errors; 3 errors found (with --strict, also warnings).
    """
    from mailer.delivery import editions
    from mailer.rendering.lint.support import chosen
    from mailer.rendering.source import read_issue
    from mailer.review import linting

    try:
        wanted = chosen(name.strip().lower() for name in clients.split(",") if name.strip())
    except LookupError as error:
        raise click.BadParameter(str(error.args[0]), param_hint="'--clients'") from error
    settings = app.settings
    path = editions.find_source(settings, issue)
    source, edition = read_issue(path), editions.build(settings, path)
    message = linting.sample_message(settings, edition)
    report = linting.examine(settings, source, edition, message, clients=wanted)
    notes = []
    report, score = linting.with_spam_score(report, source, message)
    if score is not None:
        notes.append(f"SpamAssassin gives {score.score:g}, spam at {score.required:g} or more")
    if browser:
        report = _measured(report, source, edition, message, settings.web.public_url)
        notes.append("measured with Chromium")
    if links:
        report = linting.with_links(report, source)
        notes.append(f"checked {_many(len(report.addresses), 'address')}")
    if audience:
        report, checked = linting.with_audience(report, source, edition, settings, app.database, segment)
        notes.append(f"rendered for {_many(checked, 'subscriber')}")
    match form:
        case "json":
            app.emit(report.as_dict())
        case "junit":
            from mailer.review.junit import junit

            app.out(junit(report, strict=strict))
        case _:
            for line in shown.lines(report, notes):
                app.out(line)
    finish(ExitCode.FINDINGS if report.fails(strict=strict) else ExitCode.DONE)


def _measured(
    report: LintReport, issue: Issue, edition: Edition, message: bytes, public_url: str
) -> LintReport:
    """Return the report with what Chromium finds too wide."""
    from mailer.review.chromium import find_chromium, started
    from mailer.review.linting import with_browser
    from mailer.review.viewing import rendered

    html = rendered(edition, message, public_url=public_url).html
    with started(find_chromium()) as browser:
        return with_browser(report, issue, html, lambda html, width: browser.measure(html, width=width))


def _many(number: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number:,} {what if number == 1 else plural}"


def refuse_errors(app: App, path: Path, edition: Edition) -> None:
    """Show the errors of an issue that is about to be queued, and raise `FindingsError` if there are any."""
    from mailer.rendering.source import read_issue
    from mailer.review import linting

    report = linting.examine(app.settings, read_issue(path), edition)
    sources: dict[str, list[str]] = {}
    errors = [finding for finding in report.findings if finding.level is Level.ERROR]
    for finding in errors:
        for line in shown.finding_lines(finding, sources):
            click.echo(line, err=True)
    is_listed = path.resolve().parent == app.settings.path(app.settings.paths.issues).resolve()
    name = report.slug if is_listed else shlex.quote(str(path))
    linting.refuse_errors(report, name=name)
    if warnings := report.count(Level.WARNING):
        app.say(f"lint found {_many(warnings, 'warning')}: mailer lint {name}")
