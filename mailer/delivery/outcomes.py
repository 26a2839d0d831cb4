"""Act on the replies to a run's messages: record them, slow down for providers, set relays aside, or pause.

The breaker sees each refusal before it counts against a subscriber: one that nearly everybody gets is our
own fault. The relay that it came from is then set aside; if it was the last, the issue is paused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from mailer.config import DeliverySettings, ProviderLimits
from mailer.database.tables import DeliveryState
from mailer.delivery import queue
from mailer.delivery.bookkeeping import RunBooks
from mailer.delivery.breaker import Breaker, Trip
from mailer.delivery.clock import Clock
from mailer.delivery.judging import accepted, decide
from mailer.delivery.latencies import Latencies
from mailer.delivery.queue import Claimed, Settled
from mailer.errors import RelayError
from mailer.replies import Refusal, ReplyClass, Verdict
from mailer.smtp.pool import Pool, RelayState
from mailer.smtp.session import Attempt, Fate

_REPUTATION_HOLD_SECONDS: Final = 3600.0
"""How long a provider that blocks our address or domain is left alone when it does not say."""


class Outcomes:
    """Records the attempts of one run. `pause` ends the run, with the reason why its issue is paused."""

    def __init__(
        self,
        issue_id: int,
        settings: DeliverySettings,
        clock: Clock,
        books: RunBooks,
        pool: Pool,
        latencies: Latencies,
        *,
        providers: Mapping[str, ProviderLimits],
        pause: Callable[[str], None],
    ) -> None:
        self._issue_id = issue_id
        self._settings = settings
        self._clock = clock
        self._books = books
        self._pool = pool
        self._latencies = latencies
        self._pause = pause
        self._provider_of = {
            domain: name for name, provider in providers.items() for domain in provider.domains
        }
        self._breaker = Breaker()
        self.faults: dict[str, str] = {}
        """Why relays were set aside, by name."""

    @property
    def pending(self) -> int:
        """How many refusals are undecided."""
        return self._breaker.pending

    def begin(self) -> None:
        """Begin, once the books know what earlier runs of the issue sent."""
        self._breaker = Breaker(
            delivered_before=self._books.books.sent > 0, trusting=self._books.refusals_accepted
        )

    def record(self, attempt: Attempt, relay: RelayState | None) -> None:
        """Record an attempt, and what it means for the relay, the provider and the run."""
        claimed = self._books.window.end(attempt.key)
        if relay is None or attempt.fate is Fate.UNSENT:
            self._books.unwritten.unsent.append(attempt.key)
            return
        if attempt.fate is Fate.ACCEPTED:
            self._record_accepted(attempt, claimed, relay)
            return
        decision = decide(
            attempt,
            claimed,
            self._settings,
            at=self._clock.now(),
            server=relay.identity if attempt.fate is Fate.REFUSED else "",
            spread=self._clock.jitter(),
        )
        settled, verdict = decision.settled, decision.verdict
        self._latencies.settled(attempt, claimed.domain, relay.name, verdict)
        if decision.our_fault:
            self._books.unwritten.ours.append(attempt.key)
            self.blame(relay, decision.our_fault)
        elif verdict is not None:
            self.heed_provider(verdict, claimed.domain)
            if verdict.code is not None and verdict.code >= 500:
                settled = self._refused(settled, verdict, claimed, relay)
        self._books.unwritten.outcomes.append(settled)

    def heed_provider(self, verdict: Verdict, domain: str) -> None:
        """Slow down or stop for a provider whose reply demands it."""
        match verdict.reply_class:
            case ReplyClass.RATE:
                # X.2.Z is about the recipient's mailbox (RFC 3463 section 3.3): only that delivery waits.
                if verdict.enhanced[1:4] != ".2.":
                    self._pool.slow_down(domain, verdict.retry_after_seconds)
            case ReplyClass.REPUTATION:
                self._pool.hold(domain, verdict.retry_after_seconds or _REPUTATION_HOLD_SECONDS)
            case _:
                # The other classes say nothing about the provider's limits.
                return

    def blame(self, relay: RelayState | None, reason: str) -> None:
        """Set a relay aside because of our own fault; pause if none is left, or if `relay` is None."""
        if relay is not None and relay.set_aside:
            return
        if relay is not None and self._pool.set_aside(relay, RelayError(reason)):
            self.faults[relay.name] = reason
            return
        faults = [f"{name}: {fault}" for name, fault in self.faults.items()]
        self._pause("; ".join([*faults, reason]))

    def collect(self) -> None:
        """Give the books what the breaker has decided since the last call."""
        self._books.unwritten.cleared += self._breaker.take_cleared()
        self._books.unwritten.ours += self._breaker.take_ours()

    def tripped(self) -> bool:
        """Decide about all pending refusals; return whether they were our own fault, and heed that."""
        trip = self._breaker.finish()
        if trip is not None:
            self._heed_trip(trip)
        return trip is not None

    def close(self, *, judging: bool) -> str:
        """Give the books the last of the refusals; return why the issue must pause, or nothing.

        A run that was cut short cannot tell whose fault they are. Without `judging`, they are tried again.
        """
        trip = self._breaker.finish() if judging else None
        self._breaker.give_up()
        self.collect()
        return "" if trip is None else trip.reason

    def _record_accepted(self, attempt: Attempt, claimed: Claimed, relay: RelayState) -> None:
        self._books.unwritten.outcomes.append(accepted(attempt.key, attempt.reply))
        self._latencies.settled(attempt, claimed.domain, relay.name, None)
        if (queued_at := self._books.queued_at) is not None:
            seconds = (self._clock.now() - queued_at).total_seconds()
            self._latencies.accepted(claimed.domain, "issue", seconds)
        self._breaker.accepted(relay.name, self._provider(claimed.domain))

    def _refused(self, settled: Settled, verdict: Verdict, claimed: Claimed, relay: RelayState) -> Settled:
        """Show a refusal to the breaker; until it is cleared, a delivery that failed is only deferred."""
        recipient, failed = claimed.recipient, settled.state is DeliveryState.FAILED
        trip = self._breaker.refused(
            Refusal(self._issue_id, recipient.subscriber_id, verdict),
            recipient.email,
            relay=relay.name,
            provider=self._provider(claimed.domain),
            retried=not failed,
        )
        if trip is not None:
            self._heed_trip(trip)
        if not failed:
            return settled
        return replace(settled, state=DeliveryState.DEFERRED, due_at=queue.PENDING_UNTIL)

    def _provider(self, domain: str) -> str:
        return self._provider_of.get(domain, domain)

    def _heed_trip(self, trip: Trip) -> None:
        """Let another relay take over from the one that tripped the breaker, or pause."""
        relay = next((relay for relay in self._pool.relays if relay.name == trip.relay), None)
        self.blame(relay, trip.reason)
