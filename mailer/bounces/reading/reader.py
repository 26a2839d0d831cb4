"""Read messages in child processes, each within a time limit.

Anyone can send us anything. Parsing should take linear time. If a message takes too long anyway, it must not
delay the others, so its child is killed and the message counts as unreadable.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Final

import msgspec

from mailer import children
from mailer.bounces.reading.report import BounceReport, ReportKind
from mailer.children import receive, send
from mailer.errors import MailerError

UNREADABLE: Final = BounceReport(ReportKind.UNREADABLE)
"""The report of a message that could not be read within its time."""
_LIMIT_SECONDS: Final = 5.0
_START_SECONDS: Final = 60.0
_MAX_CHILDREN: Final = 4
_Child = subprocess.Popen[bytes]


class ReportReader:
    """Reads messages, up to four at a time. Children are started when needed and kept."""

    def __init__(self, limit_seconds: float = _LIMIT_SECONDS) -> None:
        self._limit_seconds = limit_seconds
        self._free = threading.BoundedSemaphore(_MAX_CHILDREN)
        self._idle: list[_Child] = []
        self._owner = os.getpid()

    def read(self, raw: bytes) -> BounceReport:
        """Return the report in a message, or `UNREADABLE` if reading it takes too long or fails.

        Raises `MailerError` if no child can be started.
        """
        with self._free:
            child = self._child()
            try:
                with _killed_after(child, self._limit_seconds):
                    answer = _exchange(child, raw)
            except (EOFError, OSError):
                _end(child)
                return UNREADABLE
            self._idle.append(child)
        return msgspec.msgpack.decode(answer, type=BounceReport)

    def start(self) -> None:
        """Start a child unless one is idle. Raises `MailerError` if that is impossible."""
        with self._free:
            self._idle.append(self._child())

    def close(self) -> None:
        """End the children."""
        while self._idle:
            _end(self._idle.pop())

    def _child(self) -> _Child:
        if self._owner != os.getpid():  # After a fork the children belong to the other process.
            self._owner, self._idle = os.getpid(), []
        while True:
            try:
                child = self._idle.pop()
            except IndexError:
                return _start()
            if child.poll() is None:
                return child
            _end(child)


def _start() -> _Child:
    """Start a child and wait until it is ready. Raises `MailerError` if it cannot be started."""
    try:
        return _start_child()
    except (EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or "it ended before it was ready"
        raise MailerError(
            f"the process that reads bounces does not start: {reason}",
            remedy="check the memory and the number of processes that this machine allows",
        ) from error


def _start_child() -> _Child:
    child = children.start("mailer.bounces.reading.child", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with _killed_after(child, _START_SECONDS):
            assert child.stdout is not None
            receive(child.stdout)
    except EOFError:
        _end(child)
        raise
    return child


def _exchange(child: _Child, raw: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    send(child.stdin, raw)
    return receive(child.stdout)


@contextlib.contextmanager
def _killed_after(child: _Child, seconds: float) -> Iterator[None]:
    """Kill the child when the time is over; its pipes then end."""
    timer = threading.Timer(seconds, child.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(child: _Child) -> None:
    child.kill()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    child.wait()


_reader: Final = ReportReader()
atexit.register(_reader.close)


def start_reader() -> None:
    """Start the process that reads, so that its start is not counted as reading."""
    _reader.start()


def read_report(raw: bytes) -> BounceReport:
    """Return the report in a message, or `UNREADABLE` if reading it takes more than five seconds."""
    return _reader.read(raw)
