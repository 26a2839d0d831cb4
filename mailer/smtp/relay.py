"""One relay: how to reach it, whether it works, and how much of the mail it carries."""

from __future__ import annotations

import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailer.config import Relay, Security
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.limits import Pace
from mailer.smtp.sharing import Grant, SharedPace, Wish
from mailer.smtp.tls import client_context

_FIRST_RETRY_SECONDS: Final = 0.25
_LAST_RETRY_SECONDS: Final = 60.0
STALLED_SECONDS: Final = 5.0
"""The others stop waiting for a relay that has answered nothing for this long."""
_LEAD: Final = 4
"""How far ahead of its share a relay may be, in messages per connection, so that none runs dry."""


@dataclass(frozen=True, slots=True)
class Access:
    """A relay with its password, and the caller's own TLS context if there is one."""

    relay: Relay
    password: str = ""
    tls: ssl.SSLContext | None = None


class RelayState:
    """The state of one relay during a run. Times are seconds on the pool's monotonic clock."""

    def __init__(self, name: str, access: Access, *, shared: bool = False) -> None:
        self.name = name
        self.access = access
        self.settings = access.relay
        self._tls = access.tls
        rate = access.relay.rate_per_second
        self.pace = SharedPace(rate) if shared else Pace(rate)
        self.places = 0 if shared else access.relay.connections
        """How many connections this process may open."""
        self.sessions = 0
        self.opening = 0
        self.closing = 0
        self.taken = 0.0
        self.failures = 0
        self.retry_at = -math.inf
        self.down_since = math.inf
        self.worked = False
        self.progress_at = -math.inf
        self.error: RelayError | None = None
        self.set_aside = False
        """Whether this run no longer uses it, because it refuses our configuration."""
        self.greeted_as = ""
        """The name in the banner of its server, once it has been reached."""

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, created once because loading the system's certificates is slow."""
        if self._tls is None and self.settings.security is not Security.PLAIN:
            self._tls = client_context(verify=self.settings.verify_certificate)
        return self._tls

    @property
    def up(self) -> bool:
        """Whether it may be used: the last attempt succeeded, or none was made yet."""
        return self.failures == 0 and not self.set_aside

    @property
    def identity(self) -> str:
        """The names of its server: the host we connect to, and the name in its banner."""
        return f"{self.settings.host} {self.greeted_as}".rstrip()

    @property
    def limit(self) -> str:
        """The name of its limits, if other processes share them."""
        return f"relay {self.name}"

    @property
    def connected(self) -> int:
        """How many connections its server may count."""
        return self.sessions + self.opening + self.closing

    def wish(self, *, wanted: bool) -> Wish:
        """Return what this process wants of the relay's shared limits."""
        assert isinstance(self.pace, SharedPace)
        return Wish(
            name=self.limit,
            most_connections=self.settings.connections,
            per_second=self.settings.rate_per_second,
            connections=self.settings.connections if wanted and not self.set_aside else 0,
            connected=self.connected,
            reserved_until=self.pace.reserved_until,
        )

    def accept(self, grant: Grant) -> None:
        """Follow a grant."""
        assert isinstance(self.pace, SharedPace)
        self.pace.accept(grant, heard=True)
        self.places = grant.connections

    @property
    def share(self) -> float:
        """The messages it has taken, divided by its weight."""
        return self.taken / max(1, self.settings.weight)

    def fail(self, error: RelayDownError, now: float) -> None:
        """Note a failure; the pause before the next attempt doubles, up to a minute."""
        if self.up:
            self.down_since = now
        if now >= self.retry_at:
            self.failures += 1
            pause = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (self.failures - 1))
            self.retry_at = now + pause
        self.error = error

    def hopeless(self, now: float, patience_seconds: float) -> bool:
        """Whether to stop waiting for it: it never worked, or has been down longer than the patience."""
        return self.set_aside or (
            not self.up and (not self.worked or now - self.down_since >= patience_seconds)
        )

    def progress(self, now: float, relays: Sequence[RelayState]) -> None:
        """Note a reply to a message, which shows that the relay works."""
        if self.failures or now - self.progress_at > STALLED_SECONDS:
            # A relay that comes back does not catch up on the mail the others carried.
            others = [
                relay.taken / relay.settings.weight for relay in moving(relays, now) if relay is not self
            ]
            self.taken = max(self.taken, max(others, default=0.0) * self.settings.weight)
        self.failures, self.worked, self.progress_at, self.down_since = 0, True, now, math.inf

    def delay(self, now: float, relays: Sequence[RelayState]) -> float:
        """Return the seconds until it may start a message; infinity if that depends on other relays."""
        if self.set_aside:
            return math.inf
        if not self.up and now < self.retry_at:
            return self.retry_at - now
        if self.settings.weight == 0:
            if any(relay.up for relay in relays if relay.settings.weight):
                return math.inf
        elif len(relays) > 1:
            least = min((relay.share for relay in moving(relays, now)), default=self.share)
            if self.share - least > _LEAD * self.settings.connections / self.settings.weight:
                return math.inf
        return self.pace.delay(now)

    def take(self, now: float) -> None:
        """Count a message that starts now."""
        self.taken += 1
        self.pace.take(now)


def moving(relays: Sequence[RelayState], now: float) -> list[RelayState]:
    """Return the weighted relays that are answering and not held back by their rate limit."""
    return [
        relay
        for relay in relays
        if relay.settings.weight
        and relay.up
        and now - relay.progress_at <= STALLED_SECONDS
        and relay.pace.delay(now) <= 0
    ]


def all_down(relays: Sequence[RelayState]) -> RelayDownError:
    """Return an error that explains why no relay can be used."""
    reasons = "; ".join(str(relay.error.message) for relay in relays if relay.error is not None)
    return RelayDownError(
        f"no relay can be used: {reasons}",
        remedy="run the command again later; if the relay stays away, check it with: mailer doctor",
    )
