"""The times of day at which a step may be queued, in every time zone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, time, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from mailer.delivery.schedule import instant

WINDOW: Final = timedelta(hours=1)
"""How late a step may be queued; after that it waits for the next day."""


@cache
def known_zones() -> tuple[str, ...]:
    """Return the names of all time zones; empty stands for that of the sequence."""
    return ("", *sorted(available_timezones()))


def open_slots(
    minute: int | None, days: Collection[int], zones: Iterable[str], default_zone: str, *, at: datetime
) -> Mapping[datetime, list[str]]:
    """Return those of the zones in which a step may be queued now, by the instant when their slot began.

    `minute` is the time of day, and `days` the days of the week from 0 for Monday; None and empty allow any.
    People whose step was not due when the slot began wait for the next one.
    """
    found: dict[datetime, list[str]] = defaultdict(list)
    for name in zones:
        zone = name or default_zone
        local = at.astimezone(ZoneInfo(zone) if zone else None)
        if minute is None:
            if not days or local.weekday() in days:
                found[at].append(name)
            continue
        clock = time(minute // 60, minute % 60)
        for day in (local.date(), local.date() - timedelta(days=1)):
            begin = instant(datetime.combine(day, clock), zone)
            if begin <= at < begin + WINDOW and (not days or day.weekday() in days):
                found[begin].append(name)
    return found
