"""The faults of a rehearsal, read from a TOML file.

Whether a fault affects a recipient depends only on the seed, the fault and the address, not on the order
of the mail: the same scenario affects the same people every time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from mailer.config.shipped import shipped
from mailer.config.toml_file import KeyProblem, TomlFile, convert, did_you_mean, explained, keys_of
from mailer.config.values import Check, Section, Share, checked_domains
from mailer.errors import SourceError

_REPLY = re.compile(r"[45]\d\d(?: [45]\.\d{1,3}\.\d{1,3})? [ -~]{1,400}")
_STATUS = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
_REMEDY = "docs/reference/scenarios.md describes what a scenario may contain"
_LONGEST = timedelta(days=30)


class FaultKind(StrEnum):
    """The effect of a fault on its messages."""

    REPLY = "reply"
    """Refuse the recipient, or the message after its body, with `reply`."""
    GREYLIST = "greylist"
    """Refuse until some time has passed since the first attempt."""
    SLOW = "slow"
    """Reply late."""
    CLOSE = "close"
    """Close the connection instead of accepting the recipient."""
    DROP = "drop"
    """Close the connection after the final dot, without a reply."""
    BOUNCE = "bounce"
    """Accept the message, and send a bounce later."""


class At(StrEnum):
    """The command that a refusal answers."""

    RCPT = "rcpt"
    BODY = "body"


def _matching(pattern: re.Pattern[str], form: str) -> Check:
    def check(value: str) -> str:
        if value and not pattern.fullmatch(value):
            raise ValueError(f"'{value}' is not {form}")
        return value

    return check


def _waited(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= _LONGEST:
        raise ValueError(f"it must be from 0 to {_LONGEST.days} days")
    return value


_OF_KIND = {
    "reply": {"reply", "at"},
    "greylist": {"lasts", "reply"},
    "slow": {"delay"},
    "close": set[str](),
    "drop": {"kept"},
    "bounce": {"status", "diagnostic"},
}
_COMMON = {"kind", "share", "domains", "times"}


class InjectedFault(Section, frozen=True, kw_only=True):
    """One `[[faults]]` table."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "domains": checked_domains,
        "reply": _matching(_REPLY, "a refusal like '452 4.2.2 Mailbox full'"),
        "lasts": _waited,
        "delay": _waited,
        "status": _matching(_STATUS, "a status like '5.1.1'"),
        "diagnostic": _matching(_REPLY, "a refusal like '550 5.1.1 No such user'"),
    }

    kind: FaultKind
    share: Share = Share(1)
    """The share of recipients it affects, from 0 to 1."""
    domains: tuple[str, ...] = ()
    """Only recipients in these domains; empty means all."""
    times: Annotated[int, Meta(ge=0)] | None = None
    """How many attempts of a message it affects; 0 means all of them."""
    reply: str = ""
    at: At = At.RCPT
    lasts: timedelta = timedelta(minutes=5)
    delay: timedelta = timedelta(seconds=30)
    kept: bool = False
    """Whether the server kept a message although it never answered."""
    status: str = "5.1.1"
    diagnostic: str = "550 5.1.1 The account does not exist"

    def __post_init__(self) -> None:
        """Check the keys together; raise `ValueError`."""
        Section.__post_init__(self)
        if self.kind is FaultKind.REPLY and not self.reply:
            raise ValueError("a fault of kind 'reply' needs a reply, e.g. reply = '450 4.2.1 Too quickly'")

    @property
    def tries(self) -> float:
        """How many attempts it affects: as given, else all for a permanent refusal, one for the others."""
        if self.times is not None:
            return self.times or float("inf")
        lasting = self.kind is FaultKind.REPLY and self.reply.startswith("5")
        return float("inf") if lasting or self.kind in (FaultKind.GREYLIST, FaultKind.BOUNCE) else 1

    @property
    def answer(self) -> str:
        """The reply line, without CRLF."""
        return self.reply or "451 4.7.1 Greylisted, please try again later"


class Server(Section, frozen=True, kw_only=True):
    """`[server]`: the server's behaviour without faults."""

    CHECKS: ClassVar[dict[str, Check]] = {"reply_time": _waited}

    reply_time: timedelta = timedelta(0)
    """How long the server waits before it answers a message."""


class Scenario(Section, frozen=True, kw_only=True):
    """A scenario file. If several faults affect a message, the first one of each stage wins."""

    seed: int = 1
    server: Server = Server()
    faults: tuple[InjectedFault, ...] = ()

    def faults_of(self, recipient: str) -> tuple[InjectedFault, ...]:
        """Return the faults that affect an address, in file order."""
        domain = recipient.rpartition("@")[2].lower()
        return tuple(
            fault
            for number, fault in enumerate(self.faults)
            if (not fault.domains or domain in fault.domains) and self._draw(number, recipient) < fault.share
        )

    def _draw(self, number: int, recipient: str) -> float:
        """Return a number from 0 to 1 that depends on the seed, the fault's position and the address."""
        drawn = hashlib.blake2b(f"{self.seed} {number} {recipient}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn) / 2**64


def read_scenario(path: Path | None = None, *, seed: int | None = None) -> Scenario:
    """Read a scenario file, or the one that comes with the program; `seed` replaces its seed.

    Raises `SourceError` that lists every error with `file:line:`.
    """
    file = TomlFile.read(
        path or shipped("scenarios") / "ordinary-day.toml",
        SourceError,
        missing="name a scenario file",
        remedy=_REMEDY,
    )
    tables = file.tables if seed is None else {**file.tables, "seed": seed}
    if problems := list(_problems(tables)):
        raise SourceError("\n".join(_explain(problem, file) for problem in problems), remedy=_REMEDY)
    made: Scenario = convert(tables, Scenario)
    return made


def _problems(tables: Mapping[str, object]) -> Iterator[KeyProblem]:
    """Yield the errors, one for each table."""
    faults = tables.get("faults", [])
    if isinstance(faults, list):
        for number, fault in enumerate(faults):
            yield from _problems_of(fault, InjectedFault, ("faults", str(number)))
        tables = {name: table for name, table in tables.items() if name != "faults"}
    yield from _problems_of(tables, Scenario, ())


def _problems_of(table: Any, kind: type[Section], keys: tuple[str, ...]) -> Iterator[KeyProblem]:
    try:
        made = convert(table, kind)
    except msgspec.ValidationError as error:
        yield explained(keys, error, kind)
    else:
        if isinstance(made, InjectedFault):
            for odd in sorted(set(table) - _COMMON - _OF_KIND[made.kind.value]):
                yield KeyProblem((*keys, odd), f"it does not apply to a fault of kind '{made.kind.value}'")


def _explain(problem: KeyProblem, file: TomlFile) -> str:
    place = f"{file.path}:{file.line_of(problem.keys)}"
    names = [key for key in problem.keys if not key.isdecimal()]
    if problem.unknown:
        table = {"faults": InjectedFault, "server": Server}.get(names[0], Scenario)
        return f"{place}: unknown key '{names[-1]}'{did_you_mean(names[-1], keys_of(table))}"
    return f"{place}: '{names[-1]}': {problem.reason}"
