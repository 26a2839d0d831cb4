"""Connections to relays, each taking messages as fast as its server does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from mailer.config import Relay, password
from mailer.delivery.smtp import End, Outcome, Outgoing, Session
from mailer.errors import RelayError

_IDLE_SECONDS = 5.0
_TRIES_TO_CONNECT = 3


class Transport:
    """All connections of a run."""

    def __init__(self, relays: Mapping[str, Relay], *, folder: Path) -> None:
        self._relays = relays
        self._folder = folder
        self._work = asyncio.Event()
        self._over = False
        self._failures: dict[str, RelayError] = {}

    def work(self) -> None:
        """Hear that the source has something again."""
        self._work.set()

    def stop(self) -> None:
        """Finish what was taken, take nothing more, and let `run` return."""
        self._over = True
        self._work.set()

    async def run(self, source: Callable[[], Outgoing | None], settle: Callable[[Outcome], None]) -> None:
        """Send what `source` gives until `stop`; raise `RelayError` when no relay can be used."""
        secrets = {name: password(relay, self._folder) or "" for name, relay in self._relays.items()}
        async with asyncio.TaskGroup() as group:
            for name, relay in self._relays.items():
                for _ in range(relay.connections):
                    group.create_task(self._connection(name, relay, secrets[name], source, settle))
        if self._failures and len(self._failures) == len(self._relays):
            raise next(iter(self._failures.values()))

    async def _connection(
        self,
        name: str,
        relay: Relay,
        secret: str,
        source: Callable[[], Outgoing | None],
        settle: Callable[[Outcome], None],
    ) -> None:
        failures = 0
        while await self._something_to_do():
            if name in self._failures:
                return
            try:
                session = await Session.open(relay, password=secret)
            except RelayError as error:
                failures += 1
                if failures >= _TRIES_TO_CONNECT or error.exit_code != RelayError.exit_code:
                    self._failures[name] = error
                    self.stop()
                    return
                await asyncio.sleep(0.2 * failures)
                continue
            failures = 0
            with contextlib.suppress(TimeoutError):
                while await session.run(source, settle) is End.DRAINED:
                    self._work.clear()
                    if not await asyncio.wait_for(self._something_to_do(), _IDLE_SECONDS):
                        break
            await session.close()

    async def _something_to_do(self) -> bool:
        await self._work.wait()
        return not self._over
