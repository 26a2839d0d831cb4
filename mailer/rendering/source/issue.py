"""Read and check an issue: YAML front matter followed by Markdown."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec
import yaml

from mailer.address import check_header_text
from mailer.config.values import parse_share
from mailer.errors import AddressError, SourceError
from mailer.rendering.edition import ABTest, Resend

MAX_ISSUE_BYTES: Final = 1_000_000
MAX_FRONT_MATTER_CHARACTERS: Final = 20_000
_LONGEST_WAIT: Final = datetime.timedelta(days=3660)
MAX_ARMS: Final = 4
"""How many arms an A/B test can have."""
_FENCE: Final = re.compile(r"---[ \t]*$")


DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of a step of a sequence, and the segment that gets it."""

    after: datetime.timedelta
    """The time since the step before was sent; for the first one, since the person entered."""
    send_at: datetime.time | None = None
    """The time of day in the subscriber's zone; None for any."""
    days: tuple[int, ...] = ()
    """The days of the week, 0 for Monday; empty for any."""
    only: str = ""
    """A segment; others skip the step."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue, as written. `subject`, `preheader` and `body` may contain Jinja."""

    path: Path
    slug: str
    """The file name without its suffix, which identifies the issue everywhere else."""
    title: str
    subtitle: str
    subject: str
    preheader: str
    author: str
    date: datetime.date | None
    number: int | None
    tags: tuple[str, ...]
    language: str
    send_at: datetime.datetime | None
    """When `mailer schedule` sends it, by the clocks of `send_zone` unless it is aware."""
    send_zone: str
    """An IANA time zone; empty for the machine's."""
    """BCP 47; empty for the newsletter's own."""
    lint_ignores: tuple[tuple[str, str], ...]
    """Lint checks that the author has waived for this issue, each with the reason as written."""
    body: str
    body_line: int
    """The line of the file on which `body` begins, counted from 1."""
    key_lines: tuple[tuple[str, int], ...]
    """Front-matter keys with their lines, for messages."""
    other_subjects: tuple[str, ...] = ()
    """The subjects of the arms B, C and D of an A/B test."""
    other_files: tuple[str, ...] = ()
    """The files of the arms B, C and D, as paths below the folder of this one."""
    test: ABTest = field(default_factory=ABTest)
    """How the A/B test is decided, if there is one."""
    resend: Resend | None = None
    """The issue that this one repeats for readers who did not react."""
    timing: Timing | None = None
    """For a step of a sequence; None for an issue."""

    def line_of(self, key: str) -> int:
        """Return the line of a front-matter key, or 1."""
        return dict(self.key_lines).get(key, 1)


def read_issue(path: Path) -> Issue:
    """Return the issue in the file at `path`, or raise `SourceError` with place and remedy."""
    try:
        if path.stat().st_size > MAX_ISSUE_BYTES:
            raise SourceError(
                f"{path}: larger than {MAX_ISSUE_BYTES:,} bytes",
                remedy="split it, or move images out of the text",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}", remedy="check the path") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SourceError(f"{path}:{line}: not UTF-8", remedy="save the file as UTF-8") from error
    return parse_issue(text, path)


def parse_issue(text: str, path: Path) -> Issue:
    """Return the issue written in `text`; `path` names it in messages and gives the slug."""
    if len(text) > MAX_ISSUE_BYTES:
        raise SourceError(f"{path}: larger than {MAX_ISSUE_BYTES:,} bytes", remedy="split it")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]", text):
        raise SourceError(
            f"{path}:{text.count(chr(10), 0, found.start()) + 1}: control character U+{ord(found[0]):04X}",
            remedy="delete it",
        )
    front, body, body_line = _split(text, path)
    values, lines = _front_matter(front, path)
    reader = _Reader(values, lines, path)
    title = reader.text("title", header=True)
    if not title.strip():
        line = lines.get("title", 1)
        problem = "'title' is empty" if "title" in values else "'title' is missing"
        raise SourceError(f"{path}:{line}: {problem}", remedy='write one, as in title: "Hello"')
    timing = reader.timing()
    send_at, send_zone = reader.moment("send_at") if timing is None else (None, "")
    subject, *other_subjects = reader.subjects("subject") or [_literal(title)]
    other_files = reader.files("arms")
    if other_subjects and other_files:
        raise SourceError(
            f"{path}:{lines['arms']}: an A/B test has either several subjects or several files",
            remedy="write the subject of each arm into its file",
        )
    test = reader.test("test")
    if "test" in lines and not (other_subjects or other_files):
        raise SourceError(
            f"{path}:{lines['test']}: there is nothing to test",
            remedy='write subject: ["one", "another"], or arms: [other.md]',
        )
    return Issue(
        path=path,
        slug=path.stem,
        title=title,
        subtitle=reader.text("subtitle", header=True),
        subject=subject,
        preheader=reader.text("preheader", header=True),
        author=reader.text("author", header=True),
        date=reader.date("date"),
        number=reader.number("number"),
        tags=reader.tags("tags"),
        language=reader.language("language"),
        send_at=send_at,
        send_zone=send_zone,
        lint_ignores=reader.lint_ignores("lint"),
        body=body,
        body_line=body_line,
        key_lines=tuple(lines.items()),
        other_subjects=tuple(other_subjects),
        other_files=other_files,
        test=test,
        resend=reader.resend("resend"),
        timing=timing,
    )


