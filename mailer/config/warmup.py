"""`[relays.NAME.warmup]`: the first weeks of a new sending address."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final

from msgspec import Meta

from mailer.config.values import Section

_DAY_SECONDS: Final = 86_400
_MOST_A_DAY: Final = 100_000_000
"""A warm-up that allows this many messages has ended."""


class Warmup(Section, frozen=True, kw_only=True):
    """`[relays.NAME.warmup]`: send few messages at first, and more every day, spread over the day.

    Providers distrust a new address that sends a lot. The limit holds in addition to `rate_per_second`.
    """

    start: date
    """The first day, in UTC: `"2026-12-01"`."""
    first_day: Annotated[int, Meta(ge=1)]
    """Messages on that day, and on any day before it."""
    growth: Annotated[float, Meta(gt=1, le=10)] = 1.5
    """Each day allows this many times as many messages as the day before."""

    def allowed_on(self, day: date) -> int | None:
        """Return how many messages may leave on a day (UTC); None once the warm-up has ended."""
        allowed = float(self.first_day)
        for _ in range((day - self.start).days):
            allowed *= self.growth
            if allowed >= _MOST_A_DAY:
                return None
        return int(allowed)

    def rate_on(self, day: date, usual_per_second: float) -> float:
        """Return the messages a second on a day, where `usual_per_second` is the limit without a warm-up."""
        allowed = self.allowed_on(day)
        if allowed is None:
            return usual_per_second
        rate = allowed / _DAY_SECONDS
        return min(rate, usual_per_second) if usual_per_second else rate
