"""The deliveries that a run holds: claimed and not yet settled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from mailer.delivery.queue import Claimed

# How many rows one query covers: enough that our own commits, a few per window, cost little; few enough
# that a burst of opt-outs costs little too.
_CHECKED_AT_ONCE = 64


class Window:
    """The claimed deliveries by subscriber, in claim order.

    `changed` returns a number that changes whenever anybody commits to the database; `mailable` returns
    which of the given subscribers may still be mailed. Together they ensure that nobody gets a message
    after their opt-out is committed, and cost microseconds while nothing changes.

    Without `changed`, the caller looks for opt-outs beside the event loop and calls `bar`.
    """

    def __init__(self, changed: Callable[[], int] | None, mailable: Callable[[list[int]], set[int]]) -> None:
        self._changed = changed
        self._mailable = mailable
        self._waiting: dict[int, Claimed] = {}
        self._begun: dict[int, Claimed] = {}
        self._barred: set[int] = set()
        self._stamp = -1
        self._allowed: set[int] = set()
        """The subscribers who may be mailed, as of `_stamp`."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._begun)

    def held(self) -> frozenset[int]:
        """Return the subscribers of all deliveries, begun or not."""
        return frozenset(self._waiting) | frozenset(self._begun)

    def waiting(self) -> list[int]:
        """Return the subscribers whose turn has not come yet."""
        return list(self._waiting)

    def following(self) -> Iterable[Claimed]:
        """Return the deliveries whose turn has not come yet, the next one first."""
        return self._waiting.values()

    def add(self, claimed: Iterable[Claimed]) -> None:
        """Add newly claimed deliveries."""
        for one in claimed:
            self._waiting[one.recipient.subscriber_id] = one
            self._barred.discard(one.recipient.subscriber_id)

    def begin(self, subscriber_id: int) -> Claimed | None:
        """Begin a delivery and return it; None if its subscriber may no longer be mailed.

        A delivery can begin again if its connection broke before the message was handed over.
        """
        allowed = self._may_begin(subscriber_id)
        claimed = self._waiting.pop(subscriber_id, None) or self._begun.pop(subscriber_id)
        if not allowed:
            return None
        self._begun[subscriber_id] = claimed
        return claimed

    def bar(self, subscriber_ids: Iterable[int]) -> None:
        """Let no delivery to these subscribers begin; they may no longer be mailed."""
        self._barred.update(subscriber_ids)

    def end(self, subscriber_id: int) -> Claimed:
        """Remove and return a settled delivery, whether it began or not."""
        return self._begun.pop(subscriber_id, None) or self._waiting.pop(subscriber_id)

    def _may_begin(self, subscriber_id: int) -> bool:
        if self._changed is None:
            return subscriber_id not in self._barred
        # Read the stamp before the query: a commit in between then shows at the next turn.
        stamp = self._changed()
        if stamp != self._stamp:
            self._stamp = stamp
            self._allowed.clear()
        if subscriber_id not in self._allowed:
            some = [subscriber_id, *islice(self._waiting, _CHECKED_AT_ONCE - 1)]
            self._allowed |= self._mailable(some)
        return subscriber_id in self._allowed
