"""The clocks and the randomness that sending uses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def jitter() -> float:
    """Return the factor by which a retry delay is stretched."""
    return random.uniform(0.9, 1.1)  # noqa: S311 - keeps no secret


def ticks() -> float:
    """Return seconds on a clock that never goes back and keeps running while the machine sleeps."""
    return time.clock_gettime(_TICKS)


# Only Linux counts the time asleep, on a clock of its own.
_TICKS: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SILENT_SECONDS: Final = 10.0
"""A run that has not committed for this long starts no message."""
DEAD_SECONDS: Final = 30.0
"""A run that has not committed for this long may be ended by another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The clocks and the randomness of a run; tests and rehearsals replace them."""

    now: Callable[[], datetime] = now
    ticks: Callable[[], float] = ticks
    """Seconds on a clock that never goes back."""
    jitter: Callable[[], float] = jitter
    """The factor by which the next retry delay is stretched."""
    settle_seconds: float = 0.15
    """Outcomes are written after at most this long, however slow the relay."""
    look_again_seconds: float = 60.0
    """How often a waiting run looks at the queue and the wall clock again."""
    look_at_others_seconds: float = 1.0
    """How often a run with nothing left to send checks on the other runs of its issue."""
    silent_seconds: float = SILENT_SECONDS
    """See `mailer.delivery.runs`."""
    dead_seconds: float = DEAD_SECONDS
