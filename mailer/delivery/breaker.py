"""The breaker: a refusal that nearly everybody gets is our fault, and counts against no subscriber.

The judge reads one reply at a time and can be wrong about it. The breaker sees many. It compares the last
answers of each relay and of each mailbox provider; when nearly all of them are one permanent refusal, with
the recipient's address and all numbers taken out, it trips. Until that can no longer happen, a refusal is
pending: nobody is suppressed for it, and its delivery can still be sent.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from msgspec import Struct, field

from mailer.replies import Refusal, fingerprint

WINDOW: Final = 20
"""How many of the latest answers count, for each relay and each provider."""
NEARLY_ALL: Final = 18
"""How many equal refusals among them trip the breaker."""
MANY: Final = 5
"""A refusal stays pending for another window while this many equal ones are in its window."""
FEW: Final = 5
"""How many equal refusals are enough from a relay that accepted nothing at all in the whole run."""
MOST_PENDING: Final = 20_000
"""More pending refusals than this are not remembered: the oldest then count as the recipients' own."""


class Trip(Struct, frozen=True):
    """Why the breaker tripped."""

    relay: str
    """The relay whose answers these were; empty when they came from one provider through any relay."""
    reason: str


class _Pending(Struct):
    refusal: Refusal
    key: str
    """The fingerprint of the reply."""
    watched_by: int
    """How many sources may still trip over it."""
    retried: bool
    """Whether its delivery is tried again in any case, so that clearing it changes nothing."""
    decided: bool = False
    """Whether the breaker has forgotten it; the sources then forget it too."""


class _Source(Struct):
    """The latest answers of one relay or provider; None is a message that was accepted."""

    name: str
    relay: str
    answers: deque[str | None] = field(default_factory=lambda: deque(maxlen=WINDOW))
    counts: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    pending: deque[tuple[int, _Pending]] = field(default_factory=deque)
    """Each with the number of the answer at which it leaves the window."""
    tripped: set[str] = field(default_factory=set)

    def add(self, answer: str | None) -> None:
        if len(self.answers) == WINDOW and (oldest := self.answers[0]) is not None:
            self.counts[oldest] -= 1
        self.answers.append(answer)
        self.seen += 1
        if answer is not None:
            self.counts[answer] += 1

    def passed(self) -> list[_Pending]:
        """Return the refusals that have left the window and are rare among the answers after them.

        Answers of several connections arrive mixed: the first refusals of a series may be followed by
        messages that were accepted earlier, and by many more refusals.
        """
        found = []
        while self.pending and self.pending[0][0] <= self.seen:
            pending = self.pending.popleft()[1]
            if pending.decided:
                continue
            if self.counts[pending.key] >= MANY:
                self.pending.append((self.seen + WINDOW, pending))
            else:
                found.append(pending)
        return found


