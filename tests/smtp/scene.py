"""A pool that has not begun, with one worker and a clock that stands still."""

from __future__ import annotations

from typing import Any

import msgspec

from mailer.config import ProviderLimits, Relay
from mailer.smtp.pool import Access, Item, Network, Pool
from mailer.smtp.session import SmtpSession, Timeouts
from mailer.smtp.worker import Worker
from tests.smtp.test_pool import Queue, queue

QUICK = Timeouts(greeting=20, quit=1)


class Scene:
    """A pool that has not begun, with one worker and a clock that stands still."""

    def __init__(
        self,
        *,
        work: Queue | None = None,
        access: Access | None = None,
        providers: dict[str, ProviderLimits] | None = None,
        window: int = 8,
        shared: bool = False,
        **settings: Any,
    ) -> None:
        self.seconds = 1000.0
        self.sending = True
        self.reached: list[tuple[str, float]] = []
        self.work = work or queue(0)
        access = access or Access(Relay(host="127.0.0.1", port=25))
        access = Access(
            msgspec.structs.replace(access.relay, **({"connections": 2} | settings)),
            access.password,
            access.tls,
        )
        self.pool = Pool(
            Network({"main": access}, providers or {}, client_name="here.example", timeouts=QUICK),
            take=self.work.take,
            compose=self.work.compose,
            record=self.work.record,
            window=window,
            now=lambda: self.seconds,
            may_send=lambda: self.sending,
            shared=shared,
            connected=lambda relay, seconds: self.reached.append((relay, seconds)),
        )
        self.relay = self.pool.relays[0]
        self.worker = Worker(self.pool, self.relay)

    def wait(self, *domains: str) -> None:
        """Let a message to each domain wait, their keys from 1."""
        self.work.domains.update(enumerate(domains, 1))
        self.work.claimed.update(self.work.domains)
        self.pool._add([Item(key, domain) for key, domain in enumerate(domains, 1)])

    def waiting(self, domain: str) -> list[int]:
        """Return the keys of the messages that wait for a domain."""
        return [item.key for item in self.pool.lanes.lane(domain).waiting]

    def counts(self) -> tuple[int, int, int, int]:
        """Return how many connections are opening in all and at the relay, used, and closing."""
        return self.pool.opening, self.relay.opening, self.relay.sessions, self.relay.closing

    @property
    def session(self) -> SmtpSession | None:
        """The session of the worker."""
        return self.worker._session
