"""The console: its first page over a large list, many open pages, and what watching costs the sender."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
import websockets
from playwright.sync_api import sync_playwright
from sqlalchemy import text

from benchmarks import Figure
from benchmarks._sink import sink
from benchmarks.people import database_of
from benchmarks.send import newsletter
from benchmarks.stats import COPY, ISSUES, fill
from mailer.config import load
from mailer.database.engine import Database
from mailer.delivery import editions, enqueueing
from mailer.reports.rollups import refresh
from mailer.review.chromium import find_chromium

_AGENT: Final = "benchmark"
_OPEN: Final = 20
_LOOKS: Final = 7
_OPENING_SECONDS: Final = 20
_ISSUE: Final = "/issues/001-bench"
_READY: Final = "window.socket && window.did_handshake"
_SENT: Final = ' sent\\"'
"""What is in each change of the progress bar, whose label is `N of M sent`."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CLIENT_ID: Final = re.compile(r"/_nicegui/client/([0-9a-f-]{36})|['\"]client_id['\"]: ?['\"]([0-9a-f-]{36})")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the size of the list and the time."""
    parser.add_argument("--console-people", type=int, default=1_000_000, metavar="N", help="for 'console'")
    parser.add_argument(
        "--console-seconds", type=float, default=30, metavar="S", help="how long 'console' watches a send"
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the seconds to the first page, the memory of open pages, and the cost of a live page."""
    with tempfile.TemporaryDirectory() as scratch, sink() as port:
        folder = newsletter(Path(scratch) / "news", port, signed=False)
        with database_of(folder, options.console_people) as database:
            _prepare(folder, database, options.console_people)
        with _console(folder) as console:
            yield _bar("home, seconds to interactive", _seconds_to_home(console), 1.0, "s")
            yield _bar(f"{_OPEN} open pages, memory", asyncio.run(_memory(console)) / 2**20, 300, "MB")
            cost, interval = asyncio.run(_watched(console, options.console_seconds))
            yield _bar("a live page, of the sender's processor time", 100 * cost, 2, "%")
            yield _bar("a live page, seconds between two changes", interval, 1, "s")


def _prepare(folder: Path, database: Database, people: int) -> None:
    """Give the list a history, and queue an issue for everyone."""
    fill(database, people)
    refresh(database, at=datetime.now(UTC), segments={}, quiet_days=30)
    with database.transaction() as connection:
        connection.execute(text(COPY), {"issues": ISSUES})
    settings, path = load(folder / "config.toml"), folder / "issues" / "001-bench.md"
    enqueueing.enqueue(settings, database, editions.build(settings, path), path, "", at=datetime.now(UTC))


def _bar(name: str, found: float, most: float, unit: str) -> Figure:
    return Figure("console", name, found, bar=f"<= {most:g}", holds=found <= most, unit=unit)


@dataclass(frozen=True, slots=True)
class _Console:
    folder: Path
    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link(self) -> str:
        """Return a link that logs in."""
        command = [*_mailer(self.folder, "console"), "--link", "--port", str(self.port)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _mailer(folder: Path, command: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "mailer", command, *more, "-C", str(folder)]


@contextmanager
def _console(folder: Path) -> Iterator[_Console]:
    """Start a console without a worker."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = _mailer(folder, "console", "--no-worker", "--port", str(port))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        try:
            yield _Console(folder, running.pid, port)
        finally:
            running.terminate()


def _seconds_to_home(console: _Console) -> float:
    """Return the median time until the home page answers to clicks, with its scripts in the cache."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_context(user_agent=_AGENT).new_page()
        page.goto(console.link())
        page.wait_for_function(_READY)
        taken = []
        for _ in range(_LOOKS):
            began = time.monotonic()
            page.goto(console.url)
            page.wait_for_function(_READY)
            taken.append(time.monotonic() - began)
        browser.close()
    return statistics.median(taken)


async def _memory(console: _Console) -> int:
    """Return the octets that the console holds with many pages open."""
    async with _logged_in(console) as client, AsyncExitStack() as stack:
        paths = ["/", _ISSUE, "/issues", "/subscribers", "/bounces"]
        for number in range(_OPEN):
            await stack.enter_async_context(_opened(client, console, paths[number % len(paths)]))
        await asyncio.sleep(5)
        status = Path(f"/proc/{console.pid}/status").read_text(encoding="ascii")  # noqa: ASYNC240 - not a disk
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def _watched(console: _Console, seconds: float) -> tuple[float, float]:
    """Return the processor time of the console with a live page, as a share of the sender's, and the seconds
    between two changes of the page."""
    command = _mailer(console.folder, "send", "1", "--yes", "--json")
    sender = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    async with _logged_in(console) as client, _opened(client, console, _ISSUE) as changes:
        # A page that opens counts once: the deliveries by provider, and the statistics.
        await asyncio.sleep(_OPENING_SECONDS)
        before = _processor(console.pid), _processor(sender.pid), len(changes)
        await asyncio.sleep(seconds)
        ours, theirs = _processor(console.pid) - before[0], _processor(sender.pid) - before[1]
        interval = seconds / max(1, len(changes) - before[2])
    sender.kill()
    await sender.wait()
    return ours / theirs, interval


@asynccontextmanager
async def _logged_in(console: _Console) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=console.url, headers={"user-agent": _AGENT}, timeout=60) as client:
        (await client.get(console.link())).raise_for_status()
        yield client


@asynccontextmanager
async def _opened(client: httpx.AsyncClient, console: _Console, path: str) -> AsyncIterator[list[str]]:
    """Open a page as a browser does: its HTML, then its websocket, which answers pings; give its changes."""
    answer = await client.get(path)
    answer.raise_for_status()
    found = _CLIENT_ID.search(answer.text)
    assert found is not None
    query = {
        "EIO": 4,
        "transport": "websocket",
        "client_id": found[1] or found[2],
        "document_id": "d",
        "tab_id": "t",
        "next_message_id": 0,
        "implicit_handshake": "true",
    }
    headers = {"user-agent": _AGENT, "origin": console.url, "cookie": _cookies(client)}
    address = f"ws://127.0.0.1:{console.port}/_nicegui_ws/socket.io/?{urlencode(query)}"
    async with websockets.connect(
        address, additional_headers=headers, user_agent_header=None, max_size=None
    ) as connection:
        await connection.recv()
        await connection.send("40")

        changes: list[str] = []

        async def listen() -> None:
            async for message in connection:
                if message == "2":
                    await connection.send("3")
                elif isinstance(message, str) and _SENT in message:
                    changes.append(message)

        listening = asyncio.create_task(listen())
        yield changes
        listening.cancel()


def _cookies(client: httpx.AsyncClient) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _processor(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    fields: Sequence[str] = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
