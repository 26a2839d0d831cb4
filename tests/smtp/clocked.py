"""An event loop whose clock stands still while there is something to do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mailer.rehearsal.fast_time import FastLoop

T = TypeVar("T")


class ClockedLoop(FastLoop):
    """A loop whose time is the sum of the waits that it skipped, so that tests know it to the second."""

    def time(self) -> float:
        """Return the seconds on the clock of this loop; it begins at 1000."""
        return 1000.0 + self._skipped

    def advance(self, seconds: float) -> None:
        """Let time pass while the process does something else."""
        self._skipped += seconds

    def timers(self) -> int:
        """Return how many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]


def clock() -> ClockedLoop:
    """Return the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockedLoop)
    return loop


def run_clocked(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, run on a `ClockedLoop`."""
    with asyncio.Runner(loop_factory=ClockedLoop) as runner:
        return runner.run(work)
