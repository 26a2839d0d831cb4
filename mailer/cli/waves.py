"""Printing who gets an issue when, by local time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailer.delivery.local_time import Wave

_SHOWN = 3


def lines(waves: Sequence[Wave]) -> Iterator[str]:
    """Yield a heading and a line for each instant; nothing without waves."""
    if not waves:
        return
    yield f"  {sum(wave.people for wave in waves):,} wait for their local time:"
    for wave in waves:
        names = ", ".join(zone or "no time zone" for zone in wave.zones[:_SHOWN])
        more = f" and {len(wave.zones) - _SHOWN} more" if len(wave.zones) > _SHOWN else ""
        yield f"  {wave.people:>10,}  {wave.at.astimezone():%Y-%m-%d %H:%M}  {names}{more}"
