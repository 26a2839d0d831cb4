"""An event loop that skips waits: when nothing is left to do, its clock jumps to the next timer.

Sockets and threads are real. Sleeps, retry delays and timeouts pass instantly, so a rehearsal goes through
hours of retries in seconds and still measures how long they would take.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar, TypeVarTuple

_SHORT_SECONDS: Final = 1.0
_GRACE_SHORT: Final = 0.0002
_GRACE_LONG: Final = 0.005
"""Real seconds to wait for sockets before skipping. A long wait may be a timeout, which must not fire while
octets are still on their way through the kernel."""
_MOST_GRACES: Final = 40

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Selector(selectors.DefaultSelector):
    """Selects ready sockets; calls `skip` instead of waiting when nothing becomes ready."""

    skip: Callable[[float], bool]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Implement `selectors.BaseSelector.select`."""
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None:
            ready = super().select(min(timeout, _GRACE_SHORT)) if timeout < _SHORT_SECONDS else self._linger()
            if ready or self.skip(timeout):
                return ready
        waited: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        return waited

    def _linger(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for sockets before a long skip.

        A wait that ends late shows that the machine is busy, and then the kernel may be late as well.
        """
        for _ in range(_MOST_GRACES):
            began = time.monotonic()
            ready: list[tuple[selectors.SelectorKey, int]] = super().select(_GRACE_LONG)
            if ready or time.monotonic() - began < 2 * _GRACE_LONG:
                return ready
        return []


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` includes the skipped waits."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._threads = 0
        selector = _Selector()
        selector.skip = self._skip
        super().__init__(selector)

    def time(self) -> float:
        """Return the loop's clock in seconds."""
        return super().time() + self._skipped

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; no time is skipped while it runs."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Join the threads; from Python 3.12 on this has a time-out, and it is not skipped either."""
        self._threads += 1
        try:
            if sys.version_info >= (3, 12):
                await super().shutdown_default_executor(timeout)
            else:
                await super().shutdown_default_executor()
        finally:
            self._threads -= 1

    def _thread_ended(self, future: asyncio.Future[T]) -> None:
        self._threads -= 1

    def _skip(self, seconds: float) -> bool:
        if self._threads:
            return False
        self._skipped += seconds
        return True
