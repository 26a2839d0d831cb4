"""What soft bounces add up to: the count, its staleness, and when it is enough.

A count is never stored apart from what made it: it is worked out anew from the bounces that were
counted since it last began, so the rules can change and old bounces are weighed by the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from mailer.replies import POLICY, BounceClass, Verdict

# However many bounces one day brings: one bad day of a server is one point.
_POINTS_A_DAY: Final = 1.0


@dataclass(frozen=True, slots=True)
class SoftLimits:
    """When soft bounces suppress: `points` or more, gathered over `days` or more.

    After `quiet_days` without a soft bounce the count begins again.
    """

    points: float = 5.0
    days: int = 14
    quiet_days: int = 30


@dataclass(frozen=True, slots=True)
class SoftBounce:
    """One soft bounce of a subscriber."""

    at: datetime
    bounce_class: BounceClass


@dataclass(frozen=True, slots=True)
class SoftCount:
    """Where a subscriber stands. `enough` says why the address is given up; empty: it is not."""

    points: float
    since: datetime
    last_at: datetime
    enough: str = ""


def weight(verdict: Verdict) -> float:
    """Return the points of a bounce that is not hard; 0 for what is not the subscriber's fault."""
    if verdict.bounce_class is None:
        return 0.0
    return class_weight(verdict.bounce_class)


def class_weight(bounce_class: BounceClass) -> float:
    """Return the points of a soft bounce of this class.

    A class that is hard by rule comes here only with a 4yz: that is a full soft bounce.
    """
    policy = POLICY[bounce_class]
    return 1.0 if policy.hard else policy.weight


def add_up(bounces: Sequence[SoftBounce], limits: SoftLimits) -> SoftCount:
    """Return the count after these soft bounces of one subscriber, oldest first; at least one is needed."""
    run = _current_run(bounces, timedelta(days=limits.quiet_days))
    days: dict[date, float] = {}
    for bounce in run:
        day = bounce.at.date()
        days[day] = min(_POINTS_A_DAY, days.get(day, 0.0) + class_weight(bounce.bounce_class))
    points, since, last = sum(days.values()), run[0].at, run[-1].at
    enough = _enough_of_one_class(run)
    if not enough and points >= limits.points and last - since >= timedelta(days=limits.days):
        enough = f"{points:g} soft bounce points in {(last - since).days} days"
    return SoftCount(points, since, last, enough)


def _current_run(bounces: Sequence[SoftBounce], quiet: timedelta) -> Sequence[SoftBounce]:
    start = 0
    for place in range(1, len(bounces)):
        if bounces[place].at - bounces[place - 1].at > quiet:
            start = place
    return bounces[start:]


def _enough_of_one_class(run: Sequence[SoftBounce]) -> str:
    """Return why the newest bounce's class is enough by its own rule, or an empty string."""
    newest = run[-1]
    rule = POLICY[newest.bounce_class]
    if rule.suppress_at is None:
        return ""
    by_day = {bounce.at.date(): bounce.at for bounce in run if bounce.bounce_class is newest.bounce_class}
    times = sorted(by_day.values())
    if rule.within_days is not None:
        times = [time for time in times if newest.at - time <= timedelta(days=rule.within_days)]
    long_enough = rule.over_days is None or times[-1] - times[0] >= timedelta(days=rule.over_days)
    if len(times) < rule.suppress_at or not long_enough:
        return ""
    return f"{newest.bounce_class.value} on {len(times)} days"
