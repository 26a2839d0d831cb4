"""A machine that sends a queued issue: a thread of the test, or a process that may be stopped or killed.

Its times are short, so that tests do not wait for half a minute.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from mailer.config import DeliverySettings, ProviderLimits, Relay, Security
from mailer.database.engine import Database
from mailer.delivery import issues
from mailer.delivery.clock import DEAD_SECONDS, SILENT_SECONDS, Clock
from mailer.delivery.ending import Ended
from mailer.delivery.sender import Hooks, Sender
from mailer.errors import LockedError, MailerError, TakenOverError, UnavailableError
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import EDITION, learn_nothing, make_composer

WINDOW = 20
CONNECTIONS = 4
SOON = (0.5, 1.5)
"""Silent and dead seconds of a machine that is to be taken over."""
HEIR = (SILENT_SECONDS, SOON[1])
"""Those of the machine that takes over."""
Policy = Literal["resend", "hold"]


def send(
    url: str,
    port: int,
    policy: Policy = "resend",
    *,
    rate: float = 100.0,
    connections: int = CONNECTIONS,
    provider_rate: float = 0.0,
    window: int = WINDOW,
    patience_seconds: float = 60.0,
    times: tuple[float, float] = (SILENT_SECONDS, DEAD_SECONDS),
    before_loop: Callable[[], object] = lambda: None,
) -> Ended:
    """Send the issue of the scene over the SMTP server at a port of this machine."""
    relay = Relay(
        host="127.0.0.1", port=port, security=Security.PLAIN, connections=connections, rate_per_second=rate
    )
    settings = DeliverySettings(
        window=window, uncertain=policy, database_patience=timedelta(seconds=patience_seconds)
    )
    clock = Clock(jitter=lambda: 1.0, settle_seconds=0.05, silent_seconds=times[0], dead_seconds=times[1])
    with Database(url) as database:
        with database.reading() as connection:
            issue = issues.named(connection, EDITION.slug)
        composer = make_composer(issue.id)

        provider = ProviderLimits(domains=("example.org",), rate_per_second=provider_rate)

        async def main() -> Ended:
            providers = {"example": provider} if provider_rate else {}
            network = Network({"recorder": Access(relay)}, providers)
            hooks = Hooks(learn_nothing)
            return await Sender(database, issue.id, composer, network, settings, hooks, clock).run()

        before_loop()
        return asyncio.run(main())


class Machine(threading.Thread):
    """Sends in a thread. One that is refused, or finds no database, tries again until `stop`."""

    def __init__(
        self,
        url: str,
        port: int,
        policy: Policy = "resend",
        *,
        provider_rate: float = 0.0,
        window: int = WINDOW,
        patience_seconds: float = 60.0,
        times: tuple[float, float] = (SILENT_SECONDS, DEAD_SECONDS),
    ) -> None:
        super().__init__()
        self._window = window
        self.before_loop: Callable[[], object] = lambda: None
        self._provider_rate = provider_rate
        self._times = times
        self._url, self._port, self._policy, self._patience_seconds = url, port, policy, patience_seconds
        self._stopped = threading.Event()
        self.insists = False
        self.refused = 0
        self.ended: Ended | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Send; keep how it ended."""
        while True:
            try:
                self.ended = send(
                    self._url,
                    self._port,
                    self._policy,
                    provider_rate=self._provider_rate,
                    window=self._window,
                    before_loop=self.before_loop,
                    patience_seconds=self._patience_seconds,
                    times=self._times,
                )
                return
            except TakenOverError as error:
                self.error = error
                return
            except (LockedError, UnavailableError) as error:
                self.refused += 1
                if not self.insists or self._stopped.wait(0.1):
                    self.error = error
                    return
            except BaseException as error:
                self.error = error
                return

    def wait(self) -> None:
        """Wait for its end."""
        self.join(120)
        assert not self.is_alive()


if __name__ == "__main__":
    _, url, port, policy, *limits = sys.argv
    rate, connections = (float(limits[0]), int(limits[1])) if limits else (30.0, CONNECTIONS)
    try:
        ended = send(
            url,
            int(port),
            "hold" if policy == "hold" else "resend",
            rate=rate,
            connections=connections,
            window=100 if limits else WINDOW,
            times=(SILENT_SECONDS, DEAD_SECONDS) if limits else SOON,
        )
        print(json.dumps({"ending": ended.ending.value}))
    except MailerError as error:
        print(json.dumps({"error": type(error).__name__}))
