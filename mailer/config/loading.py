"""Load config.toml and `MAILER_…` variables; every error names the place and the remedy."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from mailer.config.console import Oidc
from mailer.config.sections import Mailbox, Relay, Settings
from mailer.config.toml_file import KeyProblem, TomlFile, convert, did_you_mean, explained, keys_of, kind_at
from mailer.config.values import Secret, Section, Share, expanded, masked_url, written_duration
from mailer.errors import ConfigError


def load(path: Path, *, flags: Mapping[str, Any] | None = None) -> Settings:
    """Load settings; `flags` (nested tables) override the environment, then the file, then defaults.

    Raises `ConfigError` with the file and line, or the variable's name, and a remedy.
    """
    file = TomlFile.read(
        path,
        ConfigError,
        missing="go to the newsletter's folder, or name it with -C DIR; to create one: mailer init",
        remedy="correct the line; docs/reference/configuration.md has examples",
    )
    _check_variables()
    sections, problems = _sections(_over(_over(file.tables, _environment()), flags or {}))
    if problems:
        raise ConfigError("\n".join(_explain(problem, file) for problem in problems))
    origins = {
        **{key: f"{path.name}:{file.line_of(key.split('.'))}" for key in _dotted(file.tables)},
        **{key: variable for variable, key in _variables().items()},
        **dict.fromkeys(_dotted(flags or {}), "flag"),
    }
    return Settings(**sections, folder=path.parent, origins=origins)


def password(relay: Relay | Mailbox, folder: Path) -> str | None:
    """Return the password of a relay or mailbox from value, file or command; None when it has none.

    Raises `ConfigError`, which never quotes the secret.
    """
    return _secret("password", (relay.password, relay.password_file, relay.password_command), folder)


def client_secret(oidc: Oidc, folder: Path) -> str:
    """Return the client secret from value, file or command; raises the errors of `password`."""
    sources = (oidc.client_secret, oidc.client_secret_file, oidc.client_secret_command)
    return _secret("client_secret", sources, folder) or ""


def _secret(key: str, sources: tuple[Secret | None, Path | None, str | None], folder: Path) -> str | None:
    value, file, command = sources
    if value is not None:
        return value.get_secret_value()
    if file is not None:
        try:
            return (folder / expanded(file)).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"{key}_file {file}: {(error.strerror or '').lower()}",
                remedy="check the path and its permissions",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"{key}_file {file}: it is not a text file",
                remedy="save it as UTF-8, with the secret in one line",
            ) from error
    if command is not None:
        try:
            done = subprocess.run(
                shlex.split(command), capture_output=True, text=True, timeout=30, check=True, cwd=folder
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"{key}_command: {_ending(error)}",
                remedy="run the command yourself, in the newsletter's folder",
            ) from error
        return done.stdout.strip()
    return None


def _ending(error: Exception) -> str:
    """Return why a command gave nothing; never its output, which may contain the secret."""
    if isinstance(error, subprocess.TimeoutExpired):
        return "it did not end within 30 seconds"
    if isinstance(error, subprocess.CalledProcessError):
        code = error.returncode
        return f"it ended with exit code {code}" if code > 0 else f"it was ended by signal {-code}"
    if isinstance(error, OSError):
        return f"it cannot be started: {(error.strerror or '').lower()}"
    return "its output is not text, or the command has an unclosed quote"


def flatten(settings: Settings) -> dict[str, str]:
    """Return every key, dotted, with its value as text; secrets and passwords in URLs are masked.

    Durations, shares and booleans are written as in config.toml.
    """
    return {key: _as_text(value) for key, value in _dotted(_tables(settings)).items()}


def _sections(tables: Mapping[str, Any]) -> tuple[dict[str, Any], list[KeyProblem]]:
    """Return the sections in the tables, and at most one problem per section."""
    sections, problems = dict[str, Any](), list[KeyProblem]()
    for keys, kind, value in _parts(tables):
        if kind is None:
            problems.append(KeyProblem(keys, "", unknown=True))
            continue
        try:
            made = convert(value, kind)
        except msgspec.ValidationError as error:
            problems.append(explained(keys, error, kind))
            continue
        if len(keys) == 1:
            sections[keys[0]] = made
        else:
            sections.setdefault(keys[0], {})[keys[1]] = made
    return sections, problems


def _parts(tables: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the keys, the kind and the value of each section; the kind of an unknown table is None.

    Tables whose keys the operator chooses come entry by entry: msgspec would not say which entry is wrong.
    """
    kinds = _kinds(Settings)
    for name, table in tables.items():
        kind = kinds.get(name)
        if get_origin(kind) is dict and isinstance(table, Mapping):
            for part, value in table.items():
                yield (name, part), get_args(kind)[1], value
        else:
            yield (name,), kind, table


def _kinds(kind: Any) -> dict[str, Any]:
    """Return the keys of a section with their types; for `Settings`, only those that a file may contain."""
    ours = {"folder", "origins"} if kind is Settings else set[str]()
    return {name: type_ for name, type_ in keys_of(kind).items() if name not in ours}


def _tables(section: Section) -> dict[str, Any]:
    return {name: _plain(getattr(section, name)) for name in _kinds(type(section))}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return _tables(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return value


def _as_text(value: object) -> str:
    if isinstance(value, Secret):
        return "********"
    if isinstance(value, Mapping):
        return "; ".join(f"{name} = {_as_text(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return written_duration(value)
    if isinstance(value, Share):
        return f"{value * 100:g}%"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return "" if value is None else masked_url(str(value))


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
    """Return the tables set by environment variables; lists and tables are JSON."""
    tables: dict[str, Any] = {}
    for name, key in _variables().items():
        *above, last = key.split(".")
        table = tables
        for part in above:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                break
        if not isinstance(table, dict) or isinstance(table.get(last), dict):
            raise ConfigError(
                f"{name}: another MAILER_ variable sets the same key", remedy="unset one of the two"
            )
        value: Any = os.environ[name]
        if get_origin(kind_at(Settings, key.split("."))) in (tuple, dict):
            try:
                value = msgspec.json.decode(value)
            except msgspec.DecodeError as error:
                raise ConfigError(f"{name}: {error}", remedy="write it as JSON") from error
        table[last] = value
    return tables


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables recursively; `upper` wins."""
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
        if table not in _kinds(Settings):
            raise ConfigError(f"{name}: no such setting{did_you_mean(table, _kinds(Settings))}")


def _explain(problem: KeyProblem, file: TomlFile) -> str:
    dotted = ".".join(problem.keys)
    variable = next((name for name, key in _variables().items() if dotted.startswith(key)), None)
    place = variable or f"{file.path}:{file.line_of(problem.keys)}"
    if problem.unknown:
        known = _kinds(kind_at(Settings, problem.keys[:-1]))
        return f"{place}: unknown key '{dotted}'{did_you_mean(problem.keys[-1], known)}"
    return f"{place}: '{dotted}': {problem.reason}"
