"""Ports for servers that tests start."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom
from typing import Final

# Systems give ports above these to outgoing connections, which would take them before a server begins to
# listen.
_BELOW_CONNECTIONS: Final = range(20_000, 32_000)


def free_port() -> int:
    """Return a port on which nothing listens."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return several ports on which nothing listens."""
    found: set[int] = set()
    while len(found) < count:
        # Hypothesis seeds the other generators, so that all workers would draw the same ports.
        port = SystemRandom().choice(_BELOW_CONNECTIONS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)
