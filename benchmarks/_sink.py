"""The receiving side of the benchmarks that send: Postfix's smtp-sink, or a server that only counts."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator


@contextlib.contextmanager
def sink(reply_seconds: int = 0) -> Iterator[int]:
    """Yield the port at which smtp-sink takes what comes, each message after so many seconds.

    It stays on the last core, as if it were another machine. Left to itself, Linux often moves it to the
    core of the sender, and the rate of all senders jumps between one half and the whole.
    """
    delay = ["-w", str(reply_seconds)] if reply_seconds else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    running = subprocess.Popen([program("smtp-sink"), *user, *delay, f"127.0.0.1:{port}", "1000"])
    try:
        _pin(running.pid)
        time.sleep(0.5)
        yield port
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def counting_sink(expected: int) -> Iterator[int]:
    """Yield the port of a server that only counts, on the last core as well.

    In the end so many messages must have come.
    """
    command = [sys.executable, "-m", "benchmarks._counting"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            _pin(running.pid)
            yield int(running.stdout.readline())
        finally:
            running.terminate()
        if (came := int(running.stdout.readline())) != expected:
            raise SystemExit(f"{came:,} messages came, not {expected:,}")


def _pin(pid: int) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})


def program(name: str) -> str:
    """Return the path of a program of Postfix's."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing; it comes with Postfix (make servers)")
    return found
