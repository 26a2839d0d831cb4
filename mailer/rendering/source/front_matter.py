"""Split the YAML front matter from an issue, and read its keys."""

from __future__ import annotations

import datetime
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from mailer.errors import SourceError

MAX_CHARACTERS: Final = 20_000
_FENCE: Final = re.compile(r"---[ \t]*$")
# libyaml's parser if PyYAML was built with it: the same result in a fraction of the time.
_Loader: Final[type[yaml.SafeLoader]] = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_INTEGER: Final = "tag:yaml.org,2002:int"
_MAX_DIGITS: Final = 100
"""A longer number stays text; Python refuses to print one of more than 4,300 digits."""
_KEYS: Final = (
    "title",
    "subtitle",
    "subject",
    "preheader",
    "author",
    "date",
    "number",
    "tags",
    "language",
    "send_at",
    "arms",
    "test",
    "resend",
    "after",
    "days",
    "only",
    "lint",
)


def split(text: str, path: Path) -> tuple[str, str, int]:
    """Return the front matter, the body, and the line on which the body begins, counted from 1.

    Raises `SourceError` if there is no front matter, or if it is too long.
    """
    lines = text.split("\n")
    if not _FENCE.match(lines[0]):
        raise SourceError(
            f"{path}:1: the front matter is missing",
            remedy='begin the file with a line "---", then title: "…", then "---"',
        )
    for index, line in enumerate(lines[1:], start=1):
        if _FENCE.match(line):
            front = "\n".join(lines[1:index])
            if len(front) > MAX_CHARACTERS:
                break
            return front, "\n".join(lines[index + 1 :]), index + 2
    raise SourceError(
        f"{path}:1: the front matter does not end within {MAX_CHARACTERS:,} characters",
        remedy='close it with a line "---"',
    )


def load(front: str, path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values and the lines by key.

    Raises `SourceError` with the line to change if the front matter is not YAML, or has a key that is unknown
    or appears twice. Line numbers are those of the file, where `front` begins on line 2, after `---`.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front, Loader=_Loader)):
            raise SourceError(f"{path}:2: the front matter uses YAML aliases", remedy="write the value out")
        loader = _Loader(front)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise SourceError(
                f"{path}:2: the front matter is not a list of 'key: value' lines", remedy="write title: …"
            )
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if value_node.tag == _TIMESTAMP and (
                key_node.value == "send_at" or not _is_date(value_node.value)
            ):
                value_node.tag = "tag:yaml.org,2002:str"
            line = key_node.start_mark.line + 2
            key = str(key_node.value)
            _check_key(key, key in lines, f"{path}:{line}")
            lines[key] = line
        values: dict[str, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _not_yaml(front, path, error) from error
    except (RecursionError, ValueError) as error:
        raise SourceError(f"{path}:2: the front matter cannot be read ({error})") from error
    return values, lines


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    return text if len(text) > _MAX_DIGITS else loader.construct_yaml_int(node)


def _timestamp(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    try:
        return loader.construct_yaml_timestamp(node)
    except (AttributeError, ValueError):
        # AttributeError: it is tagged `!!timestamp` but does not look like a time.
        return str(loader.construct_scalar(node))


_Loader.add_constructor(_INTEGER, _integer)
_Loader.add_constructor(_TIMESTAMP, _timestamp)


def _is_date(value: str) -> bool:
    """Return whether a value that looks like a date is one; 30 February is not."""
    try:
        datetime.date(*(int(part) for part in re.findall(r"[0-9]+", value)[:3]))
    except (TypeError, ValueError):
        return False
    return True


def _not_yaml(front: str, path: Path, error: yaml.YAMLError) -> SourceError:
    """Return the error for front matter that is not YAML, at the line that the author has to change."""
    problem, mark = str(getattr(error, "problem", "") or ""), getattr(error, "problem_mark", None)
    lines = front.split("\n")
    number = min(mark.line if mark is not None else 0, len(lines) - 1)
    for index, line in enumerate(lines):
        said = None
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
            said = "a merge was not finished", "keep one version, and delete the marks"
        elif line.lstrip(" ").startswith("\t"):
            said = "the line begins with a tab", "begin it with spaces, or with nothing"
        elif index <= number and re.match(r"[a-z]+:[^\s/]", line):
            said = "a space is missing after the colon", "write key: value"
        elif (
            index <= number and (found := re.match(r"[a-z]+:\s*([\"'])", line)) and line.count(found[1]) == 1
        ):
            said = "a quotation mark is not closed", f"close it with {found[1]}"
        if said is not None:
            return SourceError(f"{path}:{index + 2}: {said[0]}", remedy=said[1])
    what = "a value contains a colon" if "mapping values" in problem else "this is not a line 'key: value'"
    return SourceError(
        f"{path}:{number + 2}: {what}", remedy='put values that contain ":" or "#" between quotes'
    )


def _check_key(key: str, again: bool, place: str) -> None:
    if again:
        raise SourceError(f"{place}: '{key}' appears twice", remedy="remove one")
    if key not in _KEYS:
        near = get_close_matches(key, _KEYS, n=1)
        raise SourceError(
            f"{place}: unknown key '{key[:80]}'",
            remedy=f"did you mean '{near[0]}'?" if near else f"the keys are: {', '.join(_KEYS)}",
        )
