"""Watch mailboxes, each in its own thread, so that IDLE works for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Final

from mailer.bounces.boxes.fetch import Box, Tally
from mailer.bounces.boxes.imap import Imap
from mailer.errors import MailboxError

OpenBox = Callable[[], AbstractContextManager[Box]]
_STOP_SECONDS: Final = 10.0
_Results = SimpleQueue[Tally | Exception]
_Passes = Generator[Tally, None, None]


def watch(boxes: Sequence[OpenBox], read: Callable[[Box], Tally], *, seconds: float) -> _Passes:
    """Yield the results of each pass over a mailbox, forever.

    Between passes, IMAP servers with IDLE (RFC 2177) report new mail; other mailboxes are read again after
    `seconds`. A mailbox that cannot be reached is a failure in the tally. Any other error in a thread is
    raised here.
    """
    results: _Results = SimpleQueue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_watch_one, args=(open_box, read, seconds, stop, results), daemon=True)
        for open_box in boxes
    ]
    for thread in threads:
        thread.start()
    try:
        while True:
            result = results.get()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join(_STOP_SECONDS)


def _watch_one(
    open_box: OpenBox, read: Callable[[Box], Tally], seconds: float, stop: threading.Event, results: _Results
) -> None:
    while not stop.is_set():
        idled = False
        try:
            with open_box() as box:
                results.put(read(box))
                if isinstance(box, Imap) and box.can_wait():
                    box.wait(seconds, stop.is_set)
                    idled = True
        except MailboxError as error:
            results.put(Tally(failures=[str(error)]))
        except Exception as error:
            results.put(error)
            return
        if not idled:
            stop.wait(seconds)
