"""Serve an application on a port until the process is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from mailer.errors import ListenError

_GRACE_SECONDS: Final = 10
_HEAD_SECONDS: Final = 15.0
_BACKLOG: Final = 2048


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes connections on which a request's head does not arrive in time.

    uvicorn limits only how long a connection stays open between requests, so a client could hold one by
    sending half a head, or nothing.
    """

    head_seconds = _HEAD_SECONDS
    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._overdue is not None:
            self._overdue.cancel()

    def _close(self) -> None:
        """Close the connection, unless a websocket has taken it over."""
        if self.transport.get_protocol() is self:
            self.transport.close()

    def _watch(self) -> None:
        """Run the timer while no request is being answered."""
        # uvicorn declares this attribute as always set.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            if self._overdue is None:
                self._overdue = self.loop.call_later(self.head_seconds, self._close)
        elif self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping()
        super().handle_exit(sig, frame)


def serve_until_stopped(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    proxies: Sequence[str] = (),
    ready: Callable[[str], None],
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in progress get ten seconds to finish.

    X-Forwarded-For is trusted from the addresses and networks in `proxies`. `ready` gets the URL once
    connections are accepted. The signal calls `stopping` first, to end responses that would never finish.
    Errors go to standard error. Requests are not logged, because their URLs contain tokens. Raises
    `ListenError` if it cannot listen on the address.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    listener = _listen(host, port)
    # uvicorn raises the signal again once it has stopped; that is not a failure here.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        ready(_url(host, listener))
        _Server(_config(app, proxies), stopping).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()


def serving(app: ASGIApp, *, host: str, port: int) -> AbstractContextManager[str]:
    """Listen, and return a context that serves in a thread and yields the URL. The caller handles signals.

    Connections wait until the context is entered. Raises `ListenError` if it cannot listen on the address.
    """
    return _serving(uvicorn.Server(_config(app)), _listen(host, port), host)


@contextmanager
def _serving(server: uvicorn.Server, listener: socket.socket, host: str) -> Iterator[str]:
    thread = threading.Thread(target=server.run, args=([listener],), name="mailer-http")
    thread.start()
    try:
        yield _url(host, listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _config(app: ASGIApp, proxies: Sequence[str] = ()) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        # The console's pages get small changes twice a second; compressing one takes longer than drawing it.
        ws_per_message_deflate=False,
    )


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; from now on connections wait instead of being refused."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenError(host, port, error) from error
