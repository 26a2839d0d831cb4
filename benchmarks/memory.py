"""The most memory that a `mailer send` takes with 1,000,000 subscribers, against that with 10,000.

The command queues the issue for everyone and sends to Postfix's smtp-sink over 20 connections, signed.
With 10,000 subscribers it runs to its end; with 1,000,000 it is ended by SIGINT after a number of
seconds, many windows later, if it has not ended by itself: the peak is the kernel's, of the whole life of
the process, from its start.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from benchmarks import Figure
from benchmarks._sink import sink
from benchmarks.people import database_of
from mailer.config.shipped import shipped
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState
from mailer.delivery.books import Books, books_of
from mailer.smtp.dkim import generate_key

_FEW = 10_000
_LIMIT_MB = 130.0
_PROJECT = Path(__file__).parents[1]
_CONFIG = """\
[newsletter]
author_address = "ana@example.org"
postal_address = "1 Example Street"
[relays.sink]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = 20
messages_per_connection = 1000000
[web]
public_url = "https://news.example.org"
[[dkim]]
domain = "example.org"
selector = "bench"
key_file = "key.pem"
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many subscribers there are, and for how long to send to them."""
    parser.add_argument("--memory-subscribers", type=int, default=1_000_000, metavar="N", help="for 'memory'")
    parser.add_argument("--memory-seconds", type=float, default=60.0, metavar="S", help="for 'memory'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the peak of both in MB, their ratio, and how much was sent meanwhile."""
    many = options.memory_subscribers
    with tempfile.TemporaryDirectory() as scratch, sink() as port:
        few_mb, few_books = _peak(Path(scratch) / "few", port, _FEW, seconds=None)
        many_mb, many_books = _peak(Path(scratch) / "many", port, many, seconds=options.memory_seconds)
    if few_books.sent != _FEW or many_books.audience != many or not many_books.balanced:
        raise AssertionError(f"the runs went wrong: {few_books}, {many_books}")
    ratio = many_mb / few_mb
    yield Figure(
        "memory",
        f"peak of a run, {many:,} against {_FEW:,}",
        many_mb,
        few_mb,
        ratio,
        "<= 1.2",
        ratio <= 1.2,
        "MB",
    )
    yield Figure(
        "memory",
        f"peak with {many:,} subscribers",
        many_mb,
        None,
        None,
        f"<= {_LIMIT_MB:g}",
        many_mb <= _LIMIT_MB,
        "MB",
    )
    yield Figure("memory", f"sent of {many:,} before it was ended", many_books.sent)


def _peak(folder: Path, port: int, number: int, *, seconds: float | None) -> tuple[float, Books]:
    """Return the most memory in MB that a run took, ended after so many seconds of sending."""
    folder.mkdir()
    for name in ("email_templates", "issues"):
        shutil.copytree(shipped(name), folder / name)
    (folder / "config.toml").write_text(_CONFIG.format(port=port), encoding="utf-8")
    (folder / "key.pem").write_bytes(generate_key("rsa"))
    (folder / "key.pem").chmod(0o600)
    database = database_of(folder, number)
    database.close()
    peak = folder / "peak"
    command = [sys.executable, "-m", "benchmarks._peak", str(peak)]
    command += ["send", "1", "--yes", "--quiet", "-C", str(folder)]
    running = subprocess.Popen(command, cwd=_PROJECT, stdout=subprocess.DEVNULL)
    if seconds is not None:
        _wait_for_first(database, running)
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)
        running.wait()
    with database.reading() as connection:
        books = books_of(connection, 1)
    database.close()
    return float(peak.read_text(encoding="ascii")), books


def _wait_for_first(database: Database, running: subprocess.Popen[bytes]) -> None:
    """Wait until the run has sent something."""
    while running.poll() is None:
        with database.reading() as connection:
            sent = (
                select(Delivery.c.subscriber_id).where(Delivery.c.state == DeliveryState.SENT.value).limit(1)
            )
            if connection.scalar(sent) is not None:
                return
        time.sleep(1)
    raise AssertionError("the run ended before it had sent anything")
