"""The best hour to send, and whether the data can tell.

Issues are compared by the hour in which they started. Issues differ in much more than their hour, so a
permutation test asks how often chance alone, dealing the same issues to the hours, makes one hour look as
good as the best one does.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from msgspec import Struct

from mailer.reports.statistics import IssueFigures

_FEWEST_ISSUES: Final = 3
"""How many issues an hour needs to be compared."""
_SHUFFLES: Final = 1000
_CONVINCING: Final = 0.05


class HourOfDay(Struct, frozen=True):
    """The issues that started in one hour of the day."""

    hour: int
    issues: int
    rate: float
    """Opens and clicks by people in the first 24 hours, per message sent: the mean of its issues."""
    lowest: float
    """The rate of the issue with the lowest one."""
    highest: float


class BestHour(Struct, frozen=True):
    """The hours compared. `hour` is the best one, or None if the data shows no difference."""

    hours: tuple[HourOfDay, ...]
    """In order of the day, hours with too few issues included."""
    hour: int | None
    chance: float | None
    """How often chance makes a difference this large; None if fewer than two hours can be compared."""
    verdict: str
    """The result in a sentence."""


def best_hour(issues: Sequence[IssueFigures], zone: tzinfo | None) -> BestHour:
    """Compare the hours in which issues were sent, by the engagement in the first 24 hours.

    `zone` is the time zone of the hours, by default the machine's.
    """
    rates: dict[int, list[float]] = defaultdict(list)
    for issue in issues:
        if issue.sent and not issue.open:
            rates[issue.started_at.astimezone(zone).hour].append(issue.early / issue.sent)
    hours = tuple(
        HourOfDay(hour, len(found), sum(found) / len(found), min(found), max(found))
        for hour, found in sorted(rates.items())
    )
    compared = [hour for hour in hours if hour.issues >= _FEWEST_ISSUES]
    if len(compared) < 2:
        verdict = (
            f"Nothing to compare: send at least {_FEWEST_ISSUES} issues at each of two different hours first."
        )
        return BestHour(hours, None, None, verdict)
    if not any(hour.rate for hour in compared):
        return BestHour(hours, None, None, "Nothing to compare: no opens or clicks were counted.")
    best = max(compared, key=lambda hour: hour.rate)
    chance = _chance([rates[hour.hour] for hour in compared], best.rate)
    if chance > _CONVINCING:
        return BestHour(
            hours,
            None,
            chance,
            f"No hour is clearly better. {best.hour:02}:00 did best, but chance alone makes a difference "
            f"this large in {chance:.0%} of cases.",
        )
    return BestHour(
        hours,
        best.hour,
        chance,
        f"Issues sent at {best.hour:02}:00 did best; chance alone makes a difference this large in "
        f"{_small(chance)} of cases. Something else that these issues share may also be the reason.",
    )


def _chance(groups: Sequence[Sequence[float]], best: float) -> float:
    """Return how often the best of shuffled groups is as good; seeded, so that the answer stays the same."""
    pool = [rate for group in groups for rate in group]
    sizes = [len(group) for group in groups]
    shuffle = random.Random(len(pool)).shuffle  # noqa: S311 - statistics, not secrets
    as_good = 0
    for _ in range(_SHUFFLES):
        shuffle(pool)
        start, highest = 0, 0.0
        for size in sizes:
            highest = max(highest, sum(pool[start : start + size]) / size)
            start += size
        as_good += highest >= best - 1e-12
    # The observed order counts as one of the cases, so the chance is never zero.
    return (as_good + 1) / (_SHUFFLES + 1)


def _small(chance: float) -> str:
    return "less than 1%" if chance < 0.01 else f"{chance:.0%}"
