"""Trying again while the database cannot be used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from mailer.errors import UnavailableError

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_HURRIED_SECONDS: Final = 5.0
"""How long to keep trying once somebody waits for the end."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Patience:
    """Repeats steps that fail because the database server is away, with growing pauses.

    `call` blocks, so run it in a thread. `hurry` may be called from any other.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hurried = threading.Event()

    def hurry(self) -> None:
        """Give up soon: within five seconds from the first failure."""
        self._seconds = min(self._seconds, _HURRIED_SECONDS)
        self._hurried.set()

    def call(self, step: Callable[[], T], *, failed: Callable[[], None] = lambda: None) -> T:
        """Return what `step` returns; repeat it while it raises `UnavailableError`.

        Calls `failed` after each failure. Raises the last `UnavailableError` when patience is exhausted.
        """
        began, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            try:
                return step()
            except UnavailableError as error:
                failed()
                if pause == _FIRST_PAUSE_SECONDS:
                    _log.warning("nothing is sent until the database answers: %s", error.message)
                left = began + self._seconds - time.monotonic()
                if left <= 0:
                    raise
                self._rest(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        if self._hurried.is_set():
            time.sleep(min(seconds, 0.5))
        else:
            self._hurried.wait(seconds)
