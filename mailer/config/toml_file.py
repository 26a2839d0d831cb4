"""Read TOML files; every error names the file, the line and the remedy."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from mailer.config.values import FORMS, FieldError, Section, Share, parse_share
from mailer.errors import MailerError

Kind = TypeVar("Kind")


class TomlFile(Struct, frozen=True):
    """A parsed TOML file, with its text for line numbers."""

    path: Path
    text: str
    tables: dict[str, Any]

    @classmethod
    def read(cls, path: Path, error: type[MailerError], *, missing: str, remedy: str) -> TomlFile:
        """Read and parse a file.

        Raises `error` with file and line; `missing` is the remedy if there is no such file.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
            return cls(path, text, tomllib.loads(text))
        except FileNotFoundError as problem:
            raise error(f"{path}: no such file", remedy=missing) from problem
        except UnicodeDecodeError as problem:
            raise error(f"{path}: not UTF-8 ({problem.reason})", remedy="save it as UTF-8") from problem
        except tomllib.TOMLDecodeError as problem:
            raise error(f"{path}:{_syntax_error(str(problem), text)}", remedy=remedy) from problem
        except (RecursionError, ValueError) as problem:
            raise error(f"{path}: nested too deeply, or a number too long", remedy=remedy) from problem
        except OSError as problem:
            raise error(f"{path}: {problem.strerror}", remedy="check the file's permissions") from problem

    def line_of(self, keys: Sequence[str]) -> int:
        """Return the line of a key, or of its table, or 1.

        Indexes into arrays of tables are numbers; without one, the first table counts.
        """
        table: list[str] = []
        tables = dict[tuple[str, ...], int]()
        best, best_depth = 1, 0
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := _HEADER.match(line):
                table = _parts(header[2])
                if header[1] == "[[":
                    name = tuple(table)
                    tables[name] = tables.get(name, -1) + 1
                    if name == tuple(keys) and not best_depth:
                        best, best_depth = number, len(name)
                    table.append(str(tables[name]))
                found = table
            elif assignment := _ASSIGNMENT.match(line):
                found = table + _parts(assignment[1])
            else:
                continue
            if found == list(keys[: len(found)]) and len(found) > best_depth:
                best, best_depth = number, len(found)
        return best


_HEADER: Final = re.compile(r"\s*(\[\[?)([^\]]+)\]")
_ASSIGNMENT: Final = re.compile(r"\s*([\w.\"'-]+)\s*=")


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _syntax_error(said: str, text: str) -> str:
    """Return `line: problem`; the parser puts the line last."""
    found = re.search(r"line (\d+)", said)
    line = int(found[1]) if found else max(len(text.splitlines()), 1)
    return f"{line}: {lower_first(said.partition(' (at ')[0])}"


def lower_first(text: str) -> str:
    """Return a text with its first letter in lower case, to continue a sentence."""
    return f"{text[:1].lower()}{text[1:]}"


class KeyProblem(NamedTuple):
    """The problem with a key's value; `unknown` means that there is no such key."""

    keys: tuple[str, ...]
    reason: str
    unknown: bool = False


def convert(value: Any, kind: Any) -> Any:
    """Convert a TOML value to a type; raise `msgspec.ValidationError`."""
    return msgspec.convert(value, kind, strict=False, dec_hook=_from_toml)


def section(kind: type[Kind], table: Mapping[str, Any]) -> Kind:
    """Return a section from a TOML table; raise `ValueError` for an invalid value."""
    made: Kind = convert(table, kind)
    return made


def value_problem(kind: type[Section], key: str, value: Any) -> str:
    """Return the error in the value of one key of a section; empty if it is valid."""
    try:
        convert({key: value}, kind)
    except msgspec.ValidationError as error:
        return explained((), error, kind).reason
    return ""


def _from_toml(kind: type[Any], value: Any) -> Any:
    if kind is Share:
        number = parse_share(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 1:
            raise ValueError("it must be from 0 to 1, or a share like '2%'")
        return Share(number)
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return kind(value)


def explained(prefix: tuple[str, ...], error: msgspec.ValidationError, kind: Any) -> KeyProblem:
    """Return msgspec's error in our words, with the key that it names. `kind` is the type at `prefix`."""
    said, _, path = str(error).partition(" - at `")
    steps = _STEP.findall(path)
    keys = (*prefix, *steps)
    if isinstance(error.__cause__, FieldError):
        keys = (*keys, *error.__cause__.keys)
    if found := _ABOUT_KEY.fullmatch(said):
        keys = (*keys, found[2])
        if found[1] == "contains unknown":
            return KeyProblem(keys, "", unknown=True)
        said = "it is missing"
    if found := _ABOUT_FORM.fullmatch(said):
        said = f"expected {FORMS[found[1].replace(_DOUBLED, _SINGLE)]}"
    if found := _ABOUT_CHOICE.fullmatch(said):
        choices = [str(one.value) for one in _choices(kind_at(kind, steps))]
        said = f"{found[1]} is not one of {', '.join(choices)}"
    for type_, word in _WORDS.items():
        said = said.replace(f"`{type_}`", word)
    return KeyProblem(keys, lower_first(said))


_WORDS: Final = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "duration": "a duration such as PT30M",
}
_STEP: Final = re.compile(r"[.\[]([\w-]+)")
_ABOUT_KEY: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`")
_ABOUT_FORM: Final = re.compile(r"Expected `str` matching regex '(.*)'")
_ABOUT_CHOICE: Final = re.compile(r"Invalid enum value (.*)", re.DOTALL)
# msgspec prints the pattern as Python would, with doubled backslashes.
_DOUBLED, _SINGLE = "\\\\", "\\"


def keys_of(kind: Any) -> dict[str, Any]:
    """Return the keys of a section with their types; empty for any other type."""
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        return {}
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def kind_at(kind: Any, keys: Sequence[str]) -> Any:
    """Return the type of the value at the keys below a type, or None if there is no such key."""
    for key in keys:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        else:
            kind = keys_of(kind).get(key)
    return kind


def _choices(kind: Any) -> Sequence[Enum]:
    """Return the values that an enumeration, perhaps an optional one, allows."""
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, Enum):
            return list(one)
    return []


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(sorted(known))}"
