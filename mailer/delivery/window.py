"""The deliveries that this run holds: claimed, not yet settled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from mailer.delivery.queue import Claimed

# How many rows one look at the database covers: enough that our own commits, some a window, cost
# little; few enough that a burst of opt-outs costs little.
_CHECKED_AT_ONCE = 64


class Window:
    """The claimed deliveries by subscriber, in the order of their claim.

    `changed` returns a number that differs once anybody has committed to the database; `mailable`
    returns which of some subscribers may still be mailed. With both, whoever opts out is not mailed
    after that commit, at the price of microseconds while nothing changes.
    """

    def __init__(self, changed: Callable[[], int], mailable: Callable[[list[int]], set[int]]) -> None:
        self._changed = changed
        self._mailable = mailable
        self._waiting: dict[int, Claimed] = {}
        self._begun: dict[int, Claimed] = {}
        self._stamp = -1
        self._allowed: set[int] = set()
        """Who may be mailed, as of `_stamp`."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._begun)

    def waiting(self) -> list[int]:
        """Return whose turn has not come."""
        return list(self._waiting)

    def following(self) -> Iterable[Claimed]:
        """Return the deliveries whose turn has not come, the next one first."""
        return self._waiting.values()

    def add(self, claimed: Iterable[Claimed]) -> None:
        """Take in newly claimed deliveries."""
        self._waiting.update((one.recipient.subscriber_id, one) for one in claimed)

    def begin(self, subscriber_id: int) -> Claimed | None:
        """Return a delivery whose turn it is; None if its subscriber may not be mailed any more.

        A delivery may have its turn again, when its connection broke before the message had left.
        """
        # The stamp is read before the look: a commit in between is seen at the next turn.
        stamp = self._changed()
        if stamp != self._stamp:
            self._stamp = stamp
            self._allowed.clear()
        if subscriber_id not in self._allowed:
            some = [subscriber_id, *islice(self._waiting, _CHECKED_AT_ONCE - 1)]
            self._allowed |= self._mailable(some)
        claimed = self._waiting.pop(subscriber_id, None) or self._begun.pop(subscriber_id)
        if subscriber_id not in self._allowed:
            return None
        self._begun[subscriber_id] = claimed
        return claimed

    def end(self, subscriber_id: int) -> Claimed:
        """Return a delivery that is settled, begun or not; it is held no longer."""
        return self._begun.pop(subscriber_id, None) or self._waiting.pop(subscriber_id)
