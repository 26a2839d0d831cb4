"""Compare two shares by a confidence interval.

The interval is Newcombe's hybrid score interval (Statistics in Medicine 17 (1998), method 10). Unlike the
usual formula, it holds for the small shares and audiences of a newsletter, and for a share of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

CONFIDENCE: Final = 0.95
NAMES: Final = "ABCD"


class Count(Struct, frozen=True):
    """The readers of an arm who agreed to tracking, and how many of them clicked."""

    readers: int
    clicked: int

    @property
    def share(self) -> float:
        """The part of the readers who clicked."""
        return self.clicked / self.readers if self.readers else 0.0


class Interval(Struct, frozen=True):
    """How much larger one share is than another, from `low` to `high`; both from -1 to 1."""

    low: float
    high: float


class Judgement(Struct, frozen=True):
    """The arm that won, and why."""

    arm: int
    said: str


def interval(of: Count, than: Count, *, comparisons: int = 1) -> Interval:
    """Return by how much the share of one arm exceeds that of another.

    In 95 of 100 tests, the intervals of all `comparisons` contain the true differences (Bonferroni).
    """
    if not (of.readers and than.readers):
        return Interval(-1.0, 1.0)
    # Imported on use: most commands compare nothing.
    from statistics import NormalDist

    score = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / comparisons / 2)
    low, high = _wilson(of, score)
    low_than, high_than = _wilson(than, score)
    difference = of.share - than.share
    return Interval(
        max(-1.0, difference - math.hypot(of.share - low, high_than - than.share)),
        min(1.0, difference + math.hypot(high - of.share, than.share - low_than)),
    )


def judge(counts: Sequence[Count], verb: str) -> Judgement:
    """Return the arm with the largest share among those clearly above A's; A if there is none.

    `verb` is what readers did, such as `clicked`.
    """
    against = [interval(one, counts[0], comparisons=len(counts) - 1) for one in counts[1:]]
    better = [number for number, one in enumerate(against, start=1) if one.low > 0]
    best = max(better, key=lambda number: counts[number].share, default=0)
    lines = [f"{NAMES[number]}: {_told(one, verb)}" for number, one in enumerate(counts)]
    lines += [f"{NAMES[number]} {_compared(one)}" for number, one in enumerate(against, start=1)]
    if best:
        lines.append(f"{NAMES[best]} wins")
    elif all(one.high < 0 for one in against):
        lines.append("A wins")
    else:
        lines.append("no clear difference from A, so A is sent")
    return Judgement(best, "; ".join(lines))


def _wilson(count: Count, score: float) -> tuple[float, float]:
    """Return Wilson's interval for a share."""
    number, share = count.readers, count.share
    middle = share + score**2 / (2 * number)
    reach = score * math.sqrt(share * (1 - share) / number + score**2 / (4 * number**2))
    scale = 1 + score**2 / number
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def _told(count: Count, verb: str) -> str:
    if not count.readers:
        return "nobody agreed to tracking"
    return f"{count.clicked:,} of {count.readers:,} {verb} ({count.share:.1%})"


def _compared(found: Interval) -> str:
    """Return an interval in percentage points, in words."""
    low, high = 100 * found.low, 100 * found.high
    if low > 0:
        return f"has {low:.1f} to {high:.1f} points more than A"
    if high < 0:
        return f"has {-high:.1f} to {-low:.1f} points fewer than A"
    return f"has between {-low:.1f} points fewer and {high:.1f} points more than A"
