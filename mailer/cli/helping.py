"""`mailer help`, `mailer completion` and `mailer man`: help generated from the commands."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from mailer import __version__
from mailer.cli.app import App, Command, pass_app

_SHELLS: Final = {
    "bash": "~/.bash_completion",
    "zsh": '"${fpath[1]}/_mailer"',
    "fish": "~/.config/fish/completions/mailer.fish",
}


@click.command("help", cls=Command)
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@pass_app
@click.pass_context
def help_command(context: click.Context, app: App, names: tuple[str, ...]) -> None:
    """Show the help page of COMMAND, like `mailer COMMAND --help`."""
    found = context.find_root()
    for name in names:
        group = found.command
        inner = group.get_command(found, name) if isinstance(group, click.Group) else None
        if inner is None:
            raise click.UsageError(f"There is no command '{' '.join(names)}'.", found)
        found = click.Context(inner, parent=found, info_name=name)
    app.out(found.get_help())


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(_SHELLS)), required=False)
@pass_app
def completion(app: App, shell: str | None) -> None:
    """Print the completion script for SHELL; by default, for the shell that you use.

    \b
    bash:  mailer completion bash >> ~/.bash_completion
    zsh:   mailer completion zsh > "${fpath[1]}/_mailer"
    fish:  mailer completion fish > ~/.config/fish/completions/mailer.fish
    """
    from mailer.cli import mailer

    shell = shell or Path(os.environ.get("SHELL", "")).name
    made_by = get_completion_class(shell) if shell in _SHELLS else None
    if made_by is None:
        raise click.UsageError(f"Name the shell: {', '.join(_SHELLS)}.")
    app.out(made_by(mailer, {}, "mailer", "_MAILER_COMPLETE").source())


@click.command(cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@pass_app
def man(app: App, folder: Path) -> None:
    """Write a manual page for each command to FOLDER, such as ~/.local/share/man/man1."""
    from mailer.cli import mailer

    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for context in contexts(mailer, click.Context(mailer, info_name="mailer")):
        name = context.command_path.replace(" ", "-")
        (folder / f"{name}.1").write_text(_page(name, context), encoding="utf-8")
        number += 1
    app.out(f"{folder}: {number} pages")


def contexts(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """Yield the context of a command, and those of all commands below it."""
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            if not inner.hidden:
                yield from contexts(inner, click.Context(inner, parent=context, info_name=name))


def _page(name: str, context: click.Context) -> str:
    """Return a manual page in the language of man(7)."""
    command = context.command
    paragraphs = inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n")
    lines = [
        f'.TH "{name.upper()}" "1" "" "mailer {__version__}" "mailer"',
        ".ad l",
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(paragraphs[0].splitlines()[0].rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(context.command_path)}",
        _roff(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
    ]
    for paragraph in paragraphs:
        lines += [".PP", *(_roff(line) for line in paragraph.splitlines())]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for inner in command.list_commands(context):
            lines += [".TP", f".B {_roff(f'{name}-{inner}(1)')}", _roff(_summary(command, context, inner))]
    lines.append(".SH OPTIONS")
    for record in filter(None, (one.get_help_record(context) for one in command.params)):
        lines += [".TP", f".B {_roff(record[0])}", _roff(record[1])]
    return "\n".join(lines) + "\n"


def _summary(group: click.Group, context: click.Context, name: str) -> str:
    inner = group.get_command(context, name)
    return "" if inner is None else inner.get_short_help_str(limit=200)


def _roff(text: str) -> str:
    """Return one line of text with what roff would interpret escaped."""
    text = re.sub(r"\s+", " ", text).strip().replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
