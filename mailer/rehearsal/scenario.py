"""What goes wrong in a rehearsal: a TOML file, read into rules that decide for each recipient. Pure.

Who is struck by which fault follows from the seed, the fault and the address alone, whatever order
the mail comes in: the same scenario strikes the same people each time.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from mailer.address import parse_domain
from mailer.config import parse_share
from mailer.config.shipped import shipped
from mailer.errors import SourceError

_REPLY = re.compile(r"[45]\d\d(?: [45]\.\d{1,3}\.\d{1,3})? [ -~]{1,400}")
_STATUS = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
_REMEDY = "docs/reference/scenarios.md tells what a scenario may say"


class FaultKind(StrEnum):
    """What a fault does to the messages that it strikes."""

    REPLY = "reply"
    """Refuses with `reply` the recipient, or the message after its body."""
    GREYLIST = "greylist"
    """Refuses until so much time has passed since the first try."""
    SLOW = "slow"
    """Answers late."""
    CLOSE = "close"
    """Closes the connection instead of taking the recipient."""
    DROP = "drop"
    """Closes the connection after the final dot, without an answer."""
    BOUNCE = "bounce"
    """Takes the message, and sends a report back later."""


class At(StrEnum):
    """The command that a refusal answers."""

    RCPT = "rcpt"
    BODY = "body"


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and not pattern.fullmatch(value):
            raise ValueError(f"'{value}' is not {what}")
        return value

    return AfterValidator(check)


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1)]
DomainText = Annotated[str, AfterValidator(parse_domain)]
NoNegative = Field(ge=timedelta(0), le=timedelta(days=30))
_OF_KIND = {
    "reply": {"reply", "at"},
    "greylist": {"lasts", "reply"},
    "slow": {"delay"},
    "close": set[str](),
    "drop": {"kept"},
    "bounce": {"status", "diagnostic"},
}
_COMMON = {"kind", "share", "domains", "times"}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fault(_Table):
    """One `[[faults]]` table."""

    kind: FaultKind
    share: Share = 1.0
    """Of the recipients, from 0 to 1."""
    domains: tuple[DomainText, ...] = ()
    """Only recipients there; empty means all."""
    times: Annotated[int, Field(ge=0)] | None = None
    """How many tries of a message it strikes; 0 is every try."""
    reply: Annotated[str, _matching(_REPLY, "a refusal like '452 4.2.2 Mailbox full'")] = ""
    at: At = At.RCPT
    lasts: Annotated[timedelta, NoNegative] = timedelta(minutes=5)
    delay: Annotated[timedelta, NoNegative] = timedelta(seconds=30)
    kept: bool = False
    """Whether the server has kept a message whose answer was lost."""
    status: Annotated[str, _matching(_STATUS, "a status like '5.1.1'")] = "5.1.1"
    diagnostic: Annotated[str, _matching(_REPLY, "a refusal like '550 5.1.1 No such user'")] = (
        "550 5.1.1 The account does not exist"
    )

    @model_validator(mode="after")
    def _check(self) -> Fault:
        if self.kind is FaultKind.REPLY and not self.reply:
            raise ValueError("a fault of kind 'reply' needs a reply, e.g. reply = '450 4.2.1 Too quickly'")
        odd = self.model_fields_set - _COMMON - _OF_KIND[self.kind.value]
        if odd:
            raise ValueError(
                f"{', '.join(sorted(odd))}: means nothing to a fault of kind '{self.kind.value}'"
            )
        return self

    @property
    def tries(self) -> float:
        """How many tries it strikes: as said, else every try for a lasting refusal, one for the others."""
        if self.times is not None:
            return self.times or float("inf")
        lasting = self.kind is FaultKind.REPLY and self.reply.startswith("5")
        return float("inf") if lasting or self.kind in (FaultKind.GREYLIST, FaultKind.BOUNCE) else 1

    @property
    def answer(self) -> str:
        """The refusal in full."""
        return self.reply or "451 4.7.1 Greylisted, please try again later"


class Server(_Table):
    """`[server]`: the server when nothing goes wrong."""

    reply_time: Annotated[timedelta, NoNegative] = timedelta(0)
    """How long it thinks about a message."""


class Scenario(_Table):
    """A whole file. Of several faults that would strike a message, the first of each stage does."""

    seed: int = 1
    server: Server = Server()
    faults: tuple[Fault, ...] = ()

    def faults_of(self, recipient: str) -> tuple[Fault, ...]:
        """Return the faults that strike an address, in the order of the file."""
        domain = recipient.rpartition("@")[2].lower()
        return tuple(
            fault
            for number, fault in enumerate(self.faults)
            if (not fault.domains or domain in fault.domains) and self._draw(number, recipient) < fault.share
        )

    def _draw(self, number: int, recipient: str) -> float:
        """Return a number from 0 to 1 that the seed, the fault's place and the address decide."""
        drawn = hashlib.blake2b(f"{self.seed} {number} {recipient}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn) / 2**64


def read_scenario(path: Path | None = None, *, seed: int | None = None) -> Scenario:
    """Return the scenario of a file, or the one that comes with the program; `seed` replaces its seed.

    Raises `SourceError` with `file:line:` for everything that is wrong in it.
    """
    path = path or shipped("scenarios") / "ordinary-day.toml"
    try:
        text = path.read_text(encoding="utf-8")
        tables: dict[str, Any] = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 ({error.reason})", remedy="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SourceError(_not_toml(str(error), path, text), remedy=_REMEDY) from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", remedy="name a scenario file") from error
    if seed is not None:
        tables["seed"] = seed
    try:
        return Scenario.model_validate(tables)
    except ValidationError as error:
        told = "\n".join(_explain(problem, path, text) for problem in error.errors())
        raise SourceError(told, remedy=_REMEDY) from error


def _not_toml(said: str, path: Path, text: str) -> str:
    """Return `file:line: what is wrong` of what the parser says, which puts the place last."""
    found = re.search(r"line (\d+)", said)
    line = int(found[1]) if found else len(text.splitlines())
    reason = said.partition(" (at ")[0]
    return f"{path}:{line}: {reason[:1].lower()}{reason[1:]}"


def _explain(problem: ErrorDetails, path: Path, text: str) -> str:
    """Return `file:line: what is wrong`, with the nearest key where one is not known."""
    location = problem["loc"]
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    place = f"{path}:{_line_of(location, text)}"
    if problem["type"] == "extra_forbidden":
        tables: dict[str, type[BaseModel]] = {"faults": Fault, "server": Server}
        table = tables.get(str(location[0]), Scenario)
        close = difflib.get_close_matches(key, table.model_fields, n=1)
        known = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(table.model_fields)}"
        return f"{place}: unknown key '{key}'; {known}"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{place}: '{key}': {reason[:1].lower()}{reason[1:]}"


def _line_of(location: tuple[int | str, ...], text: str) -> int:
    """Return the line of a key, or of the table that should have it; the first when neither is found."""
    table, number = str(location[0]), location[1] if len(location) > 1 else None
    last = next((part for part in reversed(location) if isinstance(part, str)), "")
    in_table, seen, best = "", -1, 1
    for line_number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.-]+)\s*\]+", line):
            in_table = header[1]
            seen += in_table == table
            found = in_table == table and (not isinstance(number, int) or seen == number)
            best = line_number if found else best
            continue
        here = in_table == table and (not isinstance(number, int) or seen == number)
        assigned = re.match(r"\s*([\w-]+)\s*=", line)
        if assigned and assigned[1] == last and (here or (not in_table and last == table)):
            return line_number
    return best
