"""The deliveries that this run holds: claimed, not yet settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from mailer.delivery.queue import Claimed

# How many rows one look at the database covers: enough that our own commits, two a window, cost
# little; few enough that a burst of opt-outs costs little.
_CHECKED_AT_ONCE = 32


class Window:
    """The claimed deliveries in the order in which they go out, and those on their way.

    `changed` returns a number that differs once anybody has committed to the database; `mailable`
    returns which of some subscribers may still be mailed. With both, whoever opts out is not mailed
    after that commit, at the price of microseconds while nothing changes.
    """

    def __init__(self, changed: Callable[[], int], mailable: Callable[[list[int]], set[int]]) -> None:
        self._changed = changed
        self._mailable = mailable
        self._ready: deque[Claimed] = deque()
        self._flying: dict[int, Claimed] = {}
        self._checked_at = -1
        self._checked = 0
        """How many at the head of `_ready` were looked at since `_checked_at`."""

    @property
    def ready(self) -> int:
        """How many wait for a connection."""
        return len(self._ready)

    @property
    def flying(self) -> int:
        """How many a connection has taken."""
        return len(self._flying)

    def add(self, claimed: Iterable[Claimed]) -> None:
        """Take in newly claimed deliveries."""
        self._ready.extend(claimed)

    def take(self, opted_out: Callable[[int], None]) -> Claimed | None:
        """Return the next delivery that may go out now; tell `opted_out` of those that may not."""
        while self._ready:
            stamp = self._changed()
            if stamp != self._checked_at or not self._checked:
                self._look(stamp, opted_out)
                continue
            claimed = self._ready.popleft()
            self._checked -= 1
            self._flying[claimed.recipient.subscriber_id] = claimed
            return claimed
        return None

    def landed(self, subscriber_id: int) -> Claimed:
        """Return a delivery that a connection is done with."""
        return self._flying.pop(subscriber_id)

    def again(self, claimed: Claimed) -> None:
        """Put a delivery of which nothing left at the head of those that wait."""
        self._ready.appendleft(claimed)
        self._checked = 0

    def clear(self) -> list[int]:
        """Forget what waits, and return whose it was."""
        waiting = [claimed.recipient.subscriber_id for claimed in self._ready]
        self._ready.clear()
        self._checked = 0
        return waiting

    def _look(self, stamp: int, opted_out: Callable[[int], None]) -> None:
        head = [self._ready.popleft() for _ in range(min(_CHECKED_AT_ONCE, len(self._ready)))]
        allowed = self._mailable([claimed.recipient.subscriber_id for claimed in head])
        kept = []
        for claimed in head:
            if claimed.recipient.subscriber_id in allowed:
                kept.append(claimed)
            else:
                opted_out(claimed.recipient.subscriber_id)
        self._ready.extendleft(reversed(kept))
        # The stamp was read before the look: a commit in between is seen at the next take.
        self._checked_at, self._checked = stamp, len(kept)
