"""Messages waiting to be sent, by mailbox provider, so that a slow one does not delay the others."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mailer.config import ProviderLimits
from mailer.smtp.limits import Pace
from mailer.smtp.sharing import Grant, SharedPace, Wish

_KEEP_SECONDS: Final = 3.0
"""How long a provider without messages keeps its part of a shared limit."""
_PATIENCE_SECONDS: Final = 2.0
"""How long to wait until other processes give up some of their connections to a provider."""
_DENIED_SECONDS: Final = 5.0
"""How long messages to a provider are left to other processes after that."""


@dataclass(frozen=True, slots=True)
class Item:
    """A delivery waiting to be sent: its key and its recipient's domain."""

    key: int
    domain: str


@dataclass(slots=True)
class Lane:
    """The deliveries to one provider, and its limits; 0 means no limit."""

    name: str
    pace: Pace
    connections: int = 0
    messages_per_connection: int = 0
    waiting: deque[Item] = field(default_factory=deque)
    under_way: dict[int, int] = field(default_factory=dict)
    """How many messages of this lane are under way on each connection; no zeros."""
    in_turn: bool = False
    """Whether the lane is in the rotation of `Lanes`."""
    limit: str = ""
    """The name of its limit, if other processes share that."""
    places: int = 0
    """How many connections this process may use; the rest of `connections` belongs to others."""
    used_at: float = -math.inf
    unserved_since: float = math.inf
    """Since when this process has waited for a connection that others have."""
    denied_until: float = -math.inf
    """Until when its messages are left to other processes."""

    def may_start(self, connection: int, now: float) -> bool:
        """Whether a message may start on this connection now."""
        return self._has_place(connection) and self.pace.delay(now) <= 0

    def start(self, connection: int, now: float) -> Item:
        """Take the next message for this connection."""
        self.pace.take(now)
        self.used_at = now
        self.under_way[connection] = self.under_way.get(connection, 0) + 1
        return self.waiting.popleft()

    def finish(self, connection: int) -> None:
        """Count a message of this connection as done."""
        left = self.under_way[connection] - 1
        if left:
            self.under_way[connection] = left
        else:
            del self.under_way[connection]

    def wish(self, now: float) -> Wish:
        """Return what this process wants of the lane's shared limit."""
        assert isinstance(self.pace, SharedPace)
        wanted = self.waiting or self.under_way or now - self.used_at < _KEEP_SECONDS
        return Wish(
            name=self.limit,
            most_connections=self.connections,
            per_second=self.pace.ceiling_per_second,
            connections=max(1, self.connections) if wanted else 0,
            connected=len(self.under_way),
            reserved_until=self.pace.reserved_until,
            slowed=self.pace.slowed,
            used_per_second=self.pace.used_per_second(now),
            not_before=self.pace.not_before,
        )

    def accept(self, wish: Wish, grant: Grant, now: float) -> None:
        """Follow a grant."""
        assert isinstance(self.pace, SharedPace)
        self.pace.accept(grant, heard=wish.slowed)
        self.places = grant.connections
        if grant.connections or not wish.connections:
            self.unserved_since = math.inf
        elif self.connections:
            self.unserved_since = min(self.unserved_since, now)
            if now - self.unserved_since > _PATIENCE_SECONDS:
                self.denied_until, self.unserved_since = now + _DENIED_SECONDS, math.inf

    def _has_place(self, connection: int) -> bool:
        if not self.connections:
            return True
        used = len(self.under_way) - (connection in self.under_way)
        return used < min(self.places, max(1, math.floor(self.places * self.pace.share)))


class Lanes:
    """All lanes, by domain. Domains that belong to no configured provider share one without limits."""

    def __init__(self, providers: Mapping[str, ProviderLimits], *, shared: bool = False) -> None:
        self._shared = shared
        self._others = Lane("", Pace())
        self._by_domain: dict[str, Lane] = {}
        for name, provider in providers.items():
            lane = Lane(
                name,
                self._pace(provider.rate_per_second),
                provider.connections,
                provider.messages_per_connection,
                limit=f"provider {name}",
                places=0 if shared else provider.connections,
            )
            self._by_domain.update(dict.fromkeys(provider.domains, lane))
        self.waiting = 0
        self._turns: deque[Lane] = deque()
        """The lanes with messages waiting, in the order in which they take turns."""

    def lane(self, domain: str) -> Lane:
        """Return the lane for a domain."""
        return self._by_domain.get(domain, self._others)

    def own_lane(self, domain: str) -> Lane:
        """Return a lane for this domain alone, splitting it off from the shared one if need be."""
        lane = self._by_domain.get(domain)
        if lane is None:
            lane = self._by_domain[domain] = Lane(domain, self._pace(), limit=f"domain {domain}")
            mine = [item for item in self._others.waiting if item.domain == domain]
            if mine:
                rest = [item for item in self._others.waiting if item.domain != domain]
                self._others.waiting = deque(rest)
                lane.waiting.extend(mine)
                self._enter(lane)
        return lane

    def add(self, item: Item, *, first: bool = False) -> None:
        """Add an item to its lane; `first` puts it in front, because it has waited before."""
        lane = self.lane(item.domain)
        self._enter(lane)
        if first:
            lane.waiting.appendleft(item)
        else:
            lane.waiting.append(item)
        self.waiting += 1

    def next_for(self, connection: int, now: float, *, spent: Iterable[Lane] = ()) -> Lane | None:
        """Return the next lane that may start a message on this connection, or None.

        `spent` are lanes whose messages per connection are used up.
        """
        turns = self._turns
        for _ in range(len(turns)):
            lane = turns[0]
            if not lane.waiting:
                turns.popleft().in_turn = False
                continue
            turns.rotate(-1)
            if lane not in spent and lane.may_start(connection, now):
                return lane
        return None

    def start(self, lane: Lane, connection: int, now: float) -> Item:
        """Take the next message of a lane that `next_for` returned."""
        self.waiting -= 1
        return lane.start(connection, now)

    def delay(self, now: float) -> float:
        """Return the seconds until a rate limit lets a message start; infinity if none is in the way."""
        delays = [lane.pace.delay(now) for lane in self._turns if lane.waiting]
        return min((delay for delay in delays if delay > 0), default=math.inf)

    def give_back(self, lane: Lane, keep: int = 0) -> list[Item]:
        """Remove and return the newest items of a lane, all but `keep`."""
        surplus = [lane.waiting.pop() for _ in range(len(lane.waiting) - keep)]
        self.waiting -= len(surplus)
        return surplus

    def give_back_all(self) -> list[Item]:
        """Remove and return every waiting item."""
        return [item for lane in tuple(self._turns) for item in self.give_back(lane)]

    def limited(self) -> list[Lane]:
        """Return the lanes of single providers or domains."""
        return list({id(lane): lane for lane in self._by_domain.values()}.values())

    def _pace(self, per_second: float = 0.0) -> Pace:
        return SharedPace(per_second) if self._shared else Pace(per_second)

    def _enter(self, lane: Lane) -> None:
        if not lane.in_turn:
            lane.in_turn = True
            self._turns.append(lane)

    def domains_of(self, lanes: Sequence[Lane]) -> frozenset[str]:
        """Return the domains that these lanes serve."""
        chosen = {id(lane) for lane in lanes}
        return frozenset(domain for domain, lane in self._by_domain.items() if id(lane) in chosen)