# libyaml's parser if PyYAML was built with it: the same result in a fraction of the time.
_Loader: Final[type[yaml.SafeLoader]] = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_INTEGER: Final = "tag:yaml.org,2002:int"
_MAX_DIGITS: Final = 100
"""A longer number stays text; Python writes none of more than 4,300 digits."""
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


def _literal(text: str) -> str:
    """Return `text` such that Jinja gives it back unchanged."""
    return re.sub(r"\{(?=[{%#])", "{{ '{' }}", text)


def _split(text: str, path: Path) -> tuple[str, str, int]:
    """Return front matter, body, and the body's first line."""
    lines = text.split("\n")
    if not _FENCE.match(lines[0]):
        raise SourceError(
            f"{path}:1: the front matter is missing",
            remedy='begin the file with a line "---", then title: "…", then "---"',
        )
    for index, line in enumerate(lines[1:], start=1):
        if _FENCE.match(line):
            front = "\n".join(lines[1:index])
            if len(front) > MAX_FRONT_MATTER_CHARACTERS:
                break
            return front, "\n".join(lines[index + 1 :]), index + 2
    raise SourceError(
        f"{path}:1: the front matter does not end within {MAX_FRONT_MATTER_CHARACTERS:,} characters",
        remedy='close it with a line "---"',
    )


