"""One relay: how to reach it, whether it works, and its share of the mail."""

from __future__ import annotations

import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailer.config import Relay, Security
from mailer.errors import RelayDownError
from mailer.smtp.dial import client_context
from mailer.smtp.limits import Pace

_FIRST_RETRY_SECONDS: Final = 0.25
_LAST_RETRY_SECONDS: Final = 60.0
STALLED_SECONDS: Final = 5.0
"""A relay that settled nothing for so long is not waited for by the others."""
_LEAD: Final = 4
"""Messages per connection that a relay may be ahead of its share, so that none runs dry."""


@dataclass(frozen=True, slots=True)
class Access:
    """A relay and what its section cannot hold: the password, and a TLS context of the caller's."""

    relay: Relay
    password: str = ""
    tls: ssl.SSLContext | None = None


class Line:
    """The state of one relay during a run. Times are seconds on one clock that never goes back."""

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.access = access
        self.relay = access.relay
        self._tls = access.tls
        self.pace = Pace(access.relay.rate_per_second)
        self.sessions = 0
        self.opening = 0
        self.taken = 0.0
        self.failures = 0
        self.retry_at = -math.inf
        self.down_since = math.inf
        self.worked = False
        self.progress_at = -math.inf
        self.error: RelayDownError | None = None

    def tls(self) -> ssl.SSLContext | None:
        """Return the context for its connections, made once: reading the system's certificates is slow."""
        if self._tls is None and self.relay.security is not Security.PLAIN:
            self._tls = client_context(verify=self.relay.verify_certificate)
        return self._tls

    @property
    def up(self) -> bool:
        """Whether the last attempt to use it succeeded, or none was made yet."""
        return self.failures == 0

    @property
    def share(self) -> float:
        """What it has taken, in units of its weight."""
        return self.taken / max(1, self.relay.weight)

    def fail(self, error: RelayDownError, now: float) -> None:
        """Note that it cannot be used; the time until the next attempt doubles up to a minute."""
        if self.up:
            self.down_since = now
        if now >= self.retry_at:
            self.failures += 1
            pause = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (self.failures - 1))
            self.retry_at = now + pause
        self.error = error

    def hopeless(self, now: float, patience_seconds: float) -> bool:
        """Whether to stop waiting for it: it never worked, or has not for longer than the patience."""
        return not self.up and (not self.worked or now - self.down_since >= patience_seconds)

    def progress(self, now: float, lines: Sequence[Line]) -> None:
        """Note that it answered for a message."""
        if self.failures or now - self.progress_at > STALLED_SECONDS:
            # Whoever comes back does not catch up on what the others did meanwhile.
            others = [line.taken / line.relay.weight for line in moving(lines, now) if line is not self]
            self.taken = max(self.taken, max(others, default=0.0) * self.relay.weight)
        self.failures, self.worked, self.progress_at, self.down_since = 0, True, now, math.inf

    def delay(self, now: float, lines: Sequence[Line]) -> float:
        """Return the seconds until it may start a message; infinity while it is another's turn."""
        if not self.up and now < self.retry_at:
            return self.retry_at - now
        if self.relay.weight == 0:
            if any(line.up for line in lines if line.relay.weight):
                return math.inf
        elif len(lines) > 1:
            least = min((line.share for line in moving(lines, now)), default=self.share)
            if self.share - least > _LEAD * self.relay.connections / self.relay.weight:
                return math.inf
        return self.pace.delay(now)

    def take(self, now: float) -> None:
        """Count a message that starts now."""
        self.taken += 1
        self.pace.take(now)


def moving(lines: Sequence[Line], now: float) -> list[Line]:
    """Return the relays with a share whose pace is theirs to choose: answering, and not held back."""
    return [
        line
        for line in lines
        if line.relay.weight
        and line.up
        and now - line.progress_at <= STALLED_SECONDS
        and line.pace.delay(now) <= 0
    ]


def all_down(lines: Sequence[Line]) -> RelayDownError:
    """Return the error that says why none of the relays can be used."""
    reasons = "; ".join(str(line.error.message) for line in lines if line.error is not None)
    return RelayDownError(
        f"no relay can be used: {reasons}",
        remedy="what was not sent stays queued; run the command again later",
    )
