"""The relays that this machine may use today."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from mailer.config import Relay, Settings
from mailer.errors import ConfigError
from mailer.printable import counted

_LONGEST: Final = 3650


class WarmingUp(Struct, frozen=True):
    """A relay whose warm-up limits it today."""

    name: str
    today: int
    tomorrow: int | None
    """None if the warm-up has ended by then."""

    def __str__(self) -> str:
        then = "no limit" if self.tomorrow is None else f"{self.tomorrow:,}"
        return f"relay {self.name} is warming up: {counted(self.today, 'message')} today, {then} tomorrow"


def for_machine(settings: Settings, machine: str) -> Settings:
    """Return the settings with only the relays that a machine may use.

    Raises `ConfigError` if there are relays, but none for this machine.
    """
    chosen = {
        name: msgspec.structs.replace(relay, machines=())
        for name, relay in settings.relays.items()
        if not relay.machines or machine in relay.machines
    }
    if settings.relays and not chosen:
        raise ConfigError(
            f"no relay may be used by the machine '{machine}'",
            remedy="add it to machines of a relay in config.toml, or start the worker with another --name",
        )
    return msgspec.structs.replace(settings, relays=chosen)


def usable(settings: Settings, day: date) -> dict[str, Relay]:
    """Return the relays for this machine, each with its rate on a day (UTC); raise as `for_machine` does."""
    here = for_machine(settings, socket.gethostname())
    return {name: limited(relay, day) for name, relay in here.relays.items()}


def warming_up(settings: Settings, day: date) -> Iterator[WarmingUp]:
    """Yield the relays whose warm-up limits them on a day (UTC)."""
    for name, relay in settings.relays.items():
        if relay.warmup is None:
            continue
        today, tomorrow = (relay.warmup.allowed_on(day + timedelta(days=n)) for n in (0, 1))
        usual = relay.rate_per_second
        if today is not None and relay.warmup.rate_on(day, usual) != usual:
            yield WarmingUp(name, today, tomorrow)


def last_day(settings: Settings, messages: int, day: date) -> date | None:
    """Return the day (UTC) after `day` on which the last of some messages can leave, if all relays warm up.

    Returns None if that is the same day, or if a relay does not warm up.
    """
    plans = [relay.warmup for relay in settings.relays.values()]
    for days in range(_LONGEST):
        current = day + timedelta(days=days)
        allowed = [plan and plan.allowed_on(current) for plan in plans]
        if not allowed or None in allowed:
            return current if days else None
        messages -= sum(number or 0 for number in allowed)
        if messages <= 0:
            return current if days else None
    return None


def limited(relay: Relay, day: date) -> Relay:
    """Return a relay with its rate on a day (UTC)."""
    if relay.warmup is None:
        return relay
    rate = relay.warmup.rate_on(day, relay.rate_per_second)
    return msgspec.structs.replace(relay, rate_per_second=rate)
