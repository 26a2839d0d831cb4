"""Workers in threads of the test, each with its own connections, as if on machines of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from mailer.cluster.chores import Chore
from mailer.cluster.daemon import Daemon, Times
from mailer.config import DeliverySettings, Newsletter, Relay, Security, Settings, Web
from mailer.database.engine import Database
from mailer.delivery.canary import Steps
from mailer.delivery.clock import now
from mailer.delivery.work import Work
from mailer.tasks import Tasks
from tests.delivery.scene import SIGNER, learn_nothing

QUICK = Times(turn_seconds=60.0, look_seconds=1, confirm_seconds=0.3, dead_seconds=6.0)


def settings(folder: Path, port: int, *, rate: float = 0.0, turns: int = 0) -> Settings:
    """Return the settings of a newsletter whose relay is a port of this machine."""
    relay = Relay(host="127.0.0.1", port=port, security=Security.PLAIN, connections=4, rate_per_second=rate)
    return Settings(
        newsletter=Newsletter(author_address="ana@example.org", postal_address="1 Example Street"),
        relays={"recorder": relay},
        delivery=DeliverySettings(window=20, turns=turns),
        web=Web(public_url="https://news.example.org"),
        folder=folder,
    )


class WorkerThread(threading.Thread):
    """A worker that runs until `close`."""

    def __init__(
        self,
        url: str,
        made: Settings,
        chores: Sequence[Chore] = (),
        *,
        name: str = "a",
        concurrency: int = 2,
        times: Times = QUICK,
        tasks: Tasks | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        super().__init__(name=f"worker-{name}")
        self._clock = clock
        self.said: list[str] = []
        self.error: BaseException | None = None
        self._ready = threading.Event()
        self._url, self._made, self._chores = url, made, chores
        self._options = (name, concurrency, times)
        self.tasks = tasks or Tasks()
        self.daemon_of_test: Daemon | None = None

    def run(self) -> None:
        """Work until `close`; keep the error that ended it."""
        name, concurrency, times = self._options
        with Database(self._url) as database:
            work = Work(
                self._made,
                database,
                SIGNER,
                learn=learn_nothing,
                steps_of=lambda run: Steps(run, lambda edition, seed: None, lambda: None, self.said.append),
                say=self.said.append,
                clock=self._clock,
            )

            async def main() -> None:
                self.daemon_of_test = Daemon(
                    work, self._chores, name=name, concurrency=concurrency, times=times, tasks=self.tasks
                )
                asyncio.get_running_loop().call_soon(self._ready.set)
                await self.daemon_of_test.run()

            try:
                asyncio.run(main())
            except BaseException as error:
                self.error = error

    def __enter__(self) -> WorkerThread:
        self.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> float:
        """Stop it, and return how many seconds that took."""
        began = time.monotonic()
        assert self.daemon_of_test is not None
        if self.is_alive():
            self.daemon_of_test.stop()
        self.join(60)
        assert not self.is_alive()
        assert self.error is None, self.said
        return time.monotonic() - began


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Return once a condition holds; fail if it never does."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
