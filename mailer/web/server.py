"""Serving an application on a port until the process is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from mailer.errors import ConfigError

_GRACE_SECONDS: Final = 10
_BACKLOG: Final = 2048


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
    """Serve until SIGTERM or Ctrl-C; requests that are being answered get ten seconds to end.

    `proxies` are the addresses and networks whose X-Forwarded-For is believed.
    `ready` gets the URL once connections are taken. `stopping` is called by the signal, before answers
    are waited for: it ends those that would go on for ever. Errors go to standard error. Requests are not
    logged: their addresses hold tokens. Raises `ConfigError` when the address cannot be listened on.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # uvicorn raises the signal again once it has stopped; being told to stop is no failure of ours.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        _Server(config, stopping).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket: from here on connections wait instead of being refused."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            remedy="stop the other program there, or choose another with --port",
        ) from error
