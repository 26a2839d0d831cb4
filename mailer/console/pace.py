"""How often an open page looks at the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """Looks are `least_seconds` apart, or `rest` times as long as the last one took if that is longer.

    So however many deliveries a look counts, its page takes at most one part in `rest` of the database's
    time from the sender. `ticks` counts seconds.
    """

    def __init__(
        self, least_seconds: float, rest: float, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._least_seconds = least_seconds
        self._rest = rest
        self._ticks = ticks
        self._due_at = 0.0
        self.seconds = least_seconds
        """From the beginning of the last look to the next one."""

    @property
    def due(self) -> bool:
        """Whether it is time for the next look."""
        return self._ticks() >= self._due_at

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Measure a look in the block, also one that fails."""
        began = self._ticks()
        try:
            yield
        finally:
            self.seconds = max(self._least_seconds, self._rest * (self._ticks() - began))
            self._due_at = began + self.seconds
