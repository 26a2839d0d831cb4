"""The parts that all commands share: settings, database, output, options and exit codes."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mailer import logs
from mailer.errors import ExitCode, RefusedError
from mailer.printable import whole_number

if TYPE_CHECKING:
    from mailer.config import Settings
    from mailer.database.engine import Database
    from mailer.tokens import Signer

JSON_VERSION = 1


class App:
    """One invocation: the newsletter's folder, its settings and database, and the two outputs.

    Data goes to standard output; progress, notes and questions to standard error.
    """

    def __init__(self) -> None:
        self.directory = Path()
        self.config_file: Path | None = None
        self.quiet = False
        self.verbose = False
        self.debug = False
        self.log_format: Literal["text", "json"] = "text"
        self.log_addresses = False

    @property
    def config_path(self) -> Path:
        """The config.toml in use: without -C and --config, the nearest in this folder and those above it.

        A file above that belongs to another user is ignored, because config.toml may name commands to run.
        """
        if self.config_file is not None:
            return self.config_file
        path = self.directory / "config.toml"
        if self.directory == Path() and not path.exists():
            above = (folder / "config.toml" for folder in Path.cwd().parents)
            path = next(filter(_is_ours, above), path)
        return path

    @cached_property
    def settings(self) -> Settings:
        """The checked settings; raises `ConfigError` with file and line."""
        # Imported on use: `--help` needs no settings.
        from mailer.config import load

        return load(self.config_path)

    @cached_property
    def database(self) -> Database:
        """The open database, made on first use; raises `SchemaError` if it has another version."""
        database = self.unopened_database
        database.open()
        return database

    @cached_property
    def unopened_database(self) -> Database:
        """The database, without checking its schema."""
        # Imported on use: half of the commands need no database, and importing it takes longer than they do.
        from mailer.database.engine import Database

        return Database(self.settings.paths.database, folder=self.settings.folder)

    @cached_property
    def signer(self) -> Signer:
        """The signer over this installation's secrets."""
        from mailer.tokens import Signer

        return Signer(self.database.secrets())

    def close(self) -> None:
        """Close the database if this invocation used it."""
        if "unopened_database" in self.__dict__:
            self.unopened_database.close()

    def out(self, text: str = "") -> None:
        """Print data."""
        click.echo(text)

    def emit(self, fields: Mapping[str, Any]) -> None:
        """Print one JSON object, with the version of its format."""
        click.echo(json.dumps({"version": JSON_VERSION, **fields}, ensure_ascii=False, default=str))

    def say(self, text: str) -> None:
        """Print a note to standard error, or log it as JSON, unless --quiet was given."""
        if self.log_format == "json":
            logging.getLogger("mailer").info("%s", text)
        elif not self.quiet:
            click.echo(text, err=True)

    def confirm(self, question: str, *, yes: bool, what: str) -> None:
        """Ask for confirmation; without a terminal, raise `RefusedError` unless --yes was given."""
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise RefusedError(f"{what} was not confirmed", remedy="add --yes when there is no terminal")
        if not click.confirm(question, err=True):
            raise RefusedError(f"{what} was not confirmed; nothing was done")


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid in (os.getuid(), 0) and path.is_file()
    except OSError:
        return False


pass_app = click.make_pass_decorator(App, ensure=True)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value not in (None, False):
            setattr(context.ensure_object(App), name, value)

    return callback


def _common() -> list[click.Parameter]:
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    return [
        click.Option(
            ["-C", "directory"],
            type=folder,
            metavar="DIR",
            expose_value=False,
            callback=_set("directory"),
            help="The newsletter's folder; by default, this one or the nearest above with a config.toml.",
        ),
        click.Option(
            ["--config", "config_file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_set("config_file"),
            help="Use this file instead of config.toml.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set("quiet"),
            help="Print fewer messages.",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_set("verbose"),
            help="Print more details.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_set("debug"),
            help="Show tracebacks of errors.",
        ),
    ]


def common_names() -> set[str]:
    """Return the names of the options that every command takes."""
    return {str(option.name) for option in _common()}


def imported(place: str) -> click.Command:
    """Import a command, given as `module:attribute`.

    The objects of its module, which are never freed, are exempt from garbage collection.
    """
    name, attribute = place.split(":")
    if (module := sys.modules.get(name)) is None:
        gc.disable()
        try:
            module = importlib.import_module(name)
        finally:
            gc.freeze()
            gc.enable()
    command: click.Command = getattr(module, attribute)
    return command


class Command(click.Command):
    """A command that takes the common options as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common())


class Group(click.Group):
    """A group whose commands take the common options, before or after the command's name.

    `elsewhere` are the commands that are imported when they are used: their names, each with
    `module:attribute`.
    """

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, elsewhere: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common())
        self._elsewhere = dict(elsewhere or {})

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *self._elsewhere])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        place = self._elsewhere.get(name)
        return super().get_command(context, name) if place is None else imported(place)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its whole first sentence; click would cut it at the end of a line."""
        commands = [(name, self.get_command(context, name)) for name in self.list_commands(context)]
        rows = [
            (name, command.get_short_help_str(limit=200))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of commands that run for long, and start the log when they are parsed."""

    def start(context: click.Context, parameter: click.Parameter, value: Literal["text", "json"]) -> None:
        app = context.ensure_object(App)
        app.log_format = value
        logs.set_up(value, addresses=app.log_addresses)

    addresses = click.option(
        "--log-addresses",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set("log_addresses"),
        help="Keep email addresses in the log; by default only their domains are.",
    )
    form = click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        expose_value=False,
        callback=start,
        help="How to write the log to standard error.",
    )
    return form(addresses(command))


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Don't ask for confirmation.")
segment_option = click.option(
    "--to",
    "--segment",
    "segment",
    default="",
    metavar="SEGMENT",
    help="Only these subscribers, e.g. 'tag:vip'.",
)
dry_run_option = click.option(
    "-n", "--dry-run", is_flag=True, help="Show what would happen without doing it."
)


def limit_option(
    what: str, *, default: int = 50, most: int = 10_000
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option --limit of a command that lists `what`."""
    return click.option(
        "--limit",
        default=default,
        show_default=True,
        type=click.IntRange(1, most),
        metavar="N",
        help=f"List at most N {what}.",
    )


class Number(click.FloatRange):
    """A number within bounds. A range alone would let `nan` pass, since no comparison with it holds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


class RowNumber(click.types.IntParamType):
    """The number of something in the database, as the lists show it; a larger one would not fit there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        number = whole_number(str(value))
        if number is None:
            self.fail(f"'{value}' is not a number such as 7", param, ctx)
        return number


def finish(code: ExitCode) -> None:
    """End the command with an exit code, without an error message."""
    if code:
        raise click.exceptions.Exit(int(code))


def pair(text: str, option: str) -> tuple[str, str]:
    """Return the key and the value of a KEY=VALUE option; raise `UsageError` if it has another form."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise click.UsageError(f"{option} takes KEY=VALUE, not '{text}'")
    return key, value
