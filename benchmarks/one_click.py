"""One-click unsubscribes a second, each committed before its answer, while an issue is being sent.

The peer is the least that a Python web server can do: Starlette on uvicorn answering the same POST
with nothing. Both run as a process of their own beside the same `mailer send`, and are asked by wrk over
the same number of connections, in turn; the best of several rounds counts. Every subscriber leaves
once; afterwards all who were answered have left, and none was mailed later than a message that was on
the wire already.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from sqlalchemy import func, insert, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks import Figure
from benchmarks._sink import sink
from benchmarks._wrk import Load, load
from benchmarks.send import newsletter
from mailer.config import Settings, Tracking
from mailer.database.engine import Database
from mailer.database.tables import Consent, Delivery, DeliveryState, Subscriber, SubscriberStatus
from mailer.tokens import Signer, Subject
from mailer.web.app import create_app

_BAR = 0.3
_BODY = "List-Unsubscribe=One-Click"
_BACKLOG = 128
_READY = {"ours": "/healthz", "empty": "/ready"}
# Nobody is asked twice in a round: that would be less work than leaving.
_MOST_A_SECOND = 8_000
# A message that was on the wire when its reader left is settled within a moment.
_ON_THE_WIRE = timedelta(seconds=5)
_AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
SIGNER = Signer([b"a secret for this benchmark only"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many unsubscribe in a round, how many rounds there are, and how many are being mailed."""
    parser.add_argument("--one-click-seconds", type=int, default=5, help="seconds a round (5)")
    parser.add_argument("--one-click-rounds", type=int, default=3, help="rounds, the best counts (3)")
    parser.add_argument(
        "--one-click-audience", type=int, default=200_000, help="audience of the issue that is sent; 0: none"
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the one-clicks a second, their 99th percentile and errors, and who was mailed after leaving."""
    seconds, rounds, audience = (
        options.one_click_seconds,
        options.one_click_rounds,
        options.one_click_audience,
    )
    posts = _MOST_A_SECOND * seconds
    leaving = posts * rounds
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory())) / "news"
        if audience:
            newsletter(folder, opened.enter_context(sink()))
        folder.mkdir(exist_ok=True)
        database = subscribers(folder, audience + leaving)
        opened.callback(database.engine.dispose)
        # The last to be mailed leave: the run has not reached them.
        paths = [f"/u/{SIGNER.link(Subject(1, audience + one))}" for one in range(1, leaving + 1)]
        ours, peer = [], []
        with (
            served("ours", str(folder)) as port,
            served("empty", str(folder)) as peer_port,
            _sending(folder) if audience else ExitStack(),
        ):
            for first in range(0, leaving, posts):
                peer.append(load(peer_port, paths[first : first + posts], body=_BODY, seconds=seconds))
                ours.append(load(port, paths[first : first + posts], body=_BODY, seconds=seconds))
        if max(one.requests for one in ours) > posts:
            raise RuntimeError("more answers than there were people: raise _MOST_A_SECOND")
        left, mailed = _outcome(database, audience)
    if left < sum(one.requests - one.errors for one in ours):
        raise RuntimeError(f"{left} were unsubscribed of {sum(one.requests for one in ours)} answered")
    yield from _figures(ours, peer, "while sending" if audience else "alone")
    if audience:
        yield Figure("one_click", "mailed after they had left", mailed, bar="== 0", holds=mailed == 0)


def _figures(ours: list[Load], peer: list[Load], how: str) -> Iterator[Figure]:
    best, other = max(one.per_second for one in ours), max(one.per_second for one in peer)
    errors = sum(one.errors for one in ours)
    yield Figure(
        "one_click", f"one-click unsubscribes, committed, {how}", best, other, best / other, f">= {_BAR}",
        best / other >= _BAR, "a second",
    )  # fmt: skip
    yield Figure("one_click", "99th percentile", max(one.p99_milliseconds for one in ours), unit="ms")
    yield Figure("one_click", "errors", errors, bar="== 0", holds=errors == 0)


def _outcome(database: Database, audience: int) -> tuple[int, int]:
    """Return how many left, and how many of them were mailed after that."""
    with database.reading() as connection:
        left = connection.scalar(
            select(func.count()).where(Subscriber.c.status == SubscriberStatus.UNSUBSCRIBED.value)
        )
        rows = connection.execute(
            select(Consent.c.at, Delivery.c.changed_at)
            .join(Delivery, Delivery.c.subscriber_id == Consent.c.subscriber_id)
            .where(Consent.c.way == "one-click", Delivery.c.state == DeliveryState.SENT.value)
        )
        mailed = sum(1 for at, settled in rows if settled is not None and settled > at + _ON_THE_WIRE)
        sent = (
            connection.scalar(select(func.count()).where(Delivery.c.state == DeliveryState.SENT.value)) or 0
        )
    if audience and not 0 < sent < audience:
        raise RuntimeError(f"{sent:,} were sent: the run did not go on all the while; change the audience")
    return left or 0, mailed


@contextmanager
def _sending(folder: Path) -> Iterator[None]:
    """Send the issue beside what happens in the block; begin once the first messages are out."""
    command = [sys.executable, "-m", "mailer", "send", "1", "--yes", "--quiet", "-C", str(folder)]
    running = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )
    database = Database("sqlite:///subscribers.db", folder=folder)
    try:
        while running.poll() is None:
            with database.reading() as connection:
                if connection.scalar(
                    select(Delivery.c.issue_id).where(Delivery.c.state == DeliveryState.SENT).limit(1)
                ):
                    break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"mailer send ended with {running.returncode}")
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()
        database.close()


def subscribers(folder: Path, count: int) -> Database:
    """Return a database with so many active subscribers, numbered from 1."""
    database = Database("sqlite:///subscribers.db", folder=folder)
    database.open()
    rows = [
        {
            "id": number,
            "address": f"reader{number}@example.net",
            "address_key": f"reader{number}@example.net",
            "domain": "example.net",
            "status": SubscriberStatus.ACTIVE.value,
            "created_at": _AT,
            "changed_at": _AT,
        }
        for number in range(1, count + 1)
    ]
    with database.transaction() as connection:
        connection.execute(insert(Subscriber), rows)
    return database


@contextmanager
def served(kind: str, folder: str) -> Iterator[int]:
    """Serve `ours` or the `empty` one in a process of its own; yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        port: int = listener.getsockname()[1]
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(kind, folder, listener))
        process.start()
    try:
        # The answer comes once all has been imported.
        urllib.request.urlopen(f"http://127.0.0.1:{port}{_READY[kind]}", timeout=60)
        yield port
    finally:
        process.terminate()
        process.join()


def _serve(kind: str, folder: str, listener: socket.socket) -> None:
    config = uvicorn.Config(_app(kind, folder), log_level="error", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


def _app(kind: str, folder: str) -> ASGIApp:
    if kind == "empty":

        async def nothing(request: Request) -> Response:
            return Response()

        return Starlette(
            routes=[
                Route(_READY["empty"], nothing),
                Route("/u/{token}", nothing, methods=["POST"]),
                Route("/c/{token}/{place:int}", nothing, methods=["GET"]),
            ]
        )
    settings = Settings(tracking=Tracking(clicks=True, opens=True))
    return create_app(Database("sqlite:///subscribers.db", folder=Path(folder)), SIGNER, settings)
