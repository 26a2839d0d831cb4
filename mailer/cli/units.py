"""Durations and sizes as people write them."""

from __future__ import annotations

from datetime import timedelta


def duration(time: timedelta) -> str:
    """Return a duration as people write it: `2 h 10 min`, `45 s`."""
    seconds = round(time.total_seconds())
    if seconds < 1:
        return "less than a second"
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days {hours % 24} h"


def octets(number: int) -> str:
    """Return a number of octets in KB, MB or GB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} octets"
