"""Limits that several processes share: what one of them wants, and what it gets.

A process asks for its part of each limit a few times a second (`Wish`) and keeps it by asking again
(`Grant`). Connections are leased for a short time. Of a rate, it reserves the next instants at which it may
start a message. Times are seconds on the pool's monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from mailer.smtp.limits import BURST_SECONDS, Pace

_ASK_SECONDS: Final = 0.1
"""How soon to look again for a message that waits for a grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a process wants of one limit; a limit of 0 does not exist."""

    name: str
    most_connections: int = 0
    """The configured limit."""
    per_second: float = 0.0
    """The configured limit."""
    connections: int = 0
    """How many it could use. With 0 it gives up its part."""
    connected: int = 0
    """How many it has open."""
    reserved_until: float = -math.inf
    """When the last of its reserved instants has passed."""
    slowed: bool = False
    """Whether a reply asked for fewer messages."""
    used_per_second: float = 0.0
    """How many messages it sent lately."""
    not_before: float = -math.inf
    """When a reply allowed the next message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a process may use of one limit until it asks again."""

    name: str
    connections: int = 0
    per_second: float = 0.0
    """The present rate of all processes together; 0 means no limit."""
    share: float = 1.0
    """The fraction of the usual rate that is left."""
    first_at: float = 0.0
    """The first of the newly reserved instants."""
    spacing_seconds: float = 0.0
    count: int = 0
    """How many instants are newly reserved."""
    reserved_until: float = -math.inf
    """Until when nothing more can be reserved."""
    not_before: float = -math.inf


class SharedPace(Pace):
    """A rate shared with other processes: a message may start only at an instant reserved for this one.

    An instant that is missed by more than `BURST_SECONDS` is lost, so that missed ones never add up.
    """

    def __init__(self, ceiling_per_second: float = 0.0) -> None:
        super().__init__(ceiling_per_second)
        self._instants: deque[list[float]] = deque()
        """Reserved instants: the next one, how many there are, and the seconds between them."""
        self._share = 1.0
        self.reserved_until = -math.inf
        self.slowed = False
        """Whether a reply since the last grant asked for fewer messages. Until the next, none starts."""

    @property
    def share(self) -> float:
        """The fraction of the usual pace that is left, from 0 to 1."""
        return self._share

    def delay(self, now: float) -> float:
        """Return the seconds until a message may start; 0 means now."""
        wait = self.not_before - now
        if self.slowed:
            wait = max(wait, _ASK_SECONDS)
        elif self.per_second:
            instant = self._next(now)
            wait = max(wait, _ASK_SECONDS if instant is None else instant - now)
        return max(0.0, wait)

    def take(self, now: float) -> None:
        """Count a message that starts now."""
        if self._next(now) is not None:
            first = self._instants[0]
            first[0] += first[2]
            first[1] -= 1
        self._measure(now)

    def slow_down(self, now: float, retry_after_seconds: float | None = None) -> None:
        """Start nothing until the next grant, which is slower, and wait for as long as a reply asks."""
        if retry_after_seconds is not None:
            self.hold(now, retry_after_seconds)
        self.slowed = True

    def accept(self, grant: Grant, *, heard: bool) -> None:
        """Follow a grant; `heard` says whether its wish reported the last request to slow down."""
        if grant.per_second and not 0 < self.per_second <= grant.per_second:
            self._instants.clear()
        self.per_second, self._share = grant.per_second, grant.share
        self.not_before = max(self.not_before, grant.not_before)
        if heard:
            self.slowed = False
        if grant.count:
            self._instants.append([grant.first_at, grant.count, grant.spacing_seconds])
        self.reserved_until = max(self.reserved_until, grant.reserved_until)

    def _next(self, now: float) -> float | None:
        """Return the next reserved instant that is not lost."""
        while self._instants:
            first = self._instants[0]
            if first[0] < now - BURST_SECONDS:
                missed = min(first[1], math.ceil((now - BURST_SECONDS - first[0]) / first[2]))
                first[0] += missed * first[2]
                first[1] -= missed
            if first[1] > 0:
                return first[0]
            self._instants.popleft()
        return None
