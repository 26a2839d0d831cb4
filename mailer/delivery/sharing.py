"""Limits that several runs share, kept in the database: one row for each relay, provider and slowed domain.

A run asks for its part in the transaction that settles its deliveries, a few times a second (`Sharing`).

- Connections are leased for `LEASE_SECONDS` and divided evenly among the runs that want some. A run gets
  what no other still has open, so that together they never exceed the limit.
- A rate is a virtual schedule (the generic cell rate algorithm): each run reserves the instants of the next
  second, spaced so that those of the other runs fit between them. A run that joins begins a second later,
  when the others have made room.
- A slow-down or a pause that one run's replies asked for holds for all of them.

Times are seconds on one clock: the server's on PostgreSQL, the machine's on SQLite.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, delete, select, text

from mailer.database.tables import Seat, SharedLimit, TableRow
from mailer.smtp.limits import QUIET_SECONDS, SAME_CAUSE_SECONDS, SLOWEST_PER_SECOND, STEP
from mailer.smtp.sharing import Grant, Wish

LEASE_SECONDS: Final = 3.0
"""How long a run keeps its connections without asking again."""
AHEAD_SECONDS: Final = 1.0
"""How far ahead a run reserves instants."""
_MARGIN_SECONDS: Final = 0.5
"""How long before the lease ends a run stops, so that its connections are closed in time."""
_PAUSE_SECONDS: Final = 0.2
"""How long to wait before asking again."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The shared state of one limit, as all runs see it."""

    free_at: float = 0.0
    """From when on instants are not reserved."""
    not_before: float = 0.0
    slowed_at: float = 0.0
    share: float = 1.0
    """The fraction of the usual rate that was left after the last slow-down."""
    usual_per_second: float = 0.0
    """The rate before the slow-down, if none is configured."""

    def share_at(self, now: float) -> float:
        """Return the fraction of the usual rate that is left; each quiet minute gives back a tenth."""
        return min(1.0, self.share + STEP * math.floor((now - self.slowed_at) / QUIET_SECONDS))

    def matters(self, now: float) -> bool:
        """Return whether a reply still slows or pauses anything."""
        return self.not_before > now or self.share_at(now) < 1

    def rate(self, configured: float, now: float) -> float:
        """Return the present rate of all runs together; 0 means no limit."""
        share = self.share_at(now)
        usual = configured or (self.usual_per_second if share < 1 else 0.0)
        return usual and max(min(SLOWEST_PER_SECOND, usual), usual * share)

    def slowed(self, wish: Wish, runs: int, now: float) -> Limit:
        """Return the limit after a reply that asked for fewer messages, unless that is known already."""
        if now - self.slowed_at < SAME_CAUSE_SECONDS:
            return self
        used, before = runs * wish.used_per_second, self.rate(wish.per_second, now)
        if before:
            used = min(used, before)
        usual = wish.per_second or max(used, before and self.usual_per_second)
        share = max(SLOWEST_PER_SECOND, used / 2) / usual
        return replace(self, slowed_at=now, share=min(1.0, share), usual_per_second=usual)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a limit that one run holds."""

    connections: int
    wanted: int


def divided(places: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """Divide places among those who want some, as evenly as possible; nobody gets more than they want."""
    shares: dict[str, int] = {}
    for done, (name, number) in enumerate(sorted(wanted.items(), key=lambda one: (one[1], one[0]))):
        shares[name] = min(number, places // (len(wanted) - done))
        places -= shares[name]
    return shares


def grant(
    limit: Limit, parts: Mapping[str, Part], holder: str, wish: Wish, now: float
) -> tuple[Limit, Part | None, Grant]:
    """Return a limit after a wish was granted, the holder's new part, and the grant.

    `parts` are those of all runs whose lease has not ended, by holder. Times of the wish and of the grant
    are on the clock of `now`.
    """
    others = {name: part for name, part in parts.items() if name != holder}
    wanted = {name: part.wanted for name, part in others.items() if part.wanted}
    runs = len(wanted) + 1
    if wish.slowed:
        limit = limit.slowed(wish, runs, now)
    if wish.not_before > now:
        limit = replace(limit, not_before=max(limit.not_before, wish.not_before))
    rate = limit.rate(wish.per_second, now)
    given = Grant(name=wish.name, per_second=rate, share=limit.share_at(now), not_before=limit.not_before)
    if not wish.connections:
        kept = Part(wish.connected, 0) if wish.connected else None
        return limit, kept, given
    if wish.most_connections:
        fair = divided(wish.most_connections, {**wanted, holder: wish.connections})[holder]
        free = wish.most_connections - sum(part.connections for part in others.values())
        given = replace(given, connections=max(0, min(fair, free)))
    part = Part(max(given.connections, wish.connected), wish.connections)
    if rate:
        joins = bool(wanted) and not (holder in parts and parts[holder].wanted)
        if joins:
            # The others have made room when their present instants have passed.
            given = replace(given, reserved_until=now + AHEAD_SECONDS)
        else:
            limit, given = _reserve(limit, given, wish, runs, now)
    return limit, part, given


def _reserve(limit: Limit, given: Grant, wish: Wish, runs: int, now: float) -> tuple[Limit, Grant]:
    """Reserve the instants of the next second for one of `runs` runs."""
    rate, begin = given.per_second, max(now, wish.reserved_until)
    count = math.floor((now + AHEAD_SECONDS - begin) * rate / runs + 1e-9)
    if count < 1 and begin <= now + AHEAD_SECONDS / 2:
        count = 1
    if count < 1:
        return limit, given
    # A clock that was set back must not stop everything.
    free_at = min(limit.free_at, now + 2 * AHEAD_SECONDS + 2 * runs / rate)
    free_at = max(free_at, now)
    first_at = max(free_at, begin)
    spacing = runs / rate
    return replace(limit, free_at=free_at + count / rate), replace(
        given,
        first_at=first_at,
        spacing_seconds=spacing,
        count=count,
        reserved_until=first_at + count * spacing,
    )


class Sharing:
    """One run's part of all limits. `wishes` and `accept` are called on the event loop."""

    def __init__(
        self,
        ticks: Callable[[], float],
        wishes: Callable[[], list[Wish]],
        accept: Callable[[Sequence[Wish], Sequence[Grant]], None],
    ) -> None:
        self._ticks = ticks
        self._wishes = wishes
        self._accept = accept
        self._holder = uuid.uuid4().hex
        self._known: set[str] = set()
        """The limits that have a row."""
        self._holds: set[str] = set()
        """The limits of which this run may have a part."""
        self.refused = False
        """Whether the last wishes were not granted, because another run asked at the same moment."""
        self._asked_at = -math.inf
        self._until = -math.inf

    def leased(self) -> bool:
        """Return whether the connections of this run are still its own."""
        return self._ticks() < self._until

    def wishes(self) -> list[Wish]:
        """Return the wishes for the next transaction; none if the last ones are recent."""
        wishes = self._wishes()
        if self._ticks() - self._asked_at < _PAUSE_SECONDS and not any(wish.slowed for wish in wishes):
            return []
        return wishes

    def accept(self, wishes: Sequence[Wish], granted: Granted | None) -> None:
        """Follow what a committed transaction granted."""
        self.refused = bool(wishes) and granted is None
        if granted is not None:
            self._asked_at, self._until = granted.asked_at, granted.asked_at + LEASE_SECONDS - _MARGIN_SECONDS
            self._accept(wishes, granted.grants)

    def exchange(self, connection: Connection, wishes: Sequence[Wish]) -> Granted | None:
        """Ask for a part of each limit, as the last step of a transaction; None if another run is asking.

        Locks the limits until the transaction ends, and does not wait for their locks.
        """
        if not wishes:
            return None
        asked_at = self._ticks()
        learnt = _learnt(connection)
        before = self._lock(connection, sorted(wish.name for wish in wishes))
        if before is None:
            return None
        now = database_seconds(connection, self._ticks)
        shift = self._ticks() - now
        limits, parts = dict(before), _parts(connection, before, now)
        grants: list[Grant] = []
        for wish in wishes:
            there = _moved(wish, -shift)
            limits[wish.name], part, given = grant(
                limits[wish.name], parts.get(wish.name, {}), self._holder, there, now
            )
            grants.append(given)
            parts.setdefault(wish.name, {}).pop(self._holder, None)
            if part is not None:
                parts[wish.name][self._holder] = part
        changed = {name: limit for name, limit in limits.items() if limit != before[name]}
        self._write(connection, changed, parts, now)
        grants += [
            _heard(name, limit, now)
            for name, limit in learnt.items()
            if name not in limits and limit.matters(now)
        ]
        return Granted(asked_at, [_granted(given, shift) for given in grants])

    def leave(self, connection: Connection) -> None:
        """Give up all connections, which the run has closed, and forget what does not matter any more."""
        connection.execute(delete(Seat).where(Seat.c.holder == self._holder))
        learnt, now = _learnt(connection), database_seconds(connection, self._ticks)
        if past := [name for name, limit in learnt.items() if not limit.matters(now)]:
            connection.execute(delete(SharedLimit).where(SharedLimit.c.name.in_(past)))

    def _lock(self, connection: Connection, names: Sequence[str]) -> dict[str, Limit] | None:
        """Lock and return the limits of these names, with new ones as they begin."""
        if missing := [name for name in names if name not in self._known]:
            connection.execute(_MAKE, [{"name": name} for name in missing])
            self._known.update(missing)
        wanted = select(SharedLimit).where(SharedLimit.c.name.in_(names)).order_by(SharedLimit.c.name)
        found = connection.execute(wanted.with_for_update(skip_locked=True)).all()
        if len(found) < len(names):
            # A row may be missing because the transaction that made it was rolled back.
            self._known.clear()
            return None
        return {one.name: _limit(one) for one in found}

    def _write(
        self,
        connection: Connection,
        limits: Mapping[str, Limit],
        parts: Mapping[str, Mapping[str, Part]],
        now: float,
    ) -> None:
        if limits:
            connection.execute(_WRITE, [{"name": name, **_columns(limit)} for name, limit in limits.items()])
        mine = {name: held[self._holder] for name, held in parts.items() if self._holder in held}
        if self._holds - mine.keys():
            gone = self._holds - mine.keys()
            connection.execute(delete(Seat).where(Seat.c.holder == self._holder, Seat.c.limit_name.in_(gone)))
        self._holds = set(mine)
        if mine:
            connection.execute(
                _SIT,
                [
                    {
                        "limit_name": name,
                        "holder": self._holder,
                        "connections": part.connections,
                        "wanted": part.wanted,
                        "until": now + LEASE_SECONDS,
                    }
                    for name, part in mine.items()
                ],
            )


