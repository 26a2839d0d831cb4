"""`mailer config`: show settings and where they come from, and check them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mailer.cli.app import App, Group, finish, json_option, pass_app
from mailer.config import Settings, flatten
from mailer.errors import ExitCode, MailerError

if TYPE_CHECKING:
    from mailer.review.readiness import SetupProblem


@click.group(cls=Group)
def config() -> None:
    """Show and check settings."""


@config.command()
@json_option
@pass_app
def show(app: App, as_json: bool) -> None:
    """Print all settings and where each comes from.

    Passwords and secrets are masked.
    """
    values = flatten(app.settings)
    if as_json:
        app.emit(
            {
                "settings": {
                    key: {"value": value, "origin": app.settings.origin(key)} for key, value in values.items()
                }
            }
        )
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        app.out(f"{key:<{width}}  {value or '-'}  ({app.settings.origin(key)})")


@config.command()
@json_option
@pass_app
def check(app: App, as_json: bool) -> None:
    """Check config.toml and everything it refers to.

    This reads passwords, keys, segments, templates, and your own texts and pages, and finds whatever
    `mailer send` would refuse. It contacts no server.

    Exit codes: 0 ready to send; 6 something must be corrected first.
    """
    found = problems(app.settings)
    stopping = sum(problem.stops for problem in found)
    if as_json:
        app.emit({"problems": [asdict(problem) for problem in found]})
    else:
        for problem in found:
            _print(problem)
        _summarize(app, stopping)
    finish(ExitCode.CONFIGURATION if stopping else ExitCode.DONE)


def problems(settings: Settings) -> list[SetupProblem]:
    """Return every problem with the settings, including those of your own texts and pages."""
    # Imported on use: `mailer config show` needs none of it.
    from mailer.review import readiness

    found = readiness.problems(settings)
    templates = settings.path(settings.paths.templates)
    if not any((templates / name).is_dir() for name in ("texts", "pages")):
        return found
    from mailer.web.theme import theme_of

    try:
        theme_of(settings)
    except MailerError as error:
        found.append(readiness.SetupProblem(settings.origin("paths.templates"), error.message, error.remedy))
    return found


def _print(problem: SetupProblem) -> None:
    colour, level = ("red", "error") if problem.stops else ("yellow", "warning")
    place = click.style(problem.place, bold=True)
    click.echo(f"{place}: {click.style(level, fg=colour, bold=True)}: {problem.message}", err=True)
    if problem.remedy:
        click.echo(f"  {click.style('=', dim=True)} {problem.remedy}", err=True)


def _summarize(app: App, stopping: int) -> None:
    settings = app.settings
    if stopping:
        app.say(f"{stopping} {'error' if stopping == 1 else 'errors'}; correct them before you send")
        return
    number = len(settings.relays)
    app.out(f"{app.config_path}: valid; {number or 'no'} {'relay' if number == 1 else 'relays'}")
    if not settings.relays:
        app.say("Without a relay, messages go to the outbox on this machine. See [relays] in config.toml.")
    if not settings.newsletter.postal_address:
        app.say("newsletter.postal_address is empty: `mailer send` refuses to use a public relay (CAN-SPAM).")
