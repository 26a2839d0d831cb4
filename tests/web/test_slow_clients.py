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
# Sent in 30 seconds, unless the server closes.
DRIPS = 600
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
    config = uvicorn.Config(
        app, http=Impatient, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=1
    )
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


def answer(address: tuple[str, int], *pieces: bytes, every: float = 0.0) -> tuple[bytes, int, float]:
    """Send pieces with pauses until the server closes.

    Return what it sent, how many pieces it let us send, and the seconds until it closed.
    """
    begun = time.monotonic()
    received, sent = b"", 0
    with socket.create_connection(address, timeout=60) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.sendall(piece)
                sent += 1
                time.sleep(every)
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(4096):
                received += chunk
    return received, sent, time.monotonic() - begun


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"POST / HT"], id="half a request line"),
        pytest.param([HEAD + b"X: y"], id="half a header"),
    ],
)
def test_half_a_head_ends_the_connection(address: tuple[str, int], pieces: list[bytes]) -> None:
    received, _, seconds = answer(address, *pieces)
    assert b"200" not in received
    assert seconds > SECONDS * 0.8


def test_head_that_drips_ends_the_connection(address: tuple[str, int]) -> None:
    received, sent, _ = answer(address, b"G", *[b"x"] * DRIPS, every=0.05)
    assert b"200" not in received
    assert sent < DRIPS


def test_half_a_second_request_ends_the_connection(address: tuple[str, int]) -> None:
    first = HEAD + b"Content-Length: 2\r\n\r\nhi"
    received, _, _ = answer(address, first, HEAD)
    assert received.count(b"200 OK") == 1


def test_half_a_body_is_answered_408_and_ends_the_connection(address: tuple[str, int]) -> None:
    received, _, _ = answer(address, HEAD + b"Content-Length: 1000\r\n\r\nhi")
    assert received.startswith(b"HTTP/1.1 408 ")


def test_body_that_drips_is_answered_408_and_ends_the_connection(address: tuple[str, int]) -> None:
    received, sent, _ = answer(address, HEAD + b"Content-Length: 1000\r\n\r\n", *[b"x"] * DRIPS, every=0.05)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert sent < DRIPS


def test_slow_but_whole_requests_are_answered(address: tuple[str, int]) -> None:
    whole = HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\nhi"
    received, _, _ = answer(address, whole[:10], whole[10:], b"hi", every=SECONDS / 4)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"4")
