"""Read the values of the front matter, each by its type."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec
from msgspec import Struct

from mailer.address import check_header_text
from mailer.config.values import parse_share
from mailer.errors import AddressError, SourceError
from mailer.rendering.edition import ABTest, Resend

MAX_ARMS: Final = 4
"""How many arms an A/B test can have."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONGEST_WAIT: Final = datetime.timedelta(days=3660)


class Timing(Struct, frozen=True):
    """The time of a step of a sequence, and the segment that gets it."""

    after: datetime.timedelta
    """The time since the previous step was sent; for the first one, since the person entered."""
    send_at: datetime.time | None = None
    """The time of day in the subscriber's zone; None for any."""
    days: tuple[int, ...] = ()
    """The days of the week, 0 for Monday; empty for any."""
    only: str = ""
    """A segment; others skip the step."""


class Arms(Struct, frozen=True):
    """The arms of an A/B test, and the rules that decide it. Without a test, there is one subject or none."""

    subjects: list[str]
    files: tuple[str, ...]
    """The files of the arms B, C and D."""
    test: ABTest


class FrontValues(Struct, frozen=True):
    """The values of the front matter by type; each method raises `SourceError` at the key's line."""

    values: dict[str, Any]
    lines: dict[str, int]
    path: Path

    def text(self, key: str, *, header: bool = False) -> str:
        value = self.values.get(key)
        if value is None:
            return ""
        return self._text(key, value, header=header)

    def title(self, key: str) -> str:
        """Return the title; an issue must have one."""
        title = self.text(key, header=True)
        if not title.strip():
            problem = f"'{key}' is empty" if key in self.values else f"'{key}' is missing"
            raise SourceError(f"{self._place(key)}: {problem}", remedy=f'write one, as in {key}: "Hello"')
        return title

    def arms(self) -> Arms:
        """Return the subjects or the files of the arms of an A/B test, and the rules that decide it."""
        subjects, files = self._subjects("subject"), self._files("arms")
        if len(subjects) > 1 and files:
            raise SourceError(
                f"{self._place('arms')}: an A/B test has either several subjects or several files",
                remedy="write the subject of each arm into its file",
            )
        test = self._test("test")
        if "test" in self.lines and not (len(subjects) > 1 or files):
            raise SourceError(
                f"{self._place('test')}: there is nothing to test",
                remedy='write subject: ["one", "another"], or arms: [other.md]',
            )
        return Arms(subjects, files, test)

    def _subjects(self, key: str) -> list[str]:
        """Return the subject, or those of the arms of an A/B test; empty if there is none."""
        value = self.values.get(key)
        if not isinstance(value, list):
            return list(filter(None, [self.text(key, header=True)]))
        found = [self._text(key, one, header=True) for one in value]
        if not 2 <= len(set(found)) == len(found) <= MAX_ARMS or not all(found):
            raise self._wrong(key, value, f"write two to {MAX_ARMS} different subjects between brackets")
        return found

    def _files(self, key: str) -> tuple[str, ...]:
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

    def _test(self, key: str) -> ABTest:
        """Return the rules that decide an A/B test."""
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
