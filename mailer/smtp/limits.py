"""How fast to send: a pace that adapts to the replies of the other side.

A provider that replies "too fast" halves the pace; each quiet minute gives back a tenth, much like
TCP congestion control (RFC 5681). Times are seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final

BURST_SECONDS: Final = 0.1
"""How much of a pause may be made up for in one burst."""
QUIET_SECONDS: Final = 60.0
"""How long without a complaint before the pace rises one step."""
STEP: Final = 0.1
SLOWEST_PER_SECOND: Final = 0.05
SAME_CAUSE_SECONDS: Final = 10.0
"""Complaints this close together are about messages that were already under way: they count once."""


class Pace:
    """A rate in messages per second under a configured ceiling; 0 means no limit."""

    def __init__(self, ceiling_per_second: float = 0.0) -> None:
        self.ceiling_per_second = ceiling_per_second
        self._goal = 0.0
        self._due = -math.inf
        self._slowed_at = -math.inf
        self._raise_at = math.inf
        self._counted = 0
        self._counted_from = -math.inf
        self._measured = 0.0
        self.per_second = ceiling_per_second
        """The current rate; 0 means no limit."""
        self.not_before = -math.inf
        """When the next message may start, after a reply that asked us to wait."""

    @property
    def share(self) -> float:
        """The fraction of the usual pace that is left, from 0 to 1."""
        return 1.0 if math.isinf(self._raise_at) else min(1.0, self.per_second / self._goal)

    def delay(self, now: float) -> float:
        """Return the seconds until a message may start; 0 means now."""
        if now >= self._raise_at:
            self._recover(now)
        due = self._due - BURST_SECONDS if self.per_second else -math.inf
        return max(0.0, due - now, self.not_before - now)

    def take(self, now: float) -> None:
        """Count a message that starts now."""
        if self.per_second:
            self._due = max(self._due, now) + 1.0 / self.per_second
        self._measure(now)

    def used_per_second(self, now: float) -> float:
        """Return how many messages per second started lately; at least a guess of one if none did."""
        elapsed = max(1.0, now - self._counted_from)
        return max(self._measured, self._counted / elapsed) or 1.0

    def _measure(self, now: float) -> None:
        self._counted += 1
        elapsed = now - self._counted_from
        if elapsed >= SAME_CAUSE_SECONDS:
            # After a longer pause the first message begins a new count.
            self._measured = 0.0 if elapsed > 2 * SAME_CAUSE_SECONDS else self._counted / elapsed
            self._counted, self._counted_from = 1, now

    def slow_down(self, now: float, retry_after_seconds: float | None = None) -> None:
        """Halve the rate after a complaint, and wait for as long as it asks."""
        if retry_after_seconds is not None:
            self.not_before = max(self.not_before, now + retry_after_seconds)
        if now - self._slowed_at < SAME_CAUSE_SECONDS:
            return
        measured = self.used_per_second(now)
        used = min(measured, self.per_second) if self.per_second else measured
        self._goal = self.ceiling_per_second or max(self._goal, used)
        self.per_second = max(SLOWEST_PER_SECOND, used / 2)
        self._slowed_at, self._raise_at = now, now + QUIET_SECONDS

    def hold(self, now: float, seconds: float) -> None:
        """Start nothing for this long; the rate stays the same."""
        self.not_before = max(self.not_before, now + seconds)

    def _recover(self, now: float) -> None:
        steps = math.floor((now - self._raise_at) / QUIET_SECONDS) + 1
        self._raise_at += steps * QUIET_SECONDS
        self.per_second += steps * STEP * self._goal
        if self.per_second >= self._goal:
            self.per_second, self._goal, self._raise_at = self.ceiling_per_second, 0.0, math.inf
