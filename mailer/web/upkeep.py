"""The periodic work of `mailer serve` and `mailer worker`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mailer.errors import MailerError

_DAY_SECONDS: Final = 86_400.0
_log = logging.getLogger(__name__)


@contextmanager
def daily(work: Callable[[], object], *, every_seconds: float = _DAY_SECONDS) -> Iterator[None]:
    """Do `work` in a thread, immediately and then once a day, while the block runs.

    A failure is logged and does not stop the pages; the work is tried again the next day.
    """
    stopped = threading.Event()

    def run() -> None:
        while True:
            try:
                work()
            except MailerError as error:
                _log.error("%s", error)
            except Exception:
                # Whatever it was, the next time may go well.
                _log.exception("periodic work failed")
            if stopped.wait(every_seconds):
                return

    thread = threading.Thread(target=run, name="mailer-upkeep")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