def _front_matter(front: str, path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values by key, and the line of each key."""
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
        # AttributeError: written as `!!timestamp`, but not like a time.
        return str(loader.construct_scalar(node))


_Loader.add_constructor(_INTEGER, _integer)
_Loader.add_constructor(_TIMESTAMP, _timestamp)


def _is_date(value: str) -> bool:
    """Whether something that is written like a date is one; 30 February is none."""
    try:
        datetime.date(*(int(part) for part in re.findall(r"[0-9]+", value)[:3]))
    except (TypeError, ValueError):
        return False
    return True


def _not_yaml(front: str, path: Path, error: yaml.YAMLError) -> SourceError:
    """Return the error for a front matter that is not YAML, at the line that the author has to change."""
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
            remedy=f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(_KEYS)}",
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Front-matter values by type; each method raises `SourceError` at the key's line."""

    values: dict[str, Any]
    lines: dict[str, int]
    path: Path

    def text(self, key: str, *, header: bool = False) -> str:
        value = self.values.get(key)
        if value is None:
            return ""
        return self._text(key, value, header=header)

    def subjects(self, key: str) -> list[str]:
        """Return the subject, or those of the arms of an A/B test; empty if there is none."""
        value = self.values.get(key)
        if not isinstance(value, list):
            return list(filter(None, [self.text(key, header=True)]))
        found = [self._text(key, one, header=True) for one in value]
        if not 2 <= len(set(found)) == len(found) <= MAX_ARMS or not all(found):
            raise self._wrong(key, value, f"write two to {MAX_ARMS} different subjects between brackets")
        return found

    def files(self, key: str) -> tuple[str, ...]:
        """Return the files of the other arms."""
        value = self.values.get(key)
        if value is None:
            return ()
        remedy = f"write one to {MAX_ARMS - 1} files below this folder: {key}: [arms/other.md]"
        if not isinstance(value, list) or not 1 <= len(value) < MAX_ARMS:
            raise self._wrong(key, value, remedy)
        for name in value:
            inside = isinstance(name, str) and not PurePath(name).is_absolute() and ".." not in name
            if not inside or not name.endswith(".md") or value.count(name) > 1:
                raise self._wrong(key, name, remedy)
        return tuple(value)

    def test(self, key: str) -> ABTest:
        """Return how an A/B test is decided."""
        value = self.values.get(key, {})
        remedy = f"write {key}: {{share: 20%, wait: PT4H, by: clicks, hold: false}}, or some of these"
        if not isinstance(value, dict) or not set(value) <= {"share", "wait", "by", "hold"}:
            raise self._wrong(key, value, remedy)
        usual = ABTest()
        try:
            share = parse_share(value.get("share", usual.share))
            wait = msgspec.convert(value.get("wait", usual.wait_seconds), datetime.timedelta, strict=False)
            by, hold = value.get("by", usual.by), value.get("hold", usual.hold)
        except ValueError as error:
            raise self._wrong(key, value, remedy) from error
        if (
            not (isinstance(share, (int, float)) and 0 < share <= 1)
            or wait < datetime.timedelta()
            or by not in ("clicks", "opens")
            or not isinstance(hold, bool)
        ):
            raise self._wrong(key, value, remedy)
        return ABTest(float(share), wait.total_seconds(), by, hold)

    def timing(self) -> Timing | None:
        """Return when a step of a sequence is sent; None for an issue, which has no 'after'."""
        if self.values.get("after") is None:
            for key in ("days", "only"):
                if key in self.values:
                    raise SourceError(
                        f"{self._place(key)}: only a step of a sequence has '{key}'",
                        remedy="write after: P3D as well",
                    )
            return None
        after, clock, days = self.values["after"], self.values.get("send_at"), self.values.get("days", [])
        try:
            waited = msgspec.convert(after, datetime.timedelta)
            if not datetime.timedelta() <= waited <= _LONGEST_WAIT:
                raise ValueError("out of range")
        except ValueError as error:
            raise self._wrong("after", after, "write it as P3D for three days, or PT2H") from error
        # YAML reads 10:30 as a number in base 60.
        text = f"{clock // 60:02}:{clock % 60:02}" if isinstance(clock, int) else str(clock)
        try:
            send_at = None if clock is None else datetime.time.fromisoformat(text)
        except ValueError as error:
            raise self._wrong("send_at", clock, "write it as 09:00") from error
        names = days if isinstance(days, list) else [days]
        if not all(str(name).lower()[:3] in DAYS for name in names):
            raise self._wrong("days", days, f"write some of {', '.join(DAYS)} between brackets")
        places = {DAYS.index(str(name).lower()[:3]) for name in names}
        return Timing(waited, send_at, tuple(sorted(places)), self.text("only"))

    def resend(self, key: str) -> Resend | None:
        """Return the issue that this one repeats, and the readers who get it."""
        value = self.values.get(key)
        if value is None:
            return None
        found = {"of": value} if isinstance(value, str) else value
        try:
            return msgspec.convert(found, Resend)
        except msgspec.ValidationError as error:
            raise self._wrong(
                key, value, f'write {key}: "012-slug", or {key}: {{of: "012-slug", without: opens}}'
            ) from error

    def _text(self, key: str, value: object, *, header: bool) -> str:
        if not isinstance(value, str):
            raise self._wrong(key, value, f'put it between quotes: {key}: "{value}"')
        value = " ".join(value.split()) if "\n" in value else value
        if header:
            try:
                check_header_text(value, field=f"'{key}'")
            except AddressError as error:
                raise SourceError(f"{self._place(key)}: {error.message}", remedy="remove it") from error
        return value

    def date(self, key: str) -> datetime.date | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, datetime.datetime):
            return value.date()
        if isinstance(value, datetime.date):
            return value
        return self._try(key, value, lambda: datetime.date.fromisoformat(value), "write it as 2026-01-31")

    def moment(self, key: str) -> tuple[datetime.datetime | None, str]:
        """Return a time and its zone: `2026-12-04T08:00`, or with a zone's name after a space."""
        value = self.values.get(key)
        if value is None:
            return None, ""
        time, _, zone = str(value).partition(" ")
        if re.match("[0-9]", zone):
            # The time follows the date after a space.
            clock, _, zone = zone.partition(" ")
            time = f"{time}T{clock}"
        try:
            if zone:
                zoneinfo.ZoneInfo(zone)
            if ":" not in time:
                raise ValueError("a date alone is no time")
            return datetime.datetime.fromisoformat(time), zone
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            raise self._wrong(
                key, value, "write it as 2026-12-04T08:00 or 2026-12-04T08:00 Europe/Bucharest"
            ) from error

    def number(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, value, "write a whole number")
        return value

    def tags(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
            raise self._wrong(key, value, f"write a list of words: {key}: [one, two]")
        return tuple(value)

    def language(self, key: str) -> str:
        language = self.text(key)
        if language and not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language):
            raise self._wrong(key, language, "write a language tag, as in language: he")
        return language

    def lint_ignores(self, key: str) -> tuple[tuple[str, str], ...]:
        value = self.values.get(key)
        if value is None:
            return ()
        ignored = value.get("ignore") if isinstance(value, dict) and set(value) == {"ignore"} else None
        if isinstance(ignored, list):
            # Without reasons; lint says that each needs one.
            ignored = dict.fromkeys(map(str, ignored), "")
        if not isinstance(ignored, dict):
            raise self._wrong(key, value, 'write lint: {ignore: {insecure-link: "why this is fine"}}')
        return tuple((str(check), "" if why is None else str(why)) for check, why in ignored.items())

    def _try(self, key: str, value: object, read: Callable[[], datetime.date], remedy: str) -> datetime.date:
        try:
            return read()
        except (TypeError, ValueError) as error:
            raise self._wrong(key, value, remedy) from error

    def _wrong(self, key: str, value: object, remedy: str) -> SourceError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:59] + "…"
        return SourceError(f"{self._place(key)}: '{key}' cannot be {shown}", remedy=remedy)

    def _place(self, key: str) -> str:
        return f"{self.path}:{self.lines.get(key, 1)}"
