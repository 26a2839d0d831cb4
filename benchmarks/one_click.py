"""One-click unsubscribes a second over HTTP, each committed before its answer, against an empty endpoint.

The peer is the least that a Python web server can do: Starlette on uvicorn answering the same POST
with nothing. Both run as a process of their own and are asked over the same number of connections,
in turn; the best of several rounds counts. Every subscriber leaves once, and all are counted after.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from sqlalchemy import func, insert, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks import Figure
from mailer.config import Brand, Newsletter, Tracking
from mailer.database.models import Subscriber, SubscriberStatus
from mailer.database.session import Database
from mailer.tokens import Signer, Subject
from mailer.web.public import create_app

_BAR = 0.3
_BODY = b"List-Unsubscribe=One-Click"
_CONNECTIONS = 64
_SIGNER = Signer([b"a secret for this benchmark only"])
_AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many unsubscribe in a round, and how many rounds there are."""
    parser.add_argument("--one-click-posts", type=int, default=3000, help="posts a round (3000)")
    parser.add_argument("--one-click-rounds", type=int, default=3, help="rounds, the best counts (3)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the one-clicks a second."""
    posts, rounds = options.one_click_posts, options.one_click_rounds
    with tempfile.TemporaryDirectory() as name:
        database = _subscribers(Path(name), posts * rounds)
        tokens = [_SIGNER.link(Subject(1, number)) for number in range(1, posts * rounds + 1)]
        with _served("ours", name) as port, _served("empty", name) as peer_port:
            ours, peer = [], []
            for first in range(0, posts * rounds, posts):
                asked = tokens[first : first + posts]
                peer.append(asyncio.run(_rate(peer_port, asked)))
                ours.append(asyncio.run(_rate(port, asked)))
        with database.reading() as session:
            left = session.scalar(
                select(func.count()).where(Subscriber.status == SubscriberStatus.UNSUBSCRIBED)
            )
        database.engine.dispose()
    if left != posts * rounds:
        raise RuntimeError(f"{left} of {posts * rounds} were unsubscribed")
    ratio = max(ours) / max(peer)
    yield Figure(
        "one_click", "one-click unsubscribes, committed", max(ours), max(peer), ratio, f">= {_BAR}",
        ratio >= _BAR, "a second",
    )  # fmt: skip


def _subscribers(folder: Path, count: int) -> Database:
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
    with database.transaction() as session:
        session.execute(insert(Subscriber), rows)
    return database


@contextmanager
def _served(kind: str, folder: str) -> Iterator[int]:
    """Serve one of the two in a process of its own; yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * _CONNECTIONS) as listener:
        port: int = listener.getsockname()[1]
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(kind, folder, listener))
        process.start()
    try:
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

        return Starlette(routes=[Route("/u/{token}", nothing, methods=["POST"])])
    return create_app(
        Database("sqlite:///subscribers.db", folder=Path(folder)),
        _SIGNER,
        newsletter=Newsletter(),
        brand=Brand(),
        public_url="http://127.0.0.1",
        tracking=Tracking(),
        send_confirmation=lambda recipient: None,
    )


async def _rate(port: int, tokens: list[str]) -> float:
    """Return the answered posts a second; any answer but 200 is an error."""
    waiting = iter(tokens)

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for token in waiting:
            writer.write(
                b"POST /u/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%b"
                % (token.encode(), len(_BODY), _BODY)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(head.decode("latin-1"))
            length = int(head.partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(_CONNECTIONS)))
    return len(tokens) / (time.perf_counter() - began)
