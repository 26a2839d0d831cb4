"""Clients that send half a request and wait: none of them keeps a connection for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mailer.web.server import _Protocol
from mailer.web.shield import Shield

SECONDS = 0.5
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


class Impatient(_Protocol):
    head_seconds = SECONDS


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(f"{len(body)}")(scope, receive, send)


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A server that waits for half a second."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = Shield(_with_errors, body_seconds=SECONDS)
    config = uvicorn.Config(app, http=Impatient, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join()
    listener.close()


async def _with_errors(scope: Scope, receive: Receive, send: Send) -> None:
    from starlette.middleware.exceptions import ExceptionMiddleware

    await ExceptionMiddleware(echo)(scope, receive, send)


def answer(address: tuple[str, int], *pieces: bytes, every: float = 0.0) -> tuple[bytes, float]:
    """Send pieces with pauses; return what came back until the server closed, and the seconds it took."""
    begun = time.monotonic()
    received = b""
    with socket.create_connection(address, timeout=10) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(every)
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(4096):
                received += chunk
    return received, time.monotonic() - begun


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"POST / HT"], id="half a request line"),
        pytest.param([HEAD + b"X: y"], id="half a header"),
        pytest.param([b"G", *[b"x"] * 30], id="a byte now and then"),
    ],
)
def test_half_a_head_ends_the_connection(address: tuple[str, int], pieces: list[bytes]) -> None:
    received, seconds = answer(address, *pieces, every=0.1 if len(pieces) > 2 else 0)
    assert b"200" not in received
    assert SECONDS * 0.8 < seconds < SECONDS * 0.8 + 5


def test_half_a_second_request_ends_the_connection(address: tuple[str, int]) -> None:
    first = HEAD + b"Content-Length: 2\r\n\r\nhi"
    received, seconds = answer(address, first, HEAD)
    assert received.count(b"200 OK") == 1
    assert seconds < SECONDS + 4


@pytest.mark.parametrize("drip", [0, 30])
def test_half_a_body_is_answered_408_and_ends_the_connection(address: tuple[str, int], drip: int) -> None:
    head = HEAD + b"Content-Length: 1000\r\n\r\n"
    received, seconds = answer(address, head, *[b"x"] * drip, every=0.05 if drip else 0)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert seconds < SECONDS + 4


def test_slow_but_whole_requests_are_answered(address: tuple[str, int]) -> None:
    whole = HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\nhi"
    received, _ = answer(address, whole[:10], whole[10:], b"hi", every=SECONDS / 4)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"4")
