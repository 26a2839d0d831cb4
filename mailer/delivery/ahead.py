"""Composing the next messages ahead of time, and having them signed in another process.

Composing several in a row costs less than each at its turn: writing a message drives what composing needs
out of the processor's caches. Signing is the most expensive part of a message: while the other process signs
some, others are composed and sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailer.delivery.queue import Claimed
from mailer.errors import RecipientError
from mailer.rendering.message import Composer, Draft, Message

if TYPE_CHECKING:
    from mailer.smtp.signing import Request, SigningProcess

_NEAR: Final = 64
"""How many messages to draft ahead; drafts share most of their octets."""
_AT_ONCE: Final = 16
"""How many calls share one round of drafting: few, since no connection is served meanwhile."""
_AT_ONCE_SIGNED: Final = 8
Call = Callable[[], None]


class _Begun(Struct):
    claimed: Claimed
    draft: Draft
    signature: Request | None = None
    """None if the message is signed at its turn, or not at all."""


class Ahead:
    """Composes the messages of a run, some of them ahead of their turn.

    `arms` are the composers of the arms of an A/B test, for the readers who take part. `signing` has the keys
    of all composers; without it, messages are signed here. `soon` is called with a function that drafts; it
    calls this function right away, or after it has served the connections that are ready.
    """

    def __init__(
        self,
        composer: Composer,
        arms: Sequence[Composer] = (),
        signing: SigningProcess | None = None,
        soon: Callable[[Call], object] = lambda draft: draft(),
    ) -> None:
        self._composer = composer
        self._arms = arms
        self._signing = signing
        self._begun: dict[int, _Begun] = {}
        self._soon = soon
        self._at_once = _AT_ONCE_SIGNED if signing else _AT_ONCE
        self._asked = 0
        self._catching_up = False

    @property
    def begun(self) -> int:
        """How many messages are drafted and not yet requested."""
        return len(self._begun)

    def prepare(self, number: int) -> None:
        """Start the signing process if a run of this many messages is worth it."""
        if self._signing is not None:
            self._signing.start(number)

    def message(self, claimed: Claimed, following: Iterable[Claimed]) -> Message:
        """Return the message of a delivery, and have some of the following ones drafted.

        Raises `RecipientError` as `Composer.compose` does, for this delivery only.
        """
        begun = self._begun.pop(claimed.recipient.subscriber_id, None)
        if self._asked % self._at_once == 0:
            self._soon(partial(self._begin, following))
        self._asked += 1
        if begun is None or begun.claimed is not claimed:
            return self._of(claimed).compose(claimed.recipient, claimed.first_at)
        fields = None
        if self._signing is not None and begun.signature is not None:
            fields = self._signing.wait(begun.signature)
        return begun.draft.message(self._of(claimed).signature(begun.draft) if fields is None else fields)

    def close(self) -> None:
        """Drop all drafts, and end the process that signs."""
        self._begun.clear()
        if self._signing is not None:
            self._signing.close()

    def _of(self, claimed: Claimed) -> Composer:
        return self._composer if claimed.arm is None else self._arms[claimed.arm]

    def _begin(self, following: Iterable[Claimed]) -> None:
        """Draft the next few, and drop drafts that are no longer among them."""
        near: dict[int, _Begun] = {}
        new: list[_Begun] = []
        more = False
        for claimed in islice(following, _NEAR):
            key = claimed.recipient.subscriber_id
            begun = self._begun.get(key)
            if begun is None or begun.claimed is not claimed:
                if more := len(new) == self._at_once:
                    break
                try:
                    begun = _Begun(claimed, self._of(claimed).draft(claimed.recipient, claimed.first_at))
                except RecipientError:
                    # The error is reported when its turn comes, if it comes.
                    continue
                new.append(begun)
            near[key] = begun
        self._begun = near
        if new and self._signing is not None and self._signing.is_ready():
            digests = [(one.draft.head, self._of(one.claimed).body_digest(one.draft)) for one in new]
            for one, request in zip(new, self._signing.request(digests), strict=True):
                one.signature = request
        if more and not self._catching_up:
            self._catching_up = True
            self._soon(partial(self._catch_up, following))

    def _catch_up(self, following: Iterable[Claimed]) -> None:
        self._catching_up = False
        self._begin(following)
