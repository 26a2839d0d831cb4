"""The command reference in Markdown, generated from the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from mailer.cli.app import common_names

_BAR = "\\|"


def reference() -> str:
    """Return the page `reference/commands.md` of the documentation site."""
    from mailer.cli import mailer

    top = click.Context(mailer, info_name="mailer")
    lines = [
        "# Commands",
        "",
        *_paragraphs(mailer),
        "",
        "Every command accepts these options, except `--version`:",
        "",
    ]
    lines += _options(mailer.params, top)
    for name in mailer.list_commands(top):
        command = mailer.get_command(top, name)
        assert command is not None
        lines += _command(command, click.Context(command, parent=top, info_name=name), level=2)
    return "\n".join(lines) + "\n"


def _command(command: click.Command, context: click.Context, *, level: int) -> Iterator[str]:
    yield from ("", f"{'#' * level} {context.command_path}", "", *_paragraphs(command), "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            if not inner.hidden:
                child = click.Context(inner, parent=context, info_name=name)
                yield from _command(inner, child, level=level + 1)
        return
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from ("```", f"{context.command_path} {pieces}", "```", "")
    own = [one for one in command.params if one.name not in common_names()]
    yield from _options(own, context)


def _paragraphs(command: click.Command) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("\b", "").replace("<", "&lt;")
    return text.split("\n")


def _options(options: list[click.Parameter], context: click.Context) -> list[str]:
    rows = [one.get_help_record(context) for one in options]
    told = [f"| `{name.replace('|', _BAR)}` | {_cell(says)} |" for name, says in filter(None, rows)]
    return ["| option | |", "|---|---|", *told] if told else []


def _cell(text: str) -> str:
    return text.replace("|", _BAR).replace("<", "&lt;")
