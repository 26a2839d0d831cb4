"""The configuration reference in Markdown, generated from the settings.

`python -m mailer.config.reference FILE` writes it. The description of a key is the docstring below it.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, get_args, get_origin

import msgspec

from mailer.config.sections import Settings
from mailer.config.toml_file import keys_of
from mailer.config.values import Secret, Section, Share, written_duration

_INTRODUCTION: Final = """\
# Configuration

`config.toml` is in the newsletter's folder, beside the database and the issues. The one that `mailer init` \
writes is commented and works unchanged. `mailer config show` prints every value and where it comes from. \
`mailer config check` also reads everything the file refers to (passwords, keys, segments, templates, your \
own texts and pages) and reports whatever `mailer send` would refuse.

A flag overrides the environment, the environment overrides the file, and the file overrides the default. \
In the environment, a key is written `MAILER_TABLE__KEY`, for example `MAILER_RELAYS__MAIN__HOST`; write \
lists and tables there as JSON. An unknown key is an error, and the message suggests the closest one.

Write durations as ISO 8601 (`"PT30M"`, `"P2D"`) or in seconds, and shares as `"2%"`. Paths are relative to \
the folder of `config.toml` and may begin with `~`. Never put a secret on a command line: use \
`password_file`, `password_command` or the environment.
"""
_SEE: Final = {
    "[rendering]": "../how/writing.md",
    "[canary]": "../how/delivery.md#send-to-a-few-readers-first",
    "[sequences.NAME]": "../how/sequences.md",
    "[digests.NAME]": "../how/digests.md#by-schedule",
    "[bounces]": "../how/bounces.md",
    "[console]": "../console.md#several-people",
    "[console.oidc]": "../console.md#your-organizations-login",
    "[signup]": "../how/subscribing.md#who-may-sign-up-and-how-often",
    "[tracking]": "../how/consent.md#opens-and-clicks",
    "[retention]": "../how/consent.md#retention",
    "[segments]": "segments.md",
    "[imports.NAME]": "../how/importing.md#map-columns",
    "[paths] database": "../how/database.md",
    "[paths] templates": "../how/templates.md",
    "[web] welcome": "../how/subscribing.md#letters",
    "[web] goodbye": "../how/subscribing.md#letters",
    "[web] tags": "../how/preferences.md#tags-on-offer",
    "[web] reasons": "../how/preferences.md#why-people-unsubscribe",
}
"""The guide to a table or a key."""


def reference() -> str:
    """Return the page `reference/configuration.md` of the documentation."""
    ours = _descriptions(Settings)
    lines = [_INTRODUCTION]
    for name, kind in keys_of(Settings).items():
        if name in ("folder", "origins"):
            continue
        part = next((one for one in (kind, *get_args(kind)) if keys_of(one)), None)
        if part is None:
            lines += _heading(f"[{name}]", ours[name])
        else:
            form = {dict: f"[{name}.NAME]", tuple: f"[[{name}]]"}.get(get_origin(kind), f"[{name}]")
            lines += _table(form, part)
    return "\n".join(lines)


def _table(title: str, kind: type[Section]) -> Iterator[str]:
    """Yield a section, and then the sections within it."""
    yield from _heading(title, inspect.getdoc(kind) or "")
    yield from ("| key | default | |", "|---|---|---|")
    described = _descriptions(kind)
    for field in msgspec.structs.fields(kind):
        default = field.default_factory() if callable(field.default_factory) else field.default
        shown = "" if default in (None, msgspec.NODEFAULT) else f"`{_toml(default)}` "
        more = _link(f"{title} {field.name}")
        yield f"| `{field.name}` | {shown}| {' '.join(filter(None, (described[field.name], more)))} |"
    yield ""
    for name, type_ in keys_of(kind).items():
        for inner in (one for one in get_args(type_) if keys_of(one)):
            place = f"[{title.strip('[]')}.{name}]"
            yield from _table(f"[{place}]" if get_origin(type_) is tuple else place, inner)


def _heading(title: str, docstring: str) -> list[str]:
    """Return the heading and the introduction, which the docstring gives after the title."""
    text = " ".join(docstring.partition(": ")[2].split())
    return [f"## {title}", "", " ".join(filter(None, (text[:1].upper() + text[1:], _link(title)))), ""]


def _link(place: str) -> str:
    return f"See [the guide]({_SEE[place]})." if place in _SEE else ""


def _descriptions(kind: type[Section]) -> dict[str, str]:
    """Return the docstring below each key, as one line."""
    (class_,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(class_, ast.ClassDef)
    found: dict[str, str] = {}
    for key, below in zip(class_.body, class_.body[1:], strict=False):
        match key, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _toml(value: object) -> str:
    """Return a value as it is written in config.toml."""
    match value:
        case timedelta():
            return f'"{written_duration(value)}"'
        case Share():
            return f'"{value * 100:g}%"'
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case int():
            return str(value)
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return "{}"
        case Secret():
            return ""
    return json.dumps(str(value), ensure_ascii=False)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
