"""Messages whose turn is near, composed already and being signed in threads of their own.

A signature is the dearest part of a message, and OpenSSL makes it without Python's lock. While one
message is signed here, others are composed and leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, NamedTuple

from mailer.delivery.queue import Claimed
from mailer.errors import RecipientError
from mailer.rendering.message import Composer, Draft, Message

_NEAR: Final = 64
"""How many messages are begun before their turn; a draft shares most of its octets with the others."""
_AT_ONCE: Final = 8
"""How many are begun in one go: few, since no connection is served meanwhile."""
_THREADS: Final = 2
"""While one waits for Python's lock, the other signs."""


class _Begun(NamedTuple):
    claimed: Claimed
    draft: Draft
    signature: Future[bytes]


class Ahead:
    """Composes the messages of a run, the next ones before they are asked for."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._thread = ThreadPoolExecutor(_THREADS, "signing") if composer.signs else None
        self._begun: dict[int, _Begun] = {}
        self._asked = 0

    @property
    def begun(self) -> int:
        """How many messages are begun and not yet asked for."""
        return len(self._begun)

    def message(self, claimed: Claimed, following: Iterable[Claimed]) -> Message:
        """Return the message of a delivery, and begin some of those that follow it.

        Raises `RecipientError` as `Composer.compose` does, for this delivery only.
        """
        begun = self._begun.pop(claimed.recipient.subscriber_id, None)
        if self._thread is not None and self._asked % _AT_ONCE == 0:
            self._begin(self._thread, following)
        self._asked += 1
        if begun is None or begun.claimed is not claimed:
            return self._composer.compose(claimed.recipient, claimed.first_at)
        if begun.signature.cancel():
            # No thread has come to it; here it is made as fast.
            return begun.draft.message(self._composer.signature(begun.draft))
        return begun.draft.message(begun.signature.result())

    def close(self) -> None:
        """End the thread; what was begun is forgotten."""
        self._begun.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _begin(self, thread: ThreadPoolExecutor, following: Iterable[Claimed]) -> None:
        """Begin the next few, and forget those that are not among them any more."""
        near: dict[int, _Begun] = {}
        for claimed in islice(following, _NEAR):
            key = claimed.recipient.subscriber_id
            begun = self._begun.pop(key, None)
            if begun is None or begun.claimed is not claimed:
                try:
                    draft = self._composer.draft(claimed.recipient, claimed.first_at)
                except RecipientError:
                    # It is told when its turn comes, if it comes.
                    continue
                begun = _Begun(claimed, draft, thread.submit(self._composer.signature, draft))
            near[key] = begun
        for forgotten in self._begun.values():
            forgotten.signature.cancel()
        self._begun = near