class Breaker:
    """Watches the answers of one run.

    Call `accepted` and `refused` for every final answer, and collect what follows with `take_cleared`
    (refusals that are the recipients' own) and `take_ours` (refusals that are our fault). `finish` decides
    about the rest. `delivered_before` says whether earlier runs delivered any of the issue. With `trusting`
    it never trips: the operator has looked at the refusals and accepted them.
    """

    def __init__(self, *, delivered_before: bool = False, trusting: bool = False) -> None:
        self._delivered_before = delivered_before
        self._trusting = trusting
        self._accepting: set[str] = set()
        self._sources: dict[tuple[str, str], _Source] = {}
        self._pending: dict[int, _Pending] = {}
        self._cleared: list[Refusal] = []
        self._ours: list[int] = []

    @property
    def pending(self) -> int:
        """How many refusals are undecided."""
        return len(self._pending)

    def accepted(self, relay: str, provider: str) -> None:
        """Note that a message was accepted."""
        self._accepting.add(relay)
        if self._sources:
            for source in self._known(relay, provider):
                source.add(None)
                self._pass(source)

    def refused(
        self, refusal: Refusal, recipient: str, *, relay: str, provider: str, retried: bool = False
    ) -> Trip | None:
        """Note a refusal with a 5yz, pending from now on; return why the breaker trips, if it does.

        `retried` marks a refusal whose delivery is tried again anyway: it counts, but is never cleared.
        """
        if self._trusting:
            if not retried:
                self._cleared.append(refusal)
            return None
        key = fingerprint(refusal.verdict, recipient)
        pending = _Pending(refusal, key, 2, retried)
        self._pending[refusal.subscriber_id] = pending
        tripped: _Source | None = None
        for source in (self._source("relay", relay, relay), self._source("provider", provider, "")):
            source.add(key)
            source.pending.append((source.seen + WINDOW, pending))
            if key in source.tripped or source.counts[key] >= NEARLY_ALL:
                tripped = tripped or source
            else:
                self._pass(source)
        if tripped is not None:
            return self._trip(tripped, key)
        if len(self._pending) > MOST_PENDING:
            self._clear(next(iter(self._pending.values())))
        return None

    def take_cleared(self) -> list[Refusal]:
        """Return the refusals found to be the recipients' own since the last call."""
        cleared, self._cleared = self._cleared, []
        return cleared

    def take_ours(self) -> list[int]:
        """Return the subscribers whose refusals were found to be our fault since the last call."""
        ours, self._ours = self._ours, []
        return ours

    def finish(self) -> Trip | None:
        """Decide about all pending refusals; call this when no more replies will come for now.

        A relay that accepted nothing and refused a few people, all with the same reply, trips the
        breaker here; otherwise the refusals are cleared.
        """
        for source in self._sources.values():
            if not source.relay or source.relay in self._accepting or source.tripped:
                continue
            if self._delivered_before and not self._accepting:
                # The people left over from earlier runs may well be the ones who cannot be reached.
                continue
            keys = {pending.key for _, pending in source.pending}
            if len(keys) == 1 and source.seen >= FEW and source.counts.total() == len(source.answers):
                return self._trip(source, keys.pop())
        for pending in list(self._pending.values()):
            self._clear(pending)
        return None

    def give_up(self) -> None:
        """Treat everything pending as our fault, so that it is tried again."""
        self._ours += [number for number, pending in self._pending.items() if not pending.retried]
        self._pending.clear()

    def _known(self, relay: str, provider: str) -> list[_Source]:
        found = (self._sources.get(("relay", relay)), self._sources.get(("provider", provider)))
        return [source for source in found if source is not None]

    def _source(self, kind: str, name: str, relay: str) -> _Source:
        source = self._sources.get((kind, name))
        if source is None:
            source = self._sources[kind, name] = _Source(f"{kind} {name}", relay)
        return source

    def _pass(self, source: _Source) -> None:
        for pending in source.passed():
            pending.watched_by -= 1
            if not pending.watched_by:
                self._clear(pending)
        if source.counts.total() == 0 and not source.pending and not source.tripped:
            del self._sources["relay" if source.relay else "provider", source.name.partition(" ")[2]]

    def _clear(self, pending: _Pending) -> None:
        pending.decided = True
        if self._pending.pop(pending.refusal.subscriber_id, None) is not None and not pending.retried:
            self._cleared.append(pending.refusal)

    def _trip(self, source: _Source, key: str) -> Trip:
        source.tripped.add(key)
        number = source.counts[key]
        example = ""
        for _, pending in source.pending:
            if pending.key == key:
                verdict = pending.refusal.verdict
                example = " ".join(filter(None, (str(verdict.code or ""), verdict.enhanced, verdict.text)))
                pending.decided = True
                if self._pending.pop(pending.refusal.subscriber_id, None) is not None:
                    self._ours.append(pending.refusal.subscriber_id)
        return Trip(
            source.relay,
            f"{source.name} refused {number} of the last {len(source.answers)} messages with one reply,"
            f" so it is treated as our fault and nobody was suppressed: {example}",
        )
