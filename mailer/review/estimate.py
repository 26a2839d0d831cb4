"""Estimating how long an issue takes at the configured limits, and which limit is the bottleneck.

The relays share the mail, and each provider's part must also stay within that provider's limits. The
slowest of these decides. Retries come on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from msgspec import Struct

from mailer.config import ProviderLimits, Relay

REPLY_SECONDS: Final = 0.1
"""The time a message takes on its connection by default: one reply."""
_ANSWERS_TO_CONNECT: Final = 6
"""TCP, TLS, greeting, EHLO, EHLO once more, AUTH."""


class Estimate(Struct, frozen=True):
    """The shortest time in which `messages` can be sent, and the limit responsible."""

    messages: int
    duration: timedelta
    bottleneck: str
    per_second: float


def estimate(
    messages: int,
    by_provider: Mapping[str, int],
    relays: Mapping[str, Relay],
    providers: Mapping[str, ProviderLimits],
    *,
    reply_seconds: float = REPLY_SECONDS,
) -> Estimate:
    """Estimate one attempt at each message; `by_provider` counts those of each configured provider."""
    if not relays:
        raise ValueError("without a relay nothing limits how fast mail is kept on this machine")
    per_second, bottleneck = _together(relays, reply_seconds)
    seconds = messages / per_second
    for name, provider in providers.items():
        rate, why = _limit(
            provider.rate_per_second, provider.connections, provider.messages_per_connection, reply_seconds
        )
        count = by_provider.get(name, 0)
        if count / rate > seconds:
            seconds = count / rate
            bottleneck = f"provider {name}: {count:,} messages at {why}"
    return Estimate(
        messages, timedelta(seconds=seconds), bottleneck, messages / seconds if seconds else per_second
    )


def _together(relays: Mapping[str, Relay], reply_seconds: float) -> tuple[float, str]:
    """Return how many messages a second the relays carry together, and the narrowest limit."""
    used = {name: relay for name, relay in relays.items() if relay.weight} or dict(relays)
    limits = {
        name: _limit(relay.rate_per_second, relay.connections, relay.messages_per_connection, reply_seconds)
        for name, relay in used.items()
    }
    # A relay with a rate limit delays nobody else; of the others, none may run ahead of its share.
    by_share = [
        limits[name][0] / max(1, relay.weight)
        for name, relay in used.items()
        if not relay.rate_per_second or limits[name][0] < relay.rate_per_second
    ]
    unit = min(by_share, default=math.inf)
    carried = {name: min(limits[name][0], unit * max(1, relay.weight)) for name, relay in used.items()}
    narrowest = min(used, key=lambda name: limits[name][0] / max(1, used[name].weight))
    together = (
        "" if len(used) == 1 else f", {len(used)} relays together {sum(carried.values()):,.0f} a second"
    )
    return sum(carried.values()), f"relay {narrowest}: {limits[narrowest][1]}{together}"


def _limit(
    rate: float, connections: int, messages_per_connection: int, reply_seconds: float
) -> tuple[float, str]:
    """Return the messages per second, and a description of the limit responsible."""
    each = reply_seconds * (1 + _ANSWERS_TO_CONNECT / messages_per_connection)
    by_connections = connections / each
    if rate and rate <= by_connections:
        return rate, f"rate_per_second = {rate:g}"
    few = f", {messages_per_connection} messages each" if messages_per_connection < 50 else ""
    return by_connections, f"connections = {connections}{few}"
