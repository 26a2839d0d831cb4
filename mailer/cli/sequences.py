"""`mailer sequences`: series of messages that start when a person enters."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from mailer.address import parse_address
from mailer.cli.app import App, Group, json_option, pass_app, yes_option
from mailer.delivery import requirements
from mailer.delivery.sequences import files, listing, looking, storing
from mailer.delivery.sequences.files import WrittenStep
from mailer.delivery.sequences.storing import Plan
from mailer.errors import SourceError

no_lint_option = click.option(
    "--no-lint", is_flag=True, help="Apply the steps even if `mailer lint` finds errors."
)


@click.group(cls=Group)
def sequences() -> None:
    """Send each person a series of messages, starting when they enter; `mailer worker` sends them."""


@sequences.command("list")
@json_option
@pass_app
def list_command(app: App, as_json: bool) -> None:
    """List the sequences, and how many people are in each."""
    with app.database.reading() as connection:
        found = listing.listed(connection)
    waiting = [name for name in app.settings.sequences if name not in {one.name for one in found}]
    if as_json:
        app.emit({"sequences": [asdict(one) for one in found], "not_applied": waiting})
        return
    for one in found:
        ended = "".join(f", {number:,} {why}" for why, number in sorted(one.ended.items()))
        paused = "  paused" if one.paused_at else ""
        steps = f"{one.steps} {'step' if one.steps == 1 else 'steps'}"
        app.out(f"{one.name}  {one.trigger}  {steps}  {one.under_way:,} under way{ended}{paused}")
        if one.name not in app.settings.sequences:
            app.say(f"{one.name} is not in config.toml; to stop it: mailer sequences pause {one.name}")
    for name in waiting:
        app.out(f"{name}  not applied; see mailer sequences plan {name}")
    if not found and not waiting:
        app.say("config.toml has no [sequences.NAME]")


@sequences.command("plan")
@click.argument("name")
@json_option
@pass_app
def plan_command(app: App, name: str, as_json: bool) -> None:
    """Preview what `apply` would do to the people in NAME."""
    made, _ = _planned(app, name)
    if as_json:
        app.emit(asdict(made))
        return
    _tell(app, made)
    if made.changes_something:
        app.say(f"next: mailer sequences apply {name}")


@sequences.command("apply")
@click.argument("name")
@no_lint_option
@yes_option
@pass_app
def apply_command(app: App, name: str, no_lint: bool, yes: bool) -> None:
    """Put the files of NAME and its settings into effect.

    Shows the plan and asks first. Nobody gets a step twice, whatever changes.

    Exit codes: 0 applied; 3 lint found errors; 5 refused.
    """
    made, steps = _planned(app, name)
    _tell(app, made)
    if not made.changes_something:
        return
    requirements.check_ready(app.settings)
    if not no_lint:
        _lint(app, steps)
    app.confirm(f"Apply this to {name}?", yes=yes, what="applying")
    with app.database.transaction() as connection:
        storing.apply(connection, name, files.configured(app.settings, name), steps, at=datetime.now(UTC))
    app.out(f"{name}: applied; mailer worker sends it")


@sequences.command("pause")
@click.argument("name")
@pass_app
def pause_command(app: App, name: str) -> None:
    """Stop sending the steps of NAME until you resume it."""
    with app.database.transaction() as connection:
        changed = storing.pause(connection, name, at=datetime.now(UTC))
    app.out(f"{name}: {'paused' if changed else 'is already paused'}")


@sequences.command("resume")
@click.argument("name")
@pass_app
def resume_command(app: App, name: str) -> None:
    """Resume NAME; messages that came due meanwhile are sent."""
    with app.database.transaction() as connection:
        changed = storing.resume(connection, name)
    app.out(f"{name}: {'resumed' if changed else 'is not paused'}")


@sequences.command("enter")
@click.argument("name")
@click.argument("address")
@pass_app
def enter_command(app: App, name: str, address: str) -> None:
    """Add the subscriber with ADDRESS to NAME, whatever its trigger."""
    with app.database.transaction() as connection:
        looking.enter_one(connection, name, parse_address(address), at=datetime.now(UTC))
    app.out(f"{address}: entered {name}")


@sequences.command("stats")
@click.argument("name")
@json_option
@pass_app
def stats_command(app: App, name: str, as_json: bool) -> None:
    """Show the results of each step of NAME."""
    with app.database.reading() as connection:
        stored = storing.find(connection, name)
        found = [] if stored is None else listing.steps(connection, stored.id)
    if stored is None:
        raise SourceError(
            f"the sequence {name} was never applied", remedy=f"apply it with: mailer sequences apply {name}"
        )
    if as_json:
        app.emit({"sequence": name, "steps": [one.as_dict() for one in found]})
        return
    for one in found:
        books = one.books
        rest = "".join(
            f", {number:,} {state}"
            for state, number in (("failed", books.failed), ("skipped", books.skipped), ("open", books.open))
            if number
        )
        app.out(f"{one.name}: {one.waiting:,} waiting, {books.sent:,} sent{rest}, {one.clicked:,} clicked")


def _planned(app: App, name: str) -> tuple[Plan, list[WrittenStep]]:
    configured = files.configured(app.settings, name)
    with app.database.reading() as connection:
        links = storing.links_of(connection, name)
    steps = files.written_steps(app.settings, name, links)
    with app.database.reading() as connection:
        return storing.plan(connection, name, configured, steps), steps


def _tell(app: App, made: Plan) -> None:
    if made.new:
        app.out(f"{made.name} is new; people who enter from now on get:")
    for key in made.settings:
        app.out(f"{key} in config.toml changes")
    for change in made.changes:
        app.out(f"  {change.step}: {change.kind}; {change.said}")
    if not made.changes_something:
        app.out(f"{made.name}: nothing changes")


def _lint(app: App, steps: list[WrittenStep]) -> None:
    from mailer.cli.lint import refuse_errors

    for step in steps:
        refuse_errors(app, Path(step.path), step.edition)
