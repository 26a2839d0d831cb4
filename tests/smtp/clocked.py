"""An event loop whose clock is the tests': waiting takes no time."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_ON_THE_WAY_SECONDS = 0.002
"""How long, on the machine's clock, data may take from one socket of a test to another."""


class _Selector(selectors.DefaultSelector):
    """Jumps to the next timer instead of waiting for it."""

    clock = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(_ON_THE_WAY_SECONDS)
        if not found:
            self.clock += timeout
        return found


class ClockedLoop(asyncio.SelectorEventLoop):
    """A loop that begins at second 1000 and goes on to its next timer when no socket has anything to say."""

    def __init__(self) -> None:
        self._clocked = _Selector()
        super().__init__(self._clocked)

    def time(self) -> float:
        """Return the seconds on the clock of this loop."""
        return self._clocked.clock

    def advance(self, seconds: float) -> None:
        """Let time pass while the process does something else."""
        self._clocked.clock += seconds

    def timers(self) -> int:
        """Return how many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """Return the address that is the name, without a thread."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]


def clock() -> ClockedLoop:
    """Return the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockedLoop)
    return loop


def run_clocked(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, run on a `ClockedLoop`."""
    with asyncio.Runner(loop_factory=ClockedLoop) as runner:
        return runner.run(work)
