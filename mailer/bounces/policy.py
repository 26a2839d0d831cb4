"""Add up soft bounces and decide when they suppress an address.

The count is always computed from the single bounces, so that a change of the rules applies to old bounces
as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from mailer.printable import counted
from mailer.replies import POLICY, BounceClass, Verdict

# A server that has a bad day costs one point, however many messages bounce.
_POINTS_A_DAY: Final = 1.0


@dataclass(frozen=True, slots=True)
class SoftLimits:
    """Soft bounces suppress an address that has `points` or more over `days` or more.

    After `quiet_days` without a soft bounce, the count starts again.
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
    """A subscriber's soft bounces. `enough`: the reason to suppress, or empty."""

    points: float
    since: datetime
    enough: str = ""


def weight(verdict: Verdict) -> float:
    """Return the points of a soft bounce; 0 if the recipient's mailbox is not the cause."""
    if verdict.bounce_class is None:
        return 0.0
    return class_weight(verdict.bounce_class)


def class_weight(bounce_class: BounceClass) -> float:
    """Return the points of a soft bounce of this class.

    A class that is normally hard is soft only with a 4yz reply, and then counts in full.
    """
    policy = POLICY[bounce_class]
    return 1.0 if policy.hard else policy.weight


def add_up(bounces: Sequence[SoftBounce], limits: SoftLimits) -> SoftCount:
    """Return the count after a subscriber's soft bounces: one or more, oldest first."""
    run = _current_run(bounces, timedelta(days=limits.quiet_days))
    days: dict[date, float] = {}
    for bounce in run:
        day = bounce.at.date()
        days[day] = min(_POINTS_A_DAY, days.get(day, 0.0) + class_weight(bounce.bounce_class))
    points, since, last = sum(days.values()), run[0].at, run[-1].at
    enough = _enough_of_one_class(run)
    if not enough and points >= limits.points and last - since >= timedelta(days=limits.days):
        enough = f"{points:g} soft bounce points in {counted((last - since).days, 'day')}"
    return SoftCount(points, since, enough)


def _current_run(bounces: Sequence[SoftBounce], quiet: timedelta) -> Sequence[SoftBounce]:
    start = 0
    for place in range(1, len(bounces)):
        if bounces[place].at - bounces[place - 1].at > quiet:
            start = place
    return bounces[start:]


def _enough_of_one_class(run: Sequence[SoftBounce]) -> str:
    """Return the reason to suppress by the rule for the newest bounce's class, or an empty string."""
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
    return f"{newest.bounce_class.value} on {counted(len(times), 'day')}"
