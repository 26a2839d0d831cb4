"""Composing the next messages ahead of time, and signing them in threads.

Composing several in a row costs less than each at its turn: writing a message drives what composing needs
out of the processor's caches. Signing is the most expensive part of a message, and OpenSSL does it without
holding Python's lock: while a thread signs one message, others can be composed and sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, NamedTuple

from mailer.delivery.queue import Claimed
from mailer.errors import RecipientError
from mailer.rendering.message import Composer, Draft, Message

_NEAR: Final = 64
"""How many messages to draft ahead if they are signed; drafts share most of their octets."""
_NEAR_UNSIGNED: Final = 16
_AT_ONCE: Final = 8
"""How many calls share one round of drafting: few, since no connection is served meanwhile."""
_THREADS: Final = 2
"""While one thread waits for Python's lock, the other signs."""


class _Begun(NamedTuple):
    claimed: Claimed
    draft: Draft
    signature: Future[bytes] | None
    """None if messages are not signed."""


class Ahead:
    """Composes the messages of a run, some of them ahead of their turn.

    `arms` are the composers of the arms of an A/B test, for the readers who take part.
    """

    def __init__(self, composer: Composer, arms: Sequence[Composer] = ()) -> None:
        self._composer = composer
        self._arms = arms
        self._thread = ThreadPoolExecutor(_THREADS, "signing") if composer.signs else None
        self._begun: dict[int, _Begun] = {}
        self._near, self._at_once = (_NEAR, _AT_ONCE) if composer.signs else (_NEAR_UNSIGNED, _NEAR_UNSIGNED)
        self._asked = 0

    @property
    def begun(self) -> int:
        """How many messages are drafted and not yet requested."""
        return len(self._begun)

    def message(self, claimed: Claimed, following: Iterable[Claimed]) -> Message:
        """Return the message of a delivery, and draft some of the following ones.

        Raises `RecipientError` as `Composer.compose` does, for this delivery only.
        """
        begun = self._begun.pop(claimed.recipient.subscriber_id, None)
        if self._asked % self._at_once == 0:
            self._begin(following)
        self._asked += 1
        if begun is None or begun.claimed is not claimed:
            return self._of(claimed).compose(claimed.recipient, claimed.first_at)
        if begun.signature is None:
            return begun.draft.message(b"")
        if begun.signature.cancel():
            # No thread has started on it; signing here is just as fast.
            return begun.draft.message(self._of(claimed).signature(begun.draft))
        return begun.draft.message(begun.signature.result())

    def close(self) -> None:
        """Stop the threads and drop all drafts."""
        self._begun.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _of(self, claimed: Claimed) -> Composer:
        return self._composer if claimed.arm is None else self._arms[claimed.arm]

    def _begin(self, following: Iterable[Claimed]) -> None:
        """Draft the next few, and drop drafts that are no longer among them."""
        near: dict[int, _Begun] = {}
        for claimed in islice(following, self._near):
            key = claimed.recipient.subscriber_id
            begun = self._begun.pop(key, None)
            if begun is None or begun.claimed is not claimed:
                composer = self._of(claimed)
                try:
                    draft = composer.draft(claimed.recipient, claimed.first_at)
                except RecipientError:
                    # The error is reported when its turn comes, if it comes.
                    continue
                thread = self._thread
                signature = None if thread is None else thread.submit(composer.signature, draft)
                begun = _Begun(claimed, draft, signature)
            near[key] = begun
        for forgotten in self._begun.values():
            if forgotten.signature is not None:
                forgotten.signature.cancel()
        self._begun = near