@dataclass(frozen=True, slots=True)
class Granted:
    """The grants of one transaction, and the tick before it asked for them."""

    asked_at: float
    grants: list[Grant]


_MAKE: Final = text("INSERT INTO limits (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
_WRITE: Final = text(
    "UPDATE limits SET free_at = :free_at, not_before = :not_before, slowed_at = :slowed_at,"
    " share = :share, usual_per_second = :usual_per_second WHERE name = :name"
)
_SIT: Final = text(
    "INSERT INTO seats (limit_name, holder, connections, wanted, until)"
    " VALUES (:limit_name, :holder, :connections, :wanted, :until)"
    " ON CONFLICT (limit_name, holder) DO UPDATE"
    " SET connections = excluded.connections, wanted = excluded.wanted, until = excluded.until"
)


def forget(connection: Connection) -> None:
    """Remove what earlier runs left: on SQLite, their clock may have begun anew."""
    connection.execute(delete(Seat))
    connection.execute(delete(SharedLimit))


def database_seconds(connection: Connection, ticks: Callable[[], float]) -> float:
    """Return the time on the clock that all runs share."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return ticks()


def _limit(stored: TableRow) -> Limit:
    return Limit(stored.free_at, stored.not_before, stored.slowed_at, stored.share, stored.usual_per_second)


def _columns(limit: Limit) -> dict[str, float]:
    return {
        "free_at": limit.free_at,
        "not_before": limit.not_before,
        "slowed_at": limit.slowed_at,
        "share": limit.share,
        "usual_per_second": limit.usual_per_second,
    }


def _parts(connection: Connection, names: Mapping[str, Limit], now: float) -> dict[str, dict[str, Part]]:
    """Return the parts whose lease has not ended, by limit and holder; delete the others."""
    parts: dict[str, dict[str, Part]] = {}
    ended = False
    for seat in connection.execute(select(Seat).where(Seat.c.limit_name.in_(names))):
        if seat.until > now:
            parts.setdefault(seat.limit_name, {})[seat.holder] = Part(seat.connections, seat.wanted)
        else:
            ended = True
    if ended:
        connection.execute(delete(Seat).where(Seat.c.limit_name.in_(names), Seat.c.until <= now))
    return parts


def _learnt(connection: Connection) -> dict[str, Limit]:
    """Return the limits of the domains that runs have slowed or paused."""
    named = select(SharedLimit).where(SharedLimit.c.name.startswith("domain "))
    return {one.name: _limit(one) for one in connection.execute(named)}


def _heard(name: str, limit: Limit, now: float) -> Grant:
    """Return the grant for a domain that a run does not use at present."""
    return Grant(
        name=name,
        per_second=limit.rate(0.0, now),
        share=limit.share_at(now),
        not_before=limit.not_before,
    )


def _moved(wish: Wish, shift: float) -> Wish:
    """Return a wish on another clock, whose numbers are larger by `shift`."""
    return replace(wish, reserved_until=wish.reserved_until + shift, not_before=wish.not_before + shift)


def _granted(given: Grant, shift: float) -> Grant:
    return replace(
        given,
        first_at=given.first_at + shift,
        reserved_until=given.reserved_until + shift,
        not_before=given.not_before + shift,
    )
