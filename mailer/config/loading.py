"""Reading config.toml and the `MAILER_…` environment; every error says where and what would be right."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from mailer.config.sections import (
    Bounces,
    Brand,
    Canary,
    Delivery,
    DkimKey,
    Mailbox,
    Newsletter,
    Paths,
    Provider,
    Relay,
    Rendering,
    Settings,
    Tracking,
    Web,
    Webhooks,
)
from mailer.errors import ConfigError


def load(path: Path, *, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read settings: `flags` (nested tables) over environment over the file over defaults.

    Raises `ConfigError` with file and line, or the variable's name, and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file", remedy="go to the newsletter's folder, or name it with -C DIR"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", remedy="mend the line; the form is TOML") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="check the file's permissions") from error

    _check_variables()
    try:
        settings = Settings.model_validate(_over(_over(tables, _environment()), flags or {}))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, path, text) for problem in error.errors())) from error
    settings._folder = path.parent
    settings._origins = {
        **{key: f"{path.name}:{_line_of(key.split('.'), text)}" for key in _dotted(tables)},
        **{key: variable for variable, key in _variables().items()},
        **dict.fromkeys(_dotted(flags or {}), "flag"),
    }
    return settings


def password(relay: Relay | Mailbox, folder: Path) -> str | None:
    """Return the password of a relay or mailbox from value, file or command; None when it has none.

    Raises `ConfigError`, which never quotes the secret.
    """
    if relay.password is not None:
        return relay.password.get_secret_value()
    if relay.password_file is not None:
        try:
            return (folder / relay.password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"password_file {relay.password_file}: {error.strerror}") from error
    if relay.password_command is not None:
        try:
            done = subprocess.run(
                shlex.split(relay.password_command),
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
                cwd=folder,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ConfigError(f"password_command failed: {type(error).__name__}") from error
        return done.stdout.strip()
    return None


def flatten(settings: Settings) -> dict[str, str]:
    """Return every key, dotted, with its value as text; secrets are masked."""
    return {key: _as_text(value) for key, value in _dotted(settings.model_dump(mode="python")).items()}


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} s"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _dotted(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping) and value:
            found |= _dotted(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _variables() -> dict[str, str]:
    """Return our environment variables with the dotted keys they set."""
    return {
        name: name.removeprefix("MAILER_").lower().replace("__", ".")
        for name in os.environ
        if name.startswith("MAILER_")
    }


def _environment() -> dict[str, Any]:
    """Return the tables that our environment variables spell out."""
    if not _variables():
        return {}
    # Loaded for those who set one: it takes longer than all else that reads the settings.
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

    # Of a settings class the source reads the fields, which every model has.
    fields = cast("type[BaseSettings]", Settings)
    try:
        return EnvSettingsSource(fields, env_prefix="MAILER_", env_nested_delimiter="__")()
    except SettingsError as error:
        raise ConfigError(
            f"environment: {error}", remedy="write tables as MAILER_TABLE__KEY=value"
        ) from error


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, table by table; where both have a key, what `upper` says."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _over(below, value)
        else:
            merged[key] = value
    return merged


def _check_variables() -> None:
    for name, key in _variables().items():
        table = key.partition(".")[0]
        if table not in Settings.model_fields:
            raise ConfigError(f"{name}: no such setting{_did_you_mean(table, Settings.model_fields)}")


def _explain(problem: ErrorDetails, path: Path, text: str) -> str:
    keys = [str(part) for part in problem["loc"]]
    dotted = ".".join(keys)
    variable = next((name for name, key in _variables().items() if dotted.startswith(key)), None)
    place = variable or f"{path}:{_line_of(keys, text)}"
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key '{dotted}'{_did_you_mean(keys[-1], _known_keys(keys[:-1]))}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{place}: '{dotted}': {reason[:1].lower()}{reason[1:]}"


def _known_keys(table: list[str]) -> Iterable[str]:
    """Return the keys that a table may hold, from the models."""
    sections: dict[str, type[BaseModel]] = {
        "newsletter": Newsletter,
        "brand": Brand,
        "rendering": Rendering,
        "relays": Relay,
        "providers": Provider,
        "delivery": Delivery,
        "canary": Canary,
        "dkim": DkimKey,
        "bounces": Bounces,
        "web": Web,
        "webhooks": Webhooks,
        "tracking": Tracking,
        "paths": Paths,
    }
    model = sections.get(table[0]) if table else Settings
    return model.model_fields if model is not None else ()


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(sorted(known))}"


def _line_of(keys: list[str], text: str) -> int:
    """Return the line where a key stands, or where its table begins, or 1."""
    table: list[str] = []
    best, best_depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            found = table
        elif assignment := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            found = table + [part.strip("\"'") for part in assignment[1].split(".")]
        else:
            continue
        # Places in arrays of tables are numbers: they do not stand in the text.
        wanted = [key for key in keys if not key.isdecimal()]
        if found == wanted[: len(found)] and len(found) > best_depth:
            best, best_depth = number, len(found)
    return best
