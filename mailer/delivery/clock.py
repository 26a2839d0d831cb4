"""The clocks and the randomness that sending uses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def jitter() -> float:
    """Return the factor by which a retry delay is stretched."""
    return random.uniform(0.9, 1.1)  # noqa: S311 - keeps no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The clocks and the randomness of a run; tests and rehearsals replace them."""

    now: Callable[[], datetime] = now
    ticks: Callable[[], float] = time.monotonic
    """Seconds on a clock that never goes back."""
    jitter: Callable[[], float] = jitter
    """The factor by which the next retry delay is stretched."""
    settle_seconds: float = 0.5
    """Outcomes are written after at most this long, however slow the relay."""
    look_again_seconds: float = 60.0
    """How often a waiting run looks at the queue and the wall clock again."""
